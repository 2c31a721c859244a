import { messageOf } from '../../../src/errors.ts'
import type { PerfResult } from './facts.ts'
import type { NodeLog } from './notes.ts'

/** Something measured again and again. */
export interface PerfTask {
  readonly name: string
  readonly description: string
  /** Milliseconds between start and the first run. */
  readonly delayMs: number
  /** Milliseconds between the end of a run and the next. */
  readonly intervalMs: number
  /** Must end soon after `signal` is aborted. */
  run(signal: AbortSignal): Promise<unknown>
}

export interface PerfOptions {
  readonly tasks: readonly PerfTask[]
  readonly log: NodeLog
  /** Seconds since 1970. */
  readonly now?: (() => number) | undefined
}

/** Above it a timer fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1

/**
 * Runs tasks on their intervals, one at a time so that they do not measure each other, and keeps the
 * last result of each. A run that fails is logged and leaves the result before it.
 */
export class Perf {
  readonly #options: PerfOptions
  readonly #results = new Map<string, PerfResult>()
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>()
  #stopping: AbortController | undefined
  #last: Promise<void> = Promise.resolve()

  constructor(options: PerfOptions) {
    this.#options = options
  }

  /** Of the tasks that ran, in the order of the tasks. */
  results(): readonly PerfResult[] {
    return this.#options.tasks.flatMap(({ name }) => this.#results.get(name) ?? [])
  }

  start(): void {
    if (this.#stopping) return
    this.#stopping = new AbortController()
    const { signal } = this.#stopping
    for (const task of this.#options.tasks) this.#plan(task, task.delayMs, signal)
  }

  /** Ends what runs; resolves once it has. */
  async stop(): Promise<void> {
    this.#stopping?.abort()
    this.#stopping = undefined
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
    await this.#last
  }

  #plan(task: PerfTask, ms: number, signal: AbortSignal): void {
    const begin = () => {
      this.#last = this.#last.then(() => this.#run(task, signal))
    }
    const timer = setTimeout(begin, Math.min(ms, MAX_TIMER_MS))
    timer.unref()
    this.#timers.set(task.name, timer)
  }

  async #run(task: PerfTask, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return
    const { log, now = () => Math.floor(Date.now() / 1000) } = this.#options
    const { name, description } = task
    try {
      const result = await task.run(signal)
      if (signal.aborted) return
      this.#results.set(name, { name, description, timestamp: now(), result })
    } catch (error) {
      if (signal.aborted) return
      log.warn(`Cannot run the task "${name}": ${messageOf(error)}`)
    }
    this.#plan(task, task.intervalMs, signal)
  }
}
