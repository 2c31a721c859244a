import { setTimeout as sleep } from 'node:timers/promises'

/** Pauses between attempts, each twice as long as the one before. */
export interface Backoff {
  /** Waits; ends early, without an error, when the signal aborts. */
  pause(signal: AbortSignal): Promise<void>
  /** Something worked: the next pause is the first again. */
  reset(): void
}

/**
 * @param firstMs Of the first pause.
 * @param maxMs Of the longest.
 */
export function createBackoff(firstMs: number, maxMs: number): Backoff {
  let ms = firstMs
  return {
    async pause(signal) {
      // Not all at once, where many wait for one server.
      const waited = ms * (0.5 + Math.random() / 2)
      ms = Math.min(ms * 2, maxMs)
      await waitFor(waited, signal)
    },
    reset() {
      ms = firstMs
    },
  }
}

/** Waits so long, or until the signal aborts. */
export async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {})
}

/** A signal that aborts with another, or after a time. */
export interface Limit {
  readonly signal: AbortSignal
  /** Aborts it now and lets go of the other; to be called in any case. */
  end(): void
}

export function limited(ms: number, signal?: AbortSignal): Limit {
  const controller = new AbortController()
  const end = () => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', end)
    controller.abort()
  }
  const timer = setTimeout(end, ms)
  if (signal?.aborted) end()
  else signal?.addEventListener('abort', end)
  return { signal: controller.signal, end }
}

/** What comes of work; undefined where the signal aborts first. The work goes on. */
export async function unlessAborted<T>(
  work: Promise<T>,
  signal: AbortSignal,
): Promise<T | undefined> {
  if (signal.aborted) return undefined
  let aborted = () => {}
  const end = new Promise<undefined>((resolve) => {
    aborted = () => resolve(undefined)
    signal.addEventListener('abort', aborted)
  })
  try {
    return await Promise.race([work, end])
  } finally {
    signal.removeEventListener('abort', aborted)
  }
}
