import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { within } from '../deadline.ts'
import { messageOf } from '../errors.ts'
import { kit } from '../kit.ts'
import type { AnyPlugin } from '../plugin.ts'
import { runtime } from '../runtime.ts'
import { assertPlugin } from './shape.ts'

/** A bundle with its own Hono, zod and valibot is well below 1 MiB. */
const MAX_BYTES = 32 * 1024 * 1024

/** Names the core uses for itself in the log, the event log and the state folder. */
const RESERVED = ['cvmd', 'auth']

/** An `[[external]]` entry. */
export interface ExternalFile {
  /** Absolute path of a module whose default export is a plugin or `(kit) => plugin`. */
  readonly path: string
  /** SHA-256 of the file in lower-case hex; only a file of this content runs. */
  readonly sha256?: string | undefined
}

/** A plugin file and what came of it. */
export type ExternalResult = LoadedExternal | RefusedExternal

/** A plugin file that can be used. */
export interface LoadedExternal {
  readonly file: ExternalFile
  readonly plugin: AnyPlugin
  /** SHA-256 of the file in lower-case hex. */
  readonly digest: string
}

/** A plugin file that cannot be used. */
export interface RefusedExternal {
  readonly file: ExternalFile
  /** The plugin's own name, as soon as it is known and nobody else has it. */
  readonly name?: string
  readonly error: string
}

/**
 * Loads the plugins named in the configuration, all at once. One that fails is reported and leaves
 * the others alone; of two with one name the first in the file wins.
 *
 * @param taken Names of the built-in plugins.
 * @param timeoutMs Time for one module to load.
 */
export async function loadExternals(
  files: readonly ExternalFile[],
  taken: readonly string[],
  timeoutMs: number,
): Promise<ExternalResult[]> {
  const loading = files.map(async (file): Promise<ExternalResult> => {
    try {
      return { file, ...(await within(timeoutMs, loadExternal(file), 'load')) }
    } catch (error) {
      return refused(file, messageOf(error))
    }
  })
  const names = new Set([...RESERVED, ...taken])
  return (await Promise.all(loading)).map((result) => {
    if ('error' in result) return result
    const { name } = result.plugin
    if (names.has(name)) return refused(result.file, `the name "${name}" is taken`)
    names.add(name)
    return result
  })
}

/**
 * Refuses a reload that would lose a plugin: a new version that cannot be used must not end the old
 * one. A file that could not be used before either holds up nothing.
 *
 * @throws {Error} With what is wrong with the new version.
 */
export function assertNoneLost(
  before: readonly ExternalResult[],
  after: readonly ExternalResult[],
): void {
  const running = new Set(before.flatMap((one) => ('plugin' in one ? one.file.path : [])))
  for (const result of after) {
    if ('error' in result && running.has(result.file.path)) throw new Error(result.error)
  }
}

function refused(file: ExternalFile, why: string): RefusedExternal {
  return { file, error: `Cannot load the plugin "${file.path}": ${why}` }
}

/**
 * Loads one plugin file, in the ways all runtimes and the single-file build share.
 *
 * A file with a digest is read once, and what was checked is what runs: it is imported from memory.
 * Therefore it must be complete in itself: `import.meta.url` does not name it, and a relative
 * import, which the digest would not cover, finds nothing beside it. A file without a digest is
 * imported from where it lies.
 *
 * @throws {Error} When it cannot be read, has another digest, throws while it loads, or exports no
 *   plugin of this contract version.
 */
export async function loadExternal(
  file: ExternalFile,
): Promise<{ readonly plugin: AnyPlugin; readonly digest: string }> {
  const info = await stat(file.path)
  if (!info.isFile()) throw new Error('it is not a file')
  if (info.size > MAX_BYTES) throw new Error(`it has ${info.size} bytes, more than ${MAX_BYTES}`)
  const bytes = await readFile(file.path)
  const digest = createHash('sha256').update(bytes).digest('hex')
  if (file.sha256 !== undefined && file.sha256 !== digest) {
    throw new Error(`its SHA-256 is ${digest}, the configuration wants ${file.sha256}`)
  }
  const loaded =
    file.sha256 === undefined
      ? await importModule(`${specifierOf(file.path)}?sha256=${digest}`)
      : await importBytes(bytes, file.path)
  const exported = loaded.default
  const plugin: unknown = typeof exported === 'function' ? await exported(kit) : exported
  assertPlugin(plugin)
  return { plugin, digest }
}

interface Module {
  readonly default?: unknown
}

/**
 * The query after it makes a changed file a new module, so that a reload sees it. Bun drops the
 * query of a file URL and keeps that of a path.
 */
function specifierOf(path: string): string {
  return runtime === 'bun' ? path : pathToFileURL(path).href
}

function importModule(url: string): Promise<Module> {
  return import(url)
}

/** Node imports no `blob:`; Bun and Deno show a whole `data:` URL in every line of a stack. */
async function importBytes(bytes: Uint8Array<ArrayBuffer>, path: string): Promise<Module> {
  if (runtime === 'node') {
    const named = Buffer.concat([bytes, Buffer.from(`\n//# sourceURL=${encodeURI(path)}\n`)])
    return importModule(`data:text/javascript;base64,${named.toString('base64')}`)
  }
  const type = /\.m?ts$/.test(path) ? 'text/typescript' : 'text/javascript'
  const url = URL.createObjectURL(new Blob([bytes], { type }))
  try {
    return await importModule(url)
  } finally {
    URL.revokeObjectURL(url)
  }
}
