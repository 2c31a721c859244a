import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { messageOf } from '../../../src/errors.ts'
import { readTextFile } from '../../../src/files/text-file.ts'

/** A file written this shortly ago may be written again without a change that `stat` shows. */
const YOUNG_MS = 3000

export interface FileWatchOptions {
  readonly path: string
  /** Time between two looks, in milliseconds. */
  readonly pollMs: number
  readonly maxBytes: number
  /** Takes a new text; what it throws is reported. */
  take(text: string): void
  /** Told what is wrong, once each, and undefined when it is right again. */
  report(error: unknown): void
}

/**
 * Reads a small file at the start and whenever it changed, by rename or in place. It looks once in
 * a while, which works on every file system and runtime.
 *
 * What goes wrong after the start is reported when it is the same at a second look: a writer that
 * does not rename is seen half way.
 */
export class FileWatch {
  readonly #options: FileWatchOptions
  #running = false
  #timer: ReturnType<typeof setTimeout> | undefined
  /** What runs; one at a time. */
  #work: Promise<unknown> = Promise.resolve()
  /** Of the file that was dealt with; undefined where it is to be read again. */
  #signature: string | undefined
  #digest: string | undefined
  #suspect: string | undefined
  #reported: string | undefined

  constructor(options: FileWatchOptions) {
    this.#options = options
  }

  /** Resolves when the file was read once, whether or not that worked. */
  async start(): Promise<void> {
    if (this.#running) return
    this.#running = true
    await this.between(() => this.#look(true))
    this.#schedule()
  }

  async stop(): Promise<void> {
    this.#running = false
    clearTimeout(this.#timer)
    await this.#work
  }

  /** Looks now, beside the times at which it does by itself. */
  look(): Promise<void> {
    return this.between(() => this.#look(false))
  }

  /** Does something while the file is not looked at. */
  between<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work)
    this.#work = done.catch(() => undefined)
    return done
  }

  /** The text that is in the file now was put there, and taken, by whoever calls. */
  taken(text: string): void {
    this.#digest = digestOf(text)
  }

  #schedule(): void {
    if (!this.#running) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.between(() => this.#look(false)).then(() => this.#schedule())
    }, this.#options.pollMs)
    this.#timer.unref()
  }

  async #look(first: boolean): Promise<void> {
    let signature: string | undefined
    try {
      const found = await stat(this.#options.path)
      if (!found.isFile()) throw new Error(`"${this.#options.path}" is not a file`)
      const seen = [found.dev, found.ino, found.size, found.mtimeMs, found.ctimeMs].join()
      if (seen === this.#signature) return
      // Either way round: the clock may have been set.
      if (Math.abs(Date.now() - found.mtimeMs) > YOUNG_MS) signature = seen
      await this.#read()
      this.#worked(signature)
    } catch (error) {
      this.#failed(error, signature, first)
    }
  }

  async #read(): Promise<void> {
    const text = await readTextFile(this.#options.path, this.#options.maxBytes)
    const digest = digestOf(text)
    // The same text again is no news, unless something else was wrong meanwhile.
    if (digest !== this.#digest || this.#suspect !== undefined) this.#options.take(text)
    this.#digest = digest
  }

  #worked(signature: string | undefined): void {
    this.#signature = signature
    this.#suspect = undefined
    if (this.#reported !== undefined) this.#options.report(undefined)
    this.#reported = undefined
  }

  #failed(error: unknown, signature: string | undefined, first: boolean): void {
    const message = messageOf(error)
    const certain = first || message === this.#suspect
    this.#suspect = message
    if (!certain) {
      this.#signature = undefined
      return
    }
    this.#signature = signature
    if (message !== this.#reported) this.#options.report(error)
    this.#reported = message
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
