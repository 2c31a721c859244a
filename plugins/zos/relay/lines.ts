/** What waits for a place, in a line for each twin, so that a flood costs only whoever sends it. */
export interface Lines<Item> {
  /**
   * @returns What has to go where that is too much: the last of the longest line, which may be what
   *   was just added.
   */
  add(twin: number, bytes: number, item: Item): readonly Item[]
  /** The next one, of another twin each time; undefined while nobody may have one more at work. */
  next(): { readonly twin: number; readonly item: Item } | undefined
  /** One that {@link next} gave has ended. */
  ended(twin: number): void
  /** How many wait. */
  size(): number
}

export interface LinesOptions {
  /** That wait, in all lines. */
  readonly most: number
  readonly mostBytes: number
  /** At work for one twin. */
  readonly mostAtWork: number
}

interface Line<Item> {
  readonly items: { readonly bytes: number; readonly item: Item }[]
  bytes: number
}

export function createLines<Item>({ most, mostBytes, mostAtWork }: LinesOptions): Lines<Item> {
  /** In the order of their turns. */
  const lines = new Map<number, Line<Item>>()
  const atWork = new Map<number, number>()
  let size = 0
  let bytes = 0

  const take = (twin: number, line: Line<Item>, which: 'pop' | 'shift'): Item | undefined => {
    const taken = line.items[which]()
    if (!taken) return undefined
    line.bytes -= taken.bytes
    bytes -= taken.bytes
    size--
    if (line.items.length === 0) lines.delete(twin)
    return taken.item
  }
  const longest = (): [number, Line<Item>] | undefined => {
    const part = ({ items, bytes: own }: Line<Item>) =>
      Math.max(items.length / most, own / mostBytes)
    let found: [number, Line<Item>] | undefined
    for (const entry of lines) if (!found || part(entry[1]) > part(found[1])) found = entry
    return found
  }

  return {
    add(twin, length, item) {
      const line = lines.get(twin) ?? { items: [], bytes: 0 }
      lines.set(twin, line)
      line.items.push({ bytes: length, item })
      line.bytes += length
      bytes += length
      size++
      const gone: Item[] = []
      while (size > most || bytes > mostBytes) {
        const victim = longest()
        const last = victim && take(...victim, 'pop')
        if (last === undefined) break
        gone.push(last)
      }
      return gone
    },
    next() {
      for (const [twin, line] of lines) {
        const count = atWork.get(twin) ?? 0
        if (count >= mostAtWork) continue
        const item = take(twin, line, 'shift')
        if (item === undefined) continue
        // Behind the others, until its next turn.
        if (lines.delete(twin)) lines.set(twin, line)
        atWork.set(twin, count + 1)
        return { twin, item }
      }
      return undefined
    },
    ended(twin) {
      const left = (atWork.get(twin) ?? 1) - 1
      if (left === 0) atWork.delete(twin)
      else atWork.set(twin, left)
    },
    size: () => size,
  }
}
