import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { errnoOf } from '../../../src/errors.ts'
import { signalGroup } from '../../../src/process/group.ts'
import { hostEnvironment } from './command.ts'
import { HostError } from './host-error.ts'
import { journalArguments } from './journal-request.ts'

/** Journals read at a time. */
const MAX_STREAMS = 16

/** Milliseconds between TERM and KILL. */
const GRACE_MS = 2000

export interface JournalOptions {
  /** The program and what comes before its options: `['journalctl']`. */
  readonly journalctl: readonly string[]
  readonly maxStreams?: number | undefined
}

/** What journalctl prints, and its end. */
export interface JournalStream {
  /**
   * Begins with an empty chunk, which makes the head of the answer go out at once; on Bun's own
   * server only its first line does, the rest waits for output.
   */
  readonly body: ReadableStream<Uint8Array>
  /** Resolves when the process is gone. */
  readonly ended: Promise<void>
}

/** The host's journal, for `POST /v2/journal-logs` (spec §5.13). */
export class Journal {
  readonly #journalctl: readonly string[]
  readonly #maxStreams: number
  readonly #open = new Set<Child>()

  constructor({ journalctl, maxStreams = MAX_STREAMS }: JournalOptions) {
    this.#journalctl = journalctl
    this.#maxStreams = maxStreams
  }

  /** Processes running just now. */
  get running(): number {
    return this.#open.size
  }

  /**
   * Starts journalctl, which waits while nobody reads. The body ends when it does; cancelling it
   * ends the process.
   *
   * @param body Body of the request.
   * @throws {HostError} 400 for a wrong value, 429 when too many are read, 503 when the program
   *   cannot be started.
   */
  async read(body: Readonly<Record<string, unknown>>): Promise<JournalStream> {
    const argv = [...this.#journalctl, ...journalArguments(body)]
    if (this.#open.size >= this.#maxStreams) {
      const message = `Cannot read the journal: ${this.#maxStreams} others are reading it`
      throw new HostError('JOURNAL_BUSY', 429, message)
    }
    const child = new Child(argv)
    this.#open.add(child)
    child.ended.then(() => this.#open.delete(child))
    await child.started
    return { body: child.body(), ended: child.ended }
  }

  /** Ends all processes; their streams close. */
  async stop(): Promise<void> {
    const open = [...this.#open]
    for (const child of open) child.end()
    await Promise.all(open.map(({ ended }) => ended))
  }
}

class Child {
  /** Rejects when the program cannot be started. */
  readonly started: Promise<void>
  readonly ended: Promise<void>
  readonly #argv: readonly string[]
  #process: ChildProcess | undefined
  #exited = false
  #ending = false

  constructor(argv: readonly string[]) {
    this.#argv = argv
    let gone: () => void = () => undefined
    this.ended = new Promise((resolve) => {
      gone = resolve
    })
    this.started = this.#start(() => {
      this.#exited = true
      gone()
    })
  }

  body(): ReadableStream<Uint8Array> {
    const output = this.#process?.stdout as Readable
    const chunks = output[Symbol.asyncIterator]()
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => controller.enqueue(new Uint8Array(0)),
        pull: async (controller) => {
          // A pipe that is torn by `end` is an end like any other.
          const { value, done } = await chunks
            .next()
            .catch(() => ({ value: undefined, done: true }))
          if (done) controller.close()
          else controller.enqueue(new Uint8Array(value))
        },
        cancel: () => this.end(),
      },
      { highWaterMark: 0 },
    )
  }

  /** TERM, and KILL after the grace time. */
  end(): void {
    const child = this.#process
    child?.stdout?.destroy()
    if (!child || this.#exited || this.#ending) return
    this.#ending = true
    signalGroup(child, 'SIGTERM')
    const timer = setTimeout(() => {
      if (!this.#exited) signalGroup(child, 'SIGKILL')
    }, GRACE_MS)
    this.ended.then(() => clearTimeout(timer))
  }

  async #start(gone: () => void): Promise<void> {
    const [program = '', ...args] = this.#argv
    try {
      const child = spawn(program, args, {
        stdio: ['ignore', 'pipe', 'ignore'],
        // A group of its own, so that what it starts is ended with it.
        detached: true,
        env: hostEnvironment(),
      })
      this.#process = child
      child.stdout?.on('error', () => undefined)
      child.once('exit', gone)
      if (child.pid === undefined) {
        const [error] = await once(child, 'error')
        throw error
      }
      child.on('error', () => undefined)
    } catch (cause) {
      gone()
      const code = errnoOf(cause) ?? 'unknown'
      const why = code === 'ENOENT' ? `"${program}" is not installed` : `it cannot start (${code})`
      throw new HostError('JOURNAL_UNAVAILABLE', 503, `Cannot read the journal: ${why}`, { cause })
    }
  }
}
