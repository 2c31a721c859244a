/** What passes between two moments of the code under test, seen from outside. */
export interface FastClock {
  /** Gives the time back as it was. */
  end(): void
  /** Real milliseconds since it began. */
  elapsed(): number
  /** Waits in real milliseconds. */
  pause(ms: number): Promise<void>
}

/**
 * Time that goes faster: `setTimeout`, `Date.now` and `performance.now` count so many times as
 * quickly. For code whose pauses are seconds, in tests that play hours of it.
 */
export function fastClock(speed: number): FastClock {
  const { setTimeout, performance } = globalThis
  const [now, steady] = [Date.now, performance.now]
  const [wallStart, steadyStart] = [now(), steady.call(performance)]
  const passed = () => (steady.call(performance) - steadyStart) * speed
  Date.now = () => Math.floor(wallStart + passed())
  performance.now = () => steadyStart + passed()
  const fast = (work: () => void, ms = 0, ...rest: never[]) => setTimeout(work, ms / speed, ...rest)
  globalThis.setTimeout = fast as unknown as typeof globalThis.setTimeout
  return {
    end: () => {
      globalThis.setTimeout = setTimeout
      Date.now = now
      performance.now = steady
    },
    elapsed: () => steady.call(performance) - steadyStart,
    pause: (ms) => new Promise((resolve) => void setTimeout(resolve, ms)),
  }
}
