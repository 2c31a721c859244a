import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { within } from './deadline.ts'
import { messageOf } from './errors.ts'
import { kit } from './kit.ts'
import type { AnyPlugin } from './plugin.ts'
import { assertPlugin } from './registry.ts'

/** A module that neither loads nor fails must not hold up the boot. */
const LOAD_TIMEOUT_MS = 10_000

/** An `[[external]]` entry. */
export interface ExternalFile {
  /** Absolute path of a module whose default export is a plugin or `(kit) => plugin`. */
  readonly path: string
  /** SHA-256 of the file in lower-case hex; checked before anything of it runs. */
  readonly sha256?: string | undefined
}

/** A plugin file and what came of loading it. */
export type ExternalResult =
  | { readonly file: ExternalFile; readonly plugin: AnyPlugin; readonly digest: string }
  | { readonly file: ExternalFile; readonly error: string }

/**
 * Loads the plugins named in the configuration. One that fails is reported and leaves the others
 * alone.
 */
export async function loadExternals(
  files: readonly ExternalFile[],
  taken: readonly string[],
): Promise<ExternalResult[]> {
  const names = new Set(taken)
  const results: ExternalResult[] = []
  for (const file of files) {
    try {
      const { plugin, digest } = await within(LOAD_TIMEOUT_MS, loadExternal(file), 'load')
      if (names.has(plugin.name))
        throw new Error(`a plugin named "${plugin.name}" is there already`)
      names.add(plugin.name)
      results.push({ file, plugin, digest })
    } catch (error) {
      results.push({ file, error: `Cannot load the plugin "${file.path}": ${messageOf(error)}` })
    }
  }
  return results
}

/**
 * Loads one plugin file, in the ways all runtimes and the single-file build share: `import()` of
 * an absolute file URL.
 *
 * @throws {Error} When it cannot be read, has another digest, throws while it loads, or exports no
 *   plugin of this contract version.
 */
export async function loadExternal(
  file: ExternalFile,
): Promise<{ readonly plugin: AnyPlugin; readonly digest: string }> {
  const digest = createHash('sha256')
    .update(await readFile(file.path))
    .digest('hex')
  if (file.sha256 !== undefined && file.sha256 !== digest) {
    throw new Error(`its SHA-256 is ${digest}, the configuration wants ${file.sha256}`)
  }
  // The query makes a changed file a new module, so that a reload sees it.
  const url = `${pathToFileURL(file.path).href}?sha256=${digest}`
  const loaded: { readonly default?: unknown } = await import(url)
  const exported = loaded.default
  const plugin: unknown = typeof exported === 'function' ? await exported(kit) : exported
  assertPlugin(plugin, file.path)
  return { plugin, digest }
}
