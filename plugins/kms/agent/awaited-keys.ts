import { messageOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import type { Keys } from './keys.ts'
import { kmsUnavailable } from './kms-problem.ts'
import { backoffMs } from './retry.ts'

/** What it takes to ask for keys until there are some. */
export interface AwaitedKeysOptions {
  /** Asks once. */
  readonly ask: () => Promise<Keys>
  readonly events: EventSink
  /** Ends the asking. */
  readonly signal: AbortSignal
  /** Waits between two attempts, so many milliseconds or until the signal aborts. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>
}

/** Longest reason that is repeated to applications, in characters. */
const MAX_REASON = 512

/** Keys that come from elsewhere, and may not be there yet. */
export class AwaitedKeys {
  readonly #options: AwaitedKeysOptions
  #keys: Keys | undefined
  #reason: string | undefined
  /** When the next attempt begins, by `performance.now()`. */
  #nextAt = 0

  constructor(options: AwaitedKeysOptions) {
    this.#options = options
  }

  /** Asks until there are keys, or the signal aborts. Never throws. */
  async run(): Promise<void> {
    const { signal, pause } = this.#options
    for (let failures = 1; !signal.aborted; failures++) {
      if (await this.#attempt()) return
      const ms = backoffMs(failures)
      this.#nextAt = performance.now() + ms
      await pause(ms, signal)
    }
  }

  /** @throws {ApiError} 503 `KMS_UNAVAILABLE` while there are none. */
  current(): Keys {
    if (this.#keys) return this.#keys
    const waitMs = this.#nextAt - performance.now()
    const reason = this.#why().slice(0, MAX_REASON)
    throw kmsUnavailable(`Cannot use keys: ${reason}`, waitMs / 1000)
  }

  /** Why there are none; undefined when there are. */
  notReady(): string | undefined {
    return this.#keys ? undefined : this.#why()
  }

  /** Zeroes them; none come any more. */
  clear(): void {
    this.#keys?.keyring.clear()
  }

  #why(): string {
    return this.#reason ?? 'no KMS has given them yet'
  }

  async #attempt(): Promise<boolean> {
    const { ask, events, signal } = this.#options
    try {
      const keys = await ask()
      if (signal.aborted) {
        keys.keyring.clear()
        return true
      }
      this.#keys = keys
      events.append(`keys are derived from ${keys.from}`)
      return true
    } catch (error) {
      const reason = `no KMS gives them: ${messageOf(error)}`
      const isNews = reason !== this.#reason && !signal.aborted
      this.#reason = reason
      if (isNews) events.append(`there are no keys yet, ${reason}`, { level: 'warn' })
      return false
    }
  }
}
