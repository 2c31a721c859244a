import { type FileHandle, open, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ApiError } from '../../src/errors.ts'
import { GENESIS } from '../../src/events/chain.ts'
import type { EventLog } from '../../src/events/log.ts'
import type { Event } from '../../src/events/sink.ts'
import { syncDirectory } from '../../src/files/atomic-file.ts'
import {
  headerLine,
  moveAside,
  type Replay,
  recordLine,
  replay,
  segmentName,
} from './journal-files.ts'

/** Most bytes of one write, so that a waiting appender is answered soon. */
const MAX_WRITE = 1024 * 1024

/** Above this many waiting bytes, writers that can be held back are. */
const BUSY_BYTES = 4 * 1024 * 1024

/** Above this many waiting bytes, events are no longer queued: the disk has failed for long. */
const MAX_WAITING = 32 * 1024 * 1024

export interface JournalOptions {
  /** Folder of the journal; exists. */
  readonly dir: string
  /** Bytes of one segment. */
  readonly maxBytes: number
  /** Segments kept. */
  readonly files: number
  /** Default 1000. */
  readonly retryMs?: number
  /** Called when writing starts to fail. */
  failed(cause: Error): void
  /** Called when it works again; `lost` events were not written. */
  recovered(lost: number): void
}

/** An event on its way to the disk. */
interface Entry {
  readonly seq: number
  readonly line: Buffer
  /** Hash before it. */
  readonly previous: string
  /** Events right before it that are not in the journal: a new segment begins with it. */
  readonly lost: number
}

interface Waiter {
  readonly seq: number
  resolve(): void
  reject(error: ApiError): void
}

/**
 * The log on disk: JSON lines in segments, each event with its hash. Events that arrive while a
 * write is on its way share the next one (group commit): one write, one fdatasync.
 *
 * While the disk fails, events wait in memory and writing is tried again; after 32 MiB they are no
 * longer queued, and the segment that follows says how many are missing.
 */
export class Journal {
  readonly #options: JournalOptions
  #log: EventLog | undefined
  #queue: Entry[] = []
  #queuedBytes = 0
  #durable = 0
  #resumedAt = 1
  #waiters: Waiter[] = []
  #running: Promise<void> | undefined
  #failure: Error | undefined
  #lost = 0
  #lostInAll = 0
  #head = GENESIS
  #closing = false
  #wake: (() => void) | undefined
  #file: FileHandle | undefined
  #segments: string[] = []
  #size = 0

  constructor(options: JournalOptions) {
    this.#options = options
  }

  /** Sequence number of the first event that was not in the journal when it was opened. */
  get resumedAt(): number {
    return this.#resumedAt
  }

  /** Events that never reached the disk. */
  get lost(): number {
    return this.#lostInAll
  }

  /** Events waiting to be written. */
  get waiting(): number {
    return this.#queue.length
  }

