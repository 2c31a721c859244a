/** What work is being done on just now, by several at a time. */
export class InHand {
  readonly #counts = new Map<string, number>()

  has(id: string): boolean {
    return this.#counts.has(id)
  }

  /** @param after Called when nobody has it in hand any more. */
  async during<T>(id: string, work: () => Promise<T>, after = () => {}): Promise<T> {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1)
    try {
      return await work()
    } finally {
      const left = (this.#counts.get(id) ?? 1) - 1
      if (left > 0) this.#counts.set(id, left)
      else {
        this.#counts.delete(id)
        after()
      }
    }
  }
}
