/** Lets a fixed number of calls run at a time; the others wait in the order they came. */
export interface Slots {
  /**
   * Waits for a place and takes it.
   *
   * @returns Gives the place back; a second call does nothing.
   * @throws The reason of the signal.
   */
  take(signal: AbortSignal | undefined): Promise<() => void>
}

export function createSlots(count: number): Slots {
  let free = count
  const waiting = new Set<() => void>()

  const leave = () => {
    let left = false
    return () => {
      if (left) return
      left = true
      const [next] = waiting
      if (next === undefined) free++
      else next()
    }
  }

  return {
    take(signal) {
      if (signal?.aborted) return Promise.reject(signal.reason)
      if (free > 0) {
        free--
        return Promise.resolve(leave())
      }
      return new Promise((resolve, reject) => {
        const aborted = () => {
          waiting.delete(next)
          reject(signal?.reason)
        }
        const next = () => {
          waiting.delete(next)
          signal?.removeEventListener('abort', aborted)
          resolve(leave())
        }
        waiting.add(next)
        signal?.addEventListener('abort', aborted)
      })
    },
  }
}
