/** Who wants to know that something may have changed. One that throws does not keep the others. */
export class Listeners {
  readonly #all = new Set<() => void>()

  /** @returns Ends it. */
  readonly add = (changed: () => void): (() => void) => {
    // A wrapper each, so that the same function may be given twice.
    const one = () => changed()
    this.#all.add(one)
    return () => {
      this.#all.delete(one)
    }
  }

  tell(): void {
    for (const one of [...this.#all]) {
      try {
        one()
      } catch {
        // What it listens for has happened whether or not it could cope.
      }
    }
  }
}
