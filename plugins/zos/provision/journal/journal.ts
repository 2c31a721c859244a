import { type FileHandle, open, readFile, rename, rm, rmdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errnoOf } from '../../../../src/errors.ts'
import { syncDirectory, temporaryBeside } from '../../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import type { JournalRecord } from './records.ts'
import { writeRecord } from './wire.ts'

/**
 * The journal of one deployment: JSON lines, each on disk before its promise resolves. Nothing is held
 * open between writes, which go one after the other.
 *
 * The file and its folder are for the owner alone: records hold keys and passwords.
 */
export class Journal {
  readonly path: string
  #size: number
  #records: number
  #last: Promise<unknown> = Promise.resolve()

  private constructor(path: string, size: number, records: number) {
    this.path = path
    this.#size = size
    this.#records = records
  }

  /** One that was there, up to where it was good; see `replay.ts`. */
  static existing(path: string, size: number, records: number): Journal {
    return new Journal(path, size, records)
  }

  /**
   * A new one with its first record; there must be none at that path. It comes to be with the record
   * in it, so that an empty one is damage and not what a crash left.
   *
   * @throws {Error} The system error; nothing is left then.
   */
  static async create(path: string, first: JournalRecord): Promise<Journal> {
    const folder = dirname(path)
    makeFolder(folder, 0o700)
    const size = await writeAll(path, [first])
    try {
      await syncDirectory(folder)
      await syncDirectory(dirname(folder))
    } catch (error) {
      await rm(path, { force: true }).catch(() => undefined)
      throw error
    }
    return new Journal(path, size, 1)
  }

  /** Bytes. */
  get size(): number {
    return this.#size
  }

  get records(): number {
    return this.#records
  }

  /**
   * Adds a record.
   *
   * @throws {Error} The system error; the journal is as it was before.
   */
  append(record: JournalRecord): Promise<void> {
    return this.#alone(async () => {
      const line = encode(record)
      const file = await open(this.path, 'r+')
      try {
        await writeAt(file, line, this.#size)
        await file.datasync()
      } catch (error) {
        // What was written of it is cut at the next start, too, or written over.
        await file.truncate(this.#size).catch(() => undefined)
        throw error
      } finally {
        await file.close()
      }
      this.#size += line.length
      this.#records++
    })
  }

  /**
   * Puts other records in place of all that are there.
   *
   * @param shorten Makes them of what is acknowledged.
   * @throws {Error} The system error; the journal is as it was before.
   */
  rewrite(shorten: (bytes: Uint8Array) => readonly JournalRecord[]): Promise<void> {
    return this.#alone(async () => {
      const all = shorten((await readFile(this.path)).subarray(0, this.#size))
      this.#size = await writeAll(this.path, all)
      this.#records = all.length
      await syncDirectory(dirname(this.path))
    })
  }

  /** All that is acknowledged, as it is on disk. */
  async read(): Promise<Uint8Array> {
    // With the writes: a new file may be put in the place of this one.
    return this.#alone(async () => (await readFile(this.path)).subarray(0, this.#size))
  }

  /** Removes it, and the folder when it was the last one there. Durable when it resolves. */
  erase(): Promise<void> {
    return this.#alone(async () => {
      const folder = dirname(this.path)
      await rm(this.path, { force: true })
      await syncDirectory(folder).catch(ignoreMissing)
      await rmdir(folder).catch(() => undefined)
    })
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => undefined)
    return done
  }
}

function encode(record: JournalRecord): Uint8Array {
  return new TextEncoder().encode(writeRecord(record))
}

/** Puts records in the place of a file, at once. @returns Bytes. */
async function writeAll(path: string, records: readonly JournalRecord[]): Promise<number> {
  const temporary = temporaryBeside(path)
  let size = 0
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      for (const record of records) {
        const line = encode(record)
        await writeAt(file, line, size)
        size += line.length
      }
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw error
  }
  return size
}

async function writeAt(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done)
    done += bytesWritten
  }
}

function ignoreMissing(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error
}
