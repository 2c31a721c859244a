import { pause } from '../../../src/pause.ts'

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
      await pause(waited, signal)
    },
    reset() {
      ms = firstMs
    },
  }
}
