import type { Times } from './options.ts'

/** A workload that ended by itself so often within the window is not started again (§7.5). */
const MAX_CRASHES = 4

/** When what failed is tried again, by the name of a workload. */
export class BackOff {
  readonly #times: Pick<Times, 'retry' | 'restart' | 'crashWindow'>
  readonly #failures = new Map<string, number>()
  /** `performance.now()` before which nothing is done. */
  readonly #due = new Map<string, number>()
  readonly #crashes = new Map<string, number[]>()

  constructor(times: Pick<Times, 'retry' | 'restart' | 'crashWindow'>) {
    this.#times = times
  }

  isDue(name: string): boolean {
    return (this.#due.get(name) ?? 0) <= performance.now()
  }

  /** Milliseconds until the next one is due; undefined when none waits. */
  untilDue(): number | undefined {
    const now = performance.now()
    let next: number | undefined
    for (const [name, at] of this.#due) {
      // Its time may have come since somebody looked for work; the next look needs no time.
      if (at <= now) this.#due.delete(name)
      next = Math.min(next ?? at, Math.max(at, now))
    }
    return next === undefined ? undefined : Math.ceil(next - now)
  }

  /** @returns Which attempt it was, and how long it waits before the next, in milliseconds. */
  failed(name: string): { readonly attempt: number; readonly waits: number } {
    const attempt = (this.#failures.get(name) ?? 0) + 1
    this.#failures.set(name, attempt)
    const waits = pick(this.#times.retry, attempt)
    this.#due.set(name, performance.now() + waits)
    return { attempt, waits }
  }

  succeeded(name: string): void {
    this.#failures.delete(name)
    this.#due.delete(name)
  }

  /** @returns Whether it is to be started again. */
  crashed(name: string): boolean {
    const now = performance.now()
    const since = now - this.#times.crashWindow
    const crashes = (this.#crashes.get(name) ?? []).filter((at) => at > since)
    crashes.push(now)
    this.#crashes.set(name, crashes)
    if (crashes.length >= MAX_CRASHES) {
      this.#crashes.delete(name)
      return false
    }
    this.#due.set(name, now + pick(this.#times.restart, crashes.length))
    return true
  }

  /** Nothing waits any more. */
  clear(): void {
    this.#due.clear()
    this.#failures.clear()
  }

  /** Forgets a workload that is no more. */
  forget(name: string): void {
    this.succeeded(name)
    this.#crashes.delete(name)
  }
}

function pick(delays: readonly number[], count: number): number {
  return delays[Math.min(count, delays.length) - 1] ?? 0
}
