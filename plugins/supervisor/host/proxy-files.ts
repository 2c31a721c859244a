import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../../src/errors.ts'
import { removeLeftOvers, syncDirectory, writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../src/files/make-folder.ts'
import { readTextFile } from '../../../src/files/text-file.ts'

const MAX_BYTES = 512 * 1024

/** The two files of the proxy, `redsocks.conf` and `no_proxy`, in one folder (spec §20.3). */
export class ProxyFiles {
  readonly #folder: string
  readonly #mode: number

  /** @param mode Permission bits of a file that is new; one that is there keeps its own. */
  constructor(folder: string, mode: number) {
    this.#folder = folder
    this.#mode = mode
  }

  /** Removes what a crash left. @throws {Error} The system error. */
  async clean(): Promise<void> {
    try {
      await removeLeftOvers(join(this.#folder, 'redsocks.conf'))
      await removeLeftOvers(join(this.#folder, 'no_proxy'))
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
    }
  }

  /** Undefined where there is no file. @throws {Error} When it cannot be read. */
  async read(name: 'redsocks.conf' | 'no_proxy'): Promise<string | undefined> {
    try {
      return await readTextFile(join(this.#folder, name), MAX_BYTES)
    } catch (error) {
      if (errnoOf((error as Error).cause) === 'ENOENT') return undefined
      throw error
    }
  }

  /** Replaces a file; undefined removes it. @throws {Error} The system error. */
  async write(name: 'redsocks.conf' | 'no_proxy', text: string | undefined): Promise<void> {
    const path = join(this.#folder, name)
    if (text === undefined) {
      await rm(path, { force: true })
      await syncDirectory(this.#folder)
      return
    }
    makeFolder(this.#folder, 0o755)
    const mode = await stat(path).then(
      (found) => found.mode & 0o777,
      () => this.#mode,
    )
    await writeFileAtomic(path, text, mode)
  }
}

/** The addresses in `no_proxy`, one a line. */
export function parseNoProxy(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}

/** The file for these addresses, without a final line feed; undefined for none. */
export function renderNoProxy(addresses: readonly string[]): string | undefined {
  return addresses.length === 0 ? undefined : addresses.join('\n')
}
