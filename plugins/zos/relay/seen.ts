/** Messages that came, so that none is answered twice. */
export interface Seen {
  has(key: string): boolean
  /**
   * @param until Milliseconds since 1970 after which the message would be refused as expired.
   * @returns Whether it is new.
   */
  add(key: string, until: number): boolean
}

/** @param most Entries; the oldest go first, and those that have expired. */
export function createSeen(most: number, now: () => number = Date.now): Seen {
  const entries = new Map<string, number>()
  const has = (key: string) => (entries.get(key) ?? 0) > now()
  return {
    has,
    add(key, until) {
      if (has(key)) return false
      entries.delete(key)
      entries.set(key, until)
      for (const [oldest, end] of entries) {
        if (entries.size <= most && end > now()) break
        entries.delete(oldest)
      }
      return true
    },
  }
}
