import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { readTextFile } from '../../../src/files/text-file.ts'
import { mustRun } from './command.ts'

const MAX_BYTES = 4096

/** Where a host's name is kept, and how it is set. */
export interface HostnameOptions {
  /** `/etc/hostname`. */
  readonly file: string
  /** `/proc/sys/kernel/hostname`; undefined leaves the running name alone. */
  readonly kernelFile?: string | undefined
  /** Program and arguments that set it, the name is put last: `['hostnamectl', 'hostname']`. */
  readonly command?: readonly string[] | undefined
}

/** The machine's name: hostname(5). */
export class Hostname {
  readonly #options: HostnameOptions

  constructor(options: HostnameOptions) {
    this.#options = options
  }

  /** The stored name; empty when there is none. @throws {Error} When it cannot be read. */
  async read(): Promise<string> {
    try {
      const text = await readTextFile(this.#options.file, MAX_BYTES)
      const lines = text.split('\n').map((line) => line.trim())
      return lines.find((line) => line !== '' && !line.startsWith('#')) ?? ''
    } catch (error) {
      if (errnoOf((error as Error).cause) === 'ENOENT') return ''
      throw error
    }
  }

  /**
   * Stores a name and makes it the running one.
   *
   * @returns Why only the stored one changed; undefined when both did.
   * @throws {Error} When it cannot be stored, or the command fails.
   */
  async write(name: string): Promise<string | undefined> {
    const { file, kernelFile, command } = this.#options
    if (command) {
      await mustRun([...command, name], 'set the hostname')
      return undefined
    }
    await replace(file, `${name}\n`)
    if (kernelFile === undefined) return undefined
    try {
      await overwrite(kernelFile, name)
      return undefined
    } catch (error) {
      return `Cannot change the running hostname in "${kernelFile}": ${messageOf(error)}`
    }
  }
}

/** As a whole, but in a container, where it is a mount point, in place. */
async function replace(path: string, text: string): Promise<void> {
  const mode = await stat(path).then(
    (found) => found.mode & 0o777,
    () => 0o644,
  )
  try {
    await writeFileAtomic(path, text, mode)
  } catch (error) {
    if (errnoOf(error) !== 'EBUSY') throw error
    await overwrite(path, text)
  }
}

/** Writes to a file that must be there. */
async function overwrite(path: string, text: string): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_TRUNC)
  try {
    await file.writeFile(text)
  } finally {
    await file.close()
  }
}
