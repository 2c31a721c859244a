import { ApiError } from '../../src/errors.ts'
import type { EventLog } from '../../src/events/log.ts'

/** One request that waits for events: a stream or a long poll. */
export class Waiting {
  #ended = false
  readonly #callbacks = new Set<() => void>()

  get ended(): boolean {
    return this.#ended
  }

  /** Calls back once, when the request is over or the daemon stops. */
  onEnd(callback: () => void): void {
    if (this.#ended) callback()
    else this.#callbacks.add(callback)
  }

  end(): void {
    if (this.#ended) return
    this.#ended = true
    for (const callback of this.#callbacks) callback()
    this.#callbacks.clear()
  }

  /**
   * Resolves when something was appended, the time is up or the request is over.
   *
   * @returns Whether the time was up.
   */
  untilAppended(log: EventLog, ms: number): Promise<boolean> {
    if (this.#ended) return Promise.resolve(false)
    return new Promise((resolve) => {
      const done = (late: boolean) => {
        clearTimeout(timer)
        unsubscribe()
        this.#callbacks.delete(over)
        resolve(late)
      }
      const over = () => done(false)
      const timer = setTimeout(() => done(true), ms)
      const unsubscribe = log.subscribe(over)
      this.#callbacks.add(over)
    })
  }
}

/** Bounds how many requests wait at a time, and ends them all when the plugin stops. */
export class WaitingRoom {
  readonly #most: number
  readonly #inside = new Set<Waiting>()
  #closed = false

  constructor(most: number) {
    this.#most = most
  }

  /** Requests waiting now. */
  get size(): number {
    return this.#inside.size
  }

  /**
   * Takes a place until it ends or `signal`, the request's own, aborts.
   *
   * @throws {ApiError} 429 `TOO_MANY_STREAMS`, or 503 `STOPPING`.
   */
  enter(signal?: AbortSignal): Waiting {
    if (this.#closed) {
      throw new ApiError(503, 'STOPPING', 'Cannot wait for events: the daemon is stopping')
    }
    if (this.#inside.size >= this.#most) {
      throw new ApiError(
        429,
        'TOO_MANY_STREAMS',
        `Cannot wait for events: ${this.#most} requests do already ("max_streams")`,
        { headers: { 'retry-after': '5' } },
      )
    }
    const place = new Waiting()
    this.#inside.add(place)
    const abort = () => place.end()
    place.onEnd(() => {
      this.#inside.delete(place)
      signal?.removeEventListener('abort', abort)
    })
    if (signal?.aborted) place.end()
    else signal?.addEventListener('abort', abort)
    return place
  }

  /** Ends every waiting request and admits none until {@link open}. */
  close(): void {
    this.#closed = true
    for (const place of [...this.#inside]) place.end()
  }

  open(): void {
    this.#closed = false
  }
}
