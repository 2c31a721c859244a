import { unlessAborted } from '../waiting.ts'

/** Work that goes on at the same time, up to a number. */
export interface Pool {
  /** Begins; what it throws is for `onFault`. */
  begin(work: () => Promise<void>): void
  /** How many go on. */
  size(): number
  /** Resolves when there is a place, or the signal aborts. */
  free(signal: AbortSignal): Promise<void>
  /** Resolves when what goes on now has ended, or the signal aborts. */
  drained(signal: AbortSignal): Promise<void>
}

export function createPool(limit: number, onFault: (fault: unknown) => void): Pool {
  const running = new Set<Promise<void>>()
  let wake = () => {}
  let place: Promise<void> | undefined
  return {
    begin(work) {
      const whole = work()
        .catch(onFault)
        .finally(() => {
          running.delete(whole)
          wake()
        })
      running.add(whole)
    },
    size: () => running.size,
    async free(signal) {
      while (running.size >= limit && !signal.aborted) {
        place ??= new Promise((free) => {
          wake = () => {
            place = undefined
            wake = () => {}
            free()
          }
        })
        await unlessAborted(place, signal)
      }
    },
    async drained(signal) {
      await unlessAborted(Promise.all(running), signal)
    },
  }
}
