import { lstat, stat } from 'node:fs/promises'
import type { EventLog } from '../../src/events/log.ts'
import type { EventSink } from '../../src/events/sink.ts'
import {
  type EarlyFileOptions,
  earlyPath,
  forgetNote,
  replaceByFifo,
  takeIn,
} from './early-file.ts'
import { type FifoReader, readFifo } from './fifo-reader.ts'
import type { Journal } from './journal.ts'
import { LineFramer } from './line-framer.ts'
import { makeFifo, notAPipe } from './make-fifo.ts'

export interface FifoOptions {
  readonly path: string
  /** Permission bits of a FIFO that is made. */
  readonly mode: number
  readonly maxLineBytes: number
  readonly log: EventLog
  /** For what happens to the FIFO itself. */
  readonly events: EventSink
  readonly journal?: Journal | undefined
  readonly stateDir: string
  /** How often the path is checked; default 2000. */
  readonly checkMs?: number
}

/**
 * The named pipe services write events to, one per line (spec system-api §7). It is made when
 * missing, taken as it is when there, and watched: a FIFO that is deleted or replaced while the
 * daemon runs is made or opened again.
 */
export class Fifo {
  readonly #options: FifoOptions
  readonly #framer: LineFramer
  #reader: FifoReader | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #checking: Promise<void> | undefined
  #stopped = false
  #problem = ''
  /** The early file whose lines are in the log but could not be removed yet. */
  #kept = ''

  constructor(options: FifoOptions) {
    const { log, maxLineBytes } = options
    this.#options = options
    this.#framer = new LineFramer(maxLineBytes, (message, raw) => {
      log.append('fifo', message, raw && { raw })
    })
  }

  /** Lines recorded since the start. */
  get lines(): number {
    return this.#framer.lines
  }

  /** Lines that were longer than the limit. */
  get cut(): number {
    return this.#framer.cut
  }

  /**
   * Makes or takes over the path and begins to read.
   *
   * @throws {Error} `file PATH is not a named pipe`, or why it cannot be made.
   */
  async start(): Promise<void> {
    await this.#prepare()
    this.#open()
    this.#later()
  }

  /** Records what is in the pipe, then stops reading; the FIFO stays. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#checking
    this.#reader?.close()
    this.#reader = undefined
  }

  /** Sees to it that the path is a FIFO; tells how it became one. */
  async #prepare(): Promise<'found' | 'made' | 'replaced'> {
    const { path, mode } = this.#options
    await this.#takeIn()
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (found?.isFIFO()) return 'found'
    if (!found) {
      await makeFifo(path, mode)
      return 'made'
    }
    if (!found.isFile()) throw notAPipe(path)
    await replaceByFifo(path, mode)
    await this.#takeIn()
    return 'replaced'
  }

  async #takeIn(): Promise<void> {
    const { path, log, journal, maxLineBytes, stateDir, events } = this.#options
    const early = await lstat(earlyPath(path)).catch(() => undefined)
    if (!early) return journal && forgetNote(stateDir)
    // A crash came before the FIFO was in place: that is the next step, not this one.
    const current = await lstat(path).catch(() => undefined)
    if (current?.ino === early.ino && current.dev === early.dev) return
    const identity = `${early.dev}:${early.ino}`
    if (identity === this.#kept) return
    this.#kept = identity
    const options: EarlyFileOptions = { log, journal, maxLineBytes, stateDir }
    try {
      const taken = await takeIn(path, options)
      this.#kept = ''
      if (taken && taken.skipped > 0) {
        const message = `left out the first ${taken.skipped} bytes of the file found at ${path}`
        events.append(message, { level: 'warn' })
      }
    } catch (error) {
      if (this.#reader === undefined && (error as Error).name !== 'ApiError') throw error
      events.append(`cannot remove ${earlyPath(path)}: ${(error as Error).message}`, {
        level: 'error',
      })
    }
  }

  #open(): void {
    const { path, journal } = this.#options
    this.#reader = readFifo(path, {
      data: (chunk) => {
        this.#framer.push(chunk)
        return journal?.pressure()
      },
      end: () => this.#framer.end(),
    })
  }

  #later(): void {
    this.#timer = setTimeout(() => {
      this.#checking = this.#check().finally(() => {
        this.#checking = undefined
        if (!this.#stopped) this.#later()
      })
    }, this.#options.checkMs ?? 2000)
    this.#timer.unref?.()
  }

  /** Notices that the path no longer leads to the FIFO that is read. */
  async #check(): Promise<void> {
    const { path, events } = this.#options
    try {
      const found = await stat(path).catch(() => undefined)
      if (found?.isFIFO() && `${found.dev}:${found.ino}` === this.#reader?.identity) return
      const how = await this.#prepare()
      if (this.#stopped) return
      const old = this.#reader
      this.#open()
      old?.close()
      this.#problem = ''
      const was = found ? 'had been replaced' : 'was missing'
      const now = how === 'found' ? 'opened' : 'made'
      events.append(`event FIFO ${path} ${was} and was ${now} again`, { level: 'warn' })
    } catch (error) {
      const problem = (error as Error).message
      if (problem === this.#problem) return
      this.#problem = problem
      events.append(`event FIFO ${path} cannot be used: ${problem}`, { level: 'error' })
    }
  }
}
