/**
 * Values that are costly to make, by name: the latest used ones are kept, and each is overwritten
 * when it goes.
 */
export class Latest<Value> {
  readonly #most: number
  readonly #forget: (value: Value) => void
  /** In the order of their last use. */
  readonly #kept = new Map<string, Value>()

  /**
   * @param most How many are kept; 0 makes each anew.
   * @param forget Overwrites what is secret in a value.
   */
  constructor(most: number, forget: (value: Value) => void) {
    this.#most = most
    this.#forget = forget
  }

  /** Does something with a value, which is there for as long as that takes and not longer. */
  use<T>(name: string, make: () => Value, use: (value: Value) => T): T {
    const value = this.#kept.get(name) ?? make()
    this.#kept.delete(name)
    if (this.#most === 0) {
      try {
        return use(value)
      } finally {
        this.#forget(value)
      }
    }
    const [oldest] = this.#kept
    if (oldest && this.#kept.size >= this.#most) {
      this.#kept.delete(oldest[0])
      this.#forget(oldest[1])
    }
    this.#kept.set(name, value)
    return use(value)
  }

  clear(): void {
    for (const value of this.#kept.values()) this.#forget(value)
    this.#kept.clear()
  }
}
