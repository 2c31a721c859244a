/** The queues of a service: which are asked, in which order. */
export interface Queues {
  /** Keys for one BRPOP. Redis looks at them in order, so each time another is the first. */
  keys(): readonly string[]
  /** The next {@link keys} begin after this one, or a full queue would hide those behind it. */
  served(key: string): void
  /**
   * Leaves out keys that hold something else than a list, for a while; Redis answers no BRPOP that
   * names one.
   *
   * @returns Those that were not left out before.
   */
  setAside(keys: readonly string[]): readonly string[]
  /** Those that are left out. */
  aside(): readonly string[]
}

/** @param asideMs How long a key is left out before it is tried again. */
export function createQueues(commands: readonly string[], asideMs: number): Queues {
  const all = commands.map((command) => `msgbus.${command}`)
  /** When it is tried again. */
  const bad = new Map<string, number>()
  /** Keys that were bad and have given nothing since, so that each is told once. */
  const told = new Set<string>()
  let first = 0
  return {
    keys() {
      const now = performance.now()
      for (const [key, until] of bad) if (until <= now) bad.delete(key)
      return [...all.slice(first), ...all.slice(0, first)].filter((key) => !bad.has(key))
    },
    served(key) {
      told.delete(key)
      first = (all.indexOf(key) + 1) % all.length
    },
    setAside(keys) {
      for (const key of keys) bad.set(key, performance.now() + asideMs)
      const fresh = keys.filter((key) => !told.has(key))
      for (const key of fresh) told.add(key)
      return fresh
    },
    aside: () => [...bad.keys()],
  }
}
