/** Waiting things in turns by their caller: first come, first served within one caller only. */
export class FairLine<T extends { readonly caller: string }> {
  /** The order of the keys is the order of turns; no list is empty. */
  readonly #byCaller = new Map<string, T[]>()
  #size = 0

  get size(): number {
    return this.#size
  }

  push(item: T): void {
    const own = this.#byCaller.get(item.caller)
    if (own) own.push(item)
    else this.#byCaller.set(item.caller, [item])
    this.#size++
  }

  /** Takes the oldest of the caller whose turn it is, who then goes behind all others. */
  shift(): T | undefined {
    for (const [caller, items] of this.#byCaller) {
      const item = items.shift()
      this.#byCaller.delete(caller)
      if (items.length > 0) this.#byCaller.set(caller, items)
      this.#size--
      return item
    }
    return undefined
  }

  /** Takes something out of turn; nothing happens when it is not here. */
  remove(item: T): void {
    const own = this.#byCaller.get(item.caller)
    const at = own?.indexOf(item) ?? -1
    if (!own || at < 0) return
    own.splice(at, 1)
    if (own.length === 0) this.#byCaller.delete(item.caller)
    this.#size--
  }

  countOf(caller: string): number {
    return this.#byCaller.get(caller)?.length ?? 0
  }

  /** All of the caller who has most here, oldest first; undefined of nothing. */
  longest(): readonly T[] | undefined {
    let longest: readonly T[] | undefined
    for (const items of this.#byCaller.values()) {
      if (!longest || items.length > longest.length) longest = items
    }
    return longest
  }
}
