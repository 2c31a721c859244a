/**
 * Remembers answers for a time, by the monotonic clock: setting the machine's clock neither ends
 * nor prolongs it. Bounded: the entry that was set first goes first.
 */
export class TimedCache<K, V> {
  readonly #most: number
  readonly #now: () => number
  readonly #entries = new Map<K, { readonly value: V; readonly until: number }>()

  /**
   * @param most Entries.
   * @param now Monotonic milliseconds.
   */
  constructor(most: number, now: () => number) {
    this.#most = most
    this.#now = now
  }

  get size(): number {
    return this.#entries.size
  }

  /** The entry, in a box because undefined may be what is remembered. */
  get(key: K): { readonly value: V } | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined || entry.until > this.#now()) return entry
    this.#entries.delete(key)
    return undefined
  }

  set(key: K, value: V, ms: number): void {
    this.#entries.delete(key)
    this.#entries.set(key, { value, until: this.#now() + ms })
    if (this.#entries.size <= this.#most) return
    const [oldest] = this.#entries.keys()
    this.#entries.delete(oldest as K)
  }

  clear(): void {
    this.#entries.clear()
  }
}
