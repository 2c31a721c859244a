/** Longest delay a timer takes, in milliseconds; what is longer never ends. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** How long to wait for a turn. */
export interface Patience {
  /** Monotonic milliseconds (`performance.now()`) at which to give up; may be infinite. */
  readonly latest: number
  readonly signal?: AbortSignal | undefined
}

/** Lets one at a time have a key, in the order they asked. */
export class Turns<Key> {
  /** Who waits for a key; a key is here while somebody has it. */
  readonly #waiting = new Map<Key, Set<() => void>>()

  /** Whether somebody has the key just now. */
  has(key: Key): boolean {
    return this.#waiting.has(key)
  }

  /**
   * Waits for the key.
   *
   * @param late Makes the error for when it takes too long.
   * @returns The function that gives it to the next one; the second call does nothing.
   * @throws What `late` gives, or the signal's reason.
   */
  async take(key: Key, patience: Patience, late: () => Error): Promise<() => void> {
    patience.signal?.throwIfAborted()
    const queue = this.#waiting.get(key)
    if (queue) await wait(queue, patience, late)
    else this.#waiting.set(key, new Set())
    let mine = true
    return () => {
      if (mine) this.#pass(key)
      mine = false
    }
  }

  #pass(key: Key): void {
    const queue = this.#waiting.get(key)
    const [next] = queue ?? []
    if (next === undefined) {
      this.#waiting.delete(key)
      return
    }
    queue?.delete(next)
    next()
  }
}

function wait(
  queue: Set<() => void>,
  { latest, signal }: Patience,
  late: () => Error,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
      queue.delete(called)
    }
    const called = () => {
      leave()
      resolve()
    }
    const abort = () => {
      leave()
      reject(signal?.reason)
    }
    const ms = Math.max(0, latest - performance.now())
    const timer =
      ms > MAX_TIMER_MS
        ? undefined
        : setTimeout(() => {
            leave()
            reject(late())
          }, ms)
    signal?.addEventListener('abort', abort, { once: true })
    queue.add(called)
  })
}
