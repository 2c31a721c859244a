import { constants } from 'node:fs'
import { type FileHandle, lstat, open, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { FileTransport } from '../../../src/device/file-transport.ts'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import type { Notes } from './notes.ts'

/** The two calls by which files of the kernel are read; a `Transport` of the device layer fits. */
export interface HostReader {
  /** @throws {Error} When it cannot be read, or has more than `maxBytes`. */
  read(path: string, maxBytes: number): Promise<Uint8Array>
  /** Names in a folder. */
  list(path: string): Promise<readonly string[]>
}

export interface HostFilesOptions {
  /** Folder that stands for `/`. */
  readonly root: string
  /** Asked where the runtime may not read, as Deno below /proc and /sys; on the real root only. */
  readonly reader?: HostReader | undefined
  readonly notes: Notes
}

const MAX_TEXT_BYTES = 64 * 1024
const CHUNK_BYTES = 64 * 1024
/** What the native addon reads at most. */
const MAX_READER_BYTES = 16 * 1024 * 1024

/** Files of the kernel below a root. What cannot be read is undefined, and the reason noted. */
export class HostFiles {
  readonly root: string
  readonly #own: FileTransport
  readonly #reader: HostReader | undefined
  readonly #notes: Notes

  constructor({ root, reader, notes }: HostFilesOptions) {
    this.root = root
    this.#own = new FileTransport(root)
    this.#reader = root === '/' ? reader : undefined
    this.#notes = notes
  }

  /**
   * The text of a file.
   *
   * @param without What is missing without it, for the log; nothing is said when left out.
   */
  async text(
    path: string,
    options: { readonly maxBytes?: number; readonly without?: string } = {},
  ): Promise<string | undefined> {
    const { maxBytes = MAX_TEXT_BYTES, without } = options
    const bytes = await this.#try((files) => files.read(path, maxBytes), without)
    return bytes && new TextDecoder().decode(bytes)
  }

  /** As {@link text}, without white space around it. */
  async word(path: string): Promise<string | undefined> {
    return (await this.text(path, { maxBytes: 4096 }))?.trim()
  }

  /** Names in a folder; undefined when it cannot be read. */
  list(path: string, without?: string): Promise<readonly string[] | undefined> {
    return this.#try((files) => files.list(path), without)
  }

  /** Whether there is something of this name, be it a link to nothing; false when nobody can tell. */
  async exists(path: string): Promise<boolean> {
    return lstat(join(this.root, path)).then(
      () => true,
      () => false,
    )
  }

  /** Where a path leads to, below the root again; undefined when that is nowhere. */
  async target(path: string): Promise<string | undefined> {
    try {
      const [root, real] = await Promise.all([realpath(this.root), realpath(join(this.root, path))])
      if (root === '/') return real
      return real.startsWith(`${root}/`) ? real.slice(root.length) : undefined
    } catch {
      return undefined
    }
  }

  /**
   * Hands over the lines of a file of any size, without holding more than some of them.
   *
   * @param maxBytes Lines beyond these are left out.
   * @param each False ends it.
   * @returns Whether the file could be read.
   */
  async eachLine(
    path: string,
    maxBytes: number,
    each: (line: string) => boolean | undefined,
    without?: string,
  ): Promise<boolean> {
    let file: FileHandle
    try {
      file = await open(join(this.root, path), constants.O_RDONLY)
    } catch (error) {
      const limit = Math.min(maxBytes, MAX_READER_BYTES)
      const bytes = await this.#reader?.read(path, limit).catch(() => undefined)
      if (!bytes) this.#note(without, error)
      else new LineSplitter(each).push(bytes, true)
      return bytes !== undefined
    }
    try {
      await readLines(file, maxBytes, new LineSplitter(each))
      return true
    } catch (error) {
      this.#note(without, error)
      return false
    } finally {
      await file.close()
    }
  }

  async #try<T>(
    look: (files: HostReader) => Promise<T>,
    without: string | undefined,
  ): Promise<T | undefined> {
    try {
      return await look(this.#own)
    } catch (error) {
      const other = this.#reader && errnoOf(error) === 'EPERM' ? this.#reader : undefined
      const second = other && (await look(other).catch(() => undefined))
      if (second === undefined) this.#note(without, error)
      return second
    }
  }

  #note(without: string | undefined, error: unknown): void {
    if (without !== undefined) this.#notes.once(without, `${without}: ${messageOf(error)}`)
  }
}

async function readLines(file: FileHandle, maxBytes: number, lines: LineSplitter): Promise<void> {
  const chunk = new Uint8Array(CHUNK_BYTES)
  for (let left = maxBytes; left > 0; ) {
    const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, left), null)
    left -= bytesRead
    if (!lines.push(chunk.subarray(0, bytesRead), bytesRead === 0)) return
    if (bytesRead === 0) return
  }
}

/** Longest line that is put together from several chunks; the kernel's have some 150 bytes. */
const MAX_LINE = 4096

class LineSplitter {
  readonly #each: (line: string) => boolean | undefined
  #rest = ''

  constructor(each: (line: string) => boolean | undefined) {
    this.#each = each
  }

  /** @returns Whether more is wanted. */
  push(bytes: Uint8Array, last: boolean): boolean {
    const lines = (this.#rest + LATIN1.decode(bytes)).split('\n')
    this.#rest = lines.pop()?.slice(0, MAX_LINE) ?? ''
    if (last) lines.push(this.#rest)
    return lines.every((line) => this.#each(line) !== false)
  }
}

/** These files are ASCII, and a byte that is none spoils nothing but its own place. */
const LATIN1 = new TextDecoder('latin1')
