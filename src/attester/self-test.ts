import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import type { CallOptions } from '../device/devices.ts'
import { errnoOf, messageOf } from '../errors.ts'
import type { EventSink } from '../events/sink.ts'

/** Evidence is asked for over so many random bytes: a whole field of report data. */
const CHALLENGE_BYTES = 64

/** A device is not trusted to work when nothing was heard of it for so many intervals. */
const STALE_INTERVALS = 3

/** The key `self_test_interval_ms` of a plugin that tests itself. */
export const SelfTestInterval = v.optional(
  v.pipe(
    v.number(),
    v.integer(),
    v.check((ms) => ms === 0 || ms >= 1000, 'Expected 0, or at least 1000'),
    v.maxValue(24 * 60 * 60 * 1000),
    v.description('Time between two self-tests in milliseconds; 0 makes none'),
  ),
  0,
)

/** What a self-test needs of its plugin. */
export interface SelfTestOptions {
  /** 0 means never. */
  readonly intervalMs: number
  /**
   * Makes evidence over 64 random bytes.
   *
   * @throws {ApiError} As `deviceProblem` says, and when it cannot be read or is not about them.
   */
  prove(challenge: Uint8Array, options: CallOptions): Promise<void>
  readonly events: EventSink
  /** Ends the test that runs. */
  readonly signal: AbortSignal
  /** Milliseconds that only grow; default `performance.now()`. */
  readonly now?: () => number
}

/**
 * Makes evidence on a schedule and says whether the last attempt was good. The event log hears when
 * that changes, not of each test.
 */
export class SelfTest {
  readonly #options: SelfTestOptions
  readonly #now: () => number
  #timer: ReturnType<typeof setTimeout> | undefined
  #running = false
  #endedAt: number | undefined
  #failure: string | undefined
  #failures = 0

  constructor(options: SelfTestOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
  }

  /** Begins the first test at once, without waiting for its end. */
  start(): void {
    if (this.#options.intervalMs === 0 || this.#running) return
    this.#running = true
    void this.#next()
  }

  /** Begins no further test, and hears no more of the one that runs. */
  stop(): void {
    this.#running = false
    clearTimeout(this.#timer)
  }

  /** Why the device is not known to work; undefined when it is, or when nobody asked. */
  notReady(): string | undefined {
    const { intervalMs } = this.#options
    if (intervalMs === 0) return undefined
    if (this.#endedAt === undefined) return 'the first self-test has not ended'
    if (this.#failure !== undefined) return `the last self-test failed: ${this.#failure}`
    const ageMs = this.#now() - this.#endedAt
    if (ageMs <= STALE_INTERVALS * intervalMs) return undefined
    return `no self-test ended for ${Math.round(ageMs)} ms, expected one every ${intervalMs} ms`
  }

  /** One test, whatever the schedule. Never throws. */
  async run(): Promise<void> {
    const { prove, signal } = this.#options
    try {
      await prove(randomBytes(CHALLENGE_BYTES), { caller: 'self-test', signal })
      if (!signal.aborted) this.#passed()
    } catch (thrown) {
      // A full queue says that others make evidence, nothing of the device.
      const isFull = errnoOf(thrown) === 'DEVICE_QUEUE_FULL'
      if (!signal.aborted && !isFull) this.#failed(messageOf(thrown))
    }
  }

  async #next(): Promise<void> {
    await this.run()
    if (!this.#running) return
    this.#timer = setTimeout(() => void this.#next(), this.#options.intervalMs)
  }

  #passed(): void {
    if (this.#failure !== undefined) {
      const times = this.#failures === 1 ? 'one failure' : `${this.#failures} failures`
      this.#options.events.append(`self-test passes again after ${times}`)
    }
    this.#endedAt = this.#now()
    this.#failure = undefined
    this.#failures = 0
  }

  #failed(why: string): void {
    if (this.#failure === undefined) {
      this.#options.events.append(`self-test failed: ${why}`, { level: 'error' })
    }
    this.#endedAt = this.#now()
    this.#failure = why
    this.#failures++
  }
}
