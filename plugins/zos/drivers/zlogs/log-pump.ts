import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { messageOf } from '../../../../src/errors.ts'
import type { Guard } from '../guard.ts'
import type { MachineLogs } from '../machine-logs.ts'
import { createLineBuffer, type LineBuffer } from './line-buffer.ts'
import type { Output } from './output.ts'
import { createLogPosition } from './position.ts'
import { openSink, type Sink } from './sink.ts'

export interface LogPumpOptions {
  readonly machineId: string
  readonly logs: MachineLogs
  readonly output: Output
  /** What is wrong with an address that the log would go to. */
  readonly refuses: Guard
  /** Of each chunk by itself. */
  readonly compression: 'gzip' | 'none'
  /** Lines that wait for the output. */
  readonly bufferBytes: number
  /** First pause after a failure; doubled with each. */
  readonly retryMs: number
  readonly maxRetryMs: number
  /** For a connection to be made, and for one chunk. */
  readonly deadlineMs: number
}

/** How a pump does. */
export interface PumpState {
  readonly connected: boolean
  /** Why it is not, or why the log is not read; '' when all is well, or nothing was tried yet. */
  readonly problem: string
  readonly sentChunks: number
  readonly droppedLines: number
}

/** Of lines that were written before. */
const TAIL_LINES = 100
const compress = promisify(gzip)

/** Carries the log of one machine to one output until it is stopped. */
export class LogPump {
  readonly #options: LogPumpOptions
  readonly #buffer: LineBuffer
  readonly #controller = new AbortController()
  readonly #ended: Promise<unknown>
  #wake = () => {}
  #sink: Sink | undefined
  #outputProblem = ''
  #logProblem = ''
  #sentChunks = 0

  /** Begins at once. */
  constructor(options: LogPumpOptions) {
    this.#options = options
    this.#buffer = createLineBuffer(options.bufferBytes)
    this.#ended = Promise.all([this.#read(), this.#send()])
  }

  get state(): PumpState {
    return {
      connected: this.#sink !== undefined,
      problem: [this.#outputProblem, this.#logProblem].filter((one) => one !== '').join('; '),
      sentChunks: this.#sentChunks,
      droppedLines: this.#buffer.dropped,
    }
  }

  /** What was not sent is gone. */
  async stop(): Promise<void> {
    this.#controller.abort()
    this.#wake()
    this.#sink?.close()
    await this.#ended
  }

  async #read(): Promise<void> {
    const { logs, machineId, retryMs, maxRetryMs } = this.#options
    const { signal } = this.#controller
    const position = createLogPosition()
    let pause = retryMs
    while (!signal.aborted) {
      const { since } = position
      position.resume()
      try {
        const from = since === undefined ? {} : { since }
        for await (const line of logs.follow(machineId, { tail: TAIL_LINES, signal, ...from })) {
          pause = retryMs
          this.#logProblem = ''
          if (!position.isNew(line)) continue
          this.#buffer.push(line.text)
          this.#wake()
        }
        this.#logProblem = 'the machine does not run'
      } catch (error) {
        if (signal.aborted) return
        this.#logProblem = `its log cannot be read: ${messageOf(error)}`
      }
      position.end()
      await pauseFor(pause, signal)
      pause = Math.min(pause * 2, maxRetryMs)
    }
  }

  async #send(): Promise<void> {
    const { retryMs, maxRetryMs } = this.#options
    const { signal } = this.#controller
    let pause = retryMs
    /** Taken, and not sent. */
    let chunk: Uint8Array | undefined
    while (!signal.aborted) {
      try {
        if (this.#sink?.lost) throw new Error('the connection was lost')
        this.#sink ??= await this.#open()
        chunk ??= this.#buffer.take()
        if (chunk === undefined) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
          continue
        }
        await this.#sink.send(await this.#packed(chunk))
        chunk = undefined
        this.#sentChunks++
        pause = retryMs
      } catch (error) {
        this.#sink?.close()
        this.#sink = undefined
        if (signal.aborted) return
        this.#outputProblem = `${this.#options.output.shown}: ${messageOf(error)}`
        await pauseFor(pause, signal)
        pause = Math.min(pause * 2, maxRetryMs)
      }
    }
  }

  async #open(): Promise<Sink> {
    const { output, refuses, deadlineMs } = this.#options
    const { signal } = this.#controller
    const onLost = () => this.#wake()
    const sink = await openSink(output, { refuses, deadlineMs, onLost, signal })
    this.#outputProblem = ''
    if (signal.aborted) sink.close()
    return sink
  }

  async #packed(chunk: Uint8Array): Promise<Uint8Array> {
    return this.#options.compression === 'none' ? chunk : await compress(chunk)
  }
}

/** Not all at once, where many wait for one output. */
async function pauseFor(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {})
}
