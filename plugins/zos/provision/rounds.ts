/** Longest delay of a timer, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Work that is done again and again, one round at a time. */
export interface Rounds {
  /** Does a round that begins after now; several who ask meanwhile share one. */
  run(): Promise<void>
  /** What goes on, if anything. */
  running(): Promise<void>
  /** From now on there is a round after each interval. */
  begin(): void
  /** No further round begins. */
  end(): void
}

/** @param work Never throws. */
export function createRounds(work: () => Promise<void>, everyMs: number): Rounds {
  let current: Promise<void> | undefined
  let next: Promise<void> | undefined
  let timer: ReturnType<typeof setInterval> | undefined
  let over = false

  const run = (): Promise<void> => {
    if (over) return Promise.resolve()
    if (!current) {
      current = work().finally(() => {
        current = undefined
      })
      return current
    }
    next ??= current.then(() => {
      next = undefined
      return run()
    })
    return next
  }

  return {
    run,
    running: async () => {
      while (next ?? current) await (next ?? current)
    },
    begin() {
      if (!over) timer = setInterval(() => void run(), Math.min(everyMs, MAX_TIMER_MS))
    },
    end() {
      over = true
      clearInterval(timer)
    },
  }
}