  /**
   * Replays the journal into the log, ahead of what was appended since boot, and follows it from
   * then on.
   *
   * @throws {Error} The system error when the journal cannot be read or repaired.
   */
  async open(log: EventLog): Promise<Replay> {
    const { dir } = this.#options
    let found = await replay(dir, Math.max(0, log.limits.maxEntries) + 256)
    let from = found.next
    this.#head = found.head
    if (!log.settle(found) && (from > log.next || log.hash(from - 1) !== found.head)) {
      // The log was readable before, with numbers of its own: this journal is another run's.
      from = log.first === 1 ? 1 : Math.min(log.first + 1, log.next)
      this.#head = from === 1 ? GENESIS : (log.hash(from - 1) ?? log.head)
      const names = found.segments.map((path) => basename(path))
      if (names.length > 0) found = await moveAside(dir, names, from, 'it is of another run')
    }
    this.#segments = [...found.segments]
    this.#size = found.size
    this.#durable = from - 1
    this.#resumedAt = from
    this.#log = log
    for (const event of log.after(from - 1)) this.#add(event, log.hash(event.seq) as string)
    log.tap((event, hash) => this.#add(event, hash))
    return found
  }

  /**
   * Resolves when an event is on disk.
   *
   * @throws {ApiError} 507 `EVENT_NOT_DURABLE` when it cannot be written now.
   */
  async durable(seq: number): Promise<void> {
    if (seq <= this.#durable) return
    if (this.#failure) throw notDurable(this.#failure)
    await new Promise<void>((resolve, reject) => this.#waiters.push({ seq, resolve, reject }))
  }

  /** A promise to wait for before appending more, or undefined when there is no need. */
  pressure(): Promise<void> | undefined {
    if (this.#queuedBytes < BUSY_BYTES || this.#failure) return undefined
    const last = this.#queue[this.#queue.length - 1] as Entry
    return this.durable(last.seq).catch(() => undefined)
  }

  /** Writes what is waiting, once, and lets go of the log and the files. */
  async close(): Promise<void> {
    this.#log?.tap(undefined)
    this.#closing = true
    this.#wake?.()
    await this.#running
    const file = this.#file
    this.#file = undefined
    await file?.close()
    this.#failure ??= new Error('it is closed')
    for (const { reject } of this.#waiters.splice(0)) reject(notDurable(this.#failure))
  }

  #add(event: Event, hash: string): void {
    const { seq } = event
    if (this.#queuedBytes > MAX_WAITING && this.#failure) {
      this.#lost++
      this.#lostInAll++
      this.#head = hash
      return
    }
    const line = Buffer.from(recordLine(event, hash))
    const entry = { seq, line, previous: this.#head, lost: this.#lost }
    this.#lost = 0
    this.#head = hash
    this.#queue.push(entry)
    this.#queuedBytes += line.length
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    // Everything appended in this turn of the event loop goes into the first write.
    await new Promise((resolve) => setImmediate(resolve))
    while (this.#queue.length > 0) {
      try {
        await this.#commit()
      } catch (cause) {
        await this.#fail(cause as Error)
        if (this.#closing) break
        await this.#pause()
      }
    }
    this.#running = undefined
  }

  async #commit(): Promise<void> {
    const batch: Entry[] = []
    const most = Math.min(MAX_WRITE, this.#options.maxBytes)
    let bytes = 0
    for (const entry of this.#queue) {
      if (batch.length > 0 && (bytes + entry.line.length > most || entry.lost > 0)) break
      batch.push(entry)
      bytes += entry.line.length
    }
    const file = await this.#segmentFor(batch[0] as Entry, bytes)
    await writeAt(file, Buffer.concat(batch.map(({ line }) => line)), this.#size)
    await file.datasync()
    this.#size += bytes
    this.#queue.splice(0, batch.length)
    this.#queuedBytes -= bytes
    this.#durable = (batch[batch.length - 1] as Entry).seq
    this.#succeed()
  }

  /** The file the next entries belong to, made or opened if need be. */
  async #segmentFor({ seq, previous, lost }: Entry, bytes: number): Promise<FileHandle> {
    const { dir, maxBytes } = this.#options
    const current = this.#segments[this.#segments.length - 1]
    const path = join(dir, segmentName(seq))
    const fits = this.#size + bytes <= maxBytes && lost === 0
    if (current !== undefined && (fits || current === path)) {
      this.#file ??= await open(current, 'r+')
      return this.#file
    }
    const header = { journal: 1, first: seq, previous } as const
    // `w`: an attempt that failed may have left the file.
    const file = await open(path, 'w', 0o600)
    try {
      const line = Buffer.from(headerLine(lost === 0 ? header : { ...header, lost }))
      await writeAt(file, line, 0)
      await file.datasync()
      await syncDirectory(dir)
      await this.#file?.close()
      this.#size = line.length
    } catch (error) {
      await file.close()
      await rm(path, { force: true })
      throw error
    }
    this.#file = file
    this.#segments.push(path)
    while (this.#segments.length > this.#options.files) {
      await rm(this.#segments[0] as string, { force: true })
      this.#segments.shift()
    }
    return file
  }

  #succeed(): void {
    const done = this.#waiters.filter(({ seq }) => seq <= this.#durable)
    this.#waiters = this.#waiters.filter(({ seq }) => seq > this.#durable)
    for (const { resolve } of done) resolve()
    if (this.#failure === undefined) return
    this.#failure = undefined
    this.#options.recovered(this.#lostInAll)
  }

  async #fail(cause: Error): Promise<void> {
    const first = this.#failure === undefined
    this.#failure = cause
    const waiters = this.#waiters
    this.#waiters = []
    for (const { reject } of waiters) reject(notDurable(cause))
    if (first) this.#options.failed(cause)
    const file = this.#file
    this.#file = undefined
    // What was written of the batch; the next attempt writes over it, and a full disk needs room.
    await file?.truncate(this.#size).catch(() => undefined)
    await file?.close().catch(() => undefined)
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
      setTimeout(resolve, this.#options.retryMs ?? 1000).unref?.()
    })
  }
}

async function writeAt(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done)
    done += bytesWritten
  }
}

function notDurable(cause: Error): ApiError {
  return new ApiError(
    507,
    'EVENT_NOT_DURABLE',
    `Cannot write the event to the journal: ${cause.message}; it is kept in memory`,
    { cause },
  )
}
