import { rfc3339 } from '../../src/compat/go-time.ts'
import { type ProcessResult, type RunningProcess, runProcess } from '../../src/process/run.ts'
import { Tail } from '../../src/process/tail.ts'
import type { Command } from './command.ts'

/**
 * `queued` and `running` come first; a run ends as `exited` with a status, as `killed` by a signal,
 * or as `failed` when it could not be started, or not be killed.
 */
export type RunState = 'queued' | 'running' | 'exited' | 'killed' | 'failed'

const NO_OUTPUT = new Tail(0)

/** One run of a command, from the request for it until it falls out of the history. */
export class Run {
  readonly id: string
  readonly command: Command
  /** Name of who asked for it. */
  readonly caller: string
  readonly paramNames: readonly string[]
  /** Resolves when the run is over; never rejects. */
  readonly done: Promise<void>
  /** Why it failed; undefined while it runs and after exit status 0. */
  error: string | undefined
  state: RunState = 'queued'
  /** Somebody asked for its end. */
  cancelled = false
  #values: ReadonlyMap<string, string>
  readonly #watchers = new Set<() => void>()
  readonly #createdAt = Date.now()
  #process: RunningProcess | undefined
  #result: ProcessResult | undefined
  #startedAt: number | undefined
  /** Monotonic, in milliseconds. */
  #startMark = 0
  #durationMs: number | undefined
  #over: () => void = () => undefined

  constructor(id: string, command: Command, values: ReadonlyMap<string, string>, caller: string) {
    this.id = id
    this.command = command
    this.caller = caller
    this.paramNames = [...values.keys()]
    this.#values = values
    this.done = new Promise((resolve) => {
      this.#over = resolve
    })
  }

  get finished(): boolean {
    return this.state !== 'queued' && this.state !== 'running'
  }

  get stdout(): Tail {
    return this.#process?.stdout ?? NO_OUTPUT
  }

  get stderr(): Tail {
    return this.#process?.stderr ?? NO_OUTPUT
  }

  get timedOut(): boolean {
    return this.#result?.timedOut ?? false
  }

  /** Milliseconds from start to end, or until now. */
  get durationMs(): number {
    if (this.#startedAt === undefined) return 0
    return this.#durationMs ?? Math.round(performance.now() - this.#startMark)
  }

  /** Starts the process; resolves, like {@link done}, when the run is over. */
  async start(): Promise<void> {
    this.#startedAt = Date.now()
    this.#startMark = performance.now()
    this.state = 'running'
    const spec = this.command.spec(this.#values)
    // They may be secret and are not needed again.
    this.#values = new Map()
    this.#process = runProcess({ ...spec, onOutput: () => this.#notify() })
    this.#finish(await this.#process.done)
  }

  /** Ends it: a waiting run never starts, a running one gets TERM and then KILL. */
  cancel(): void {
    if (this.finished || this.cancelled) return
    this.cancelled = true
    if (this.#process) this.#process.end()
    else this.#conclude('failed', 'cancelled before it started')
  }

  /** Calls `watcher` after output arrived and at the end; returns the function that stops it. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher)
    return () => this.#watchers.delete(watcher)
  }

  /** The run as JSON without its output; times in RFC 3339. */
  summary() {
    return {
      id: this.id,
      action: this.command.name,
      state: this.state,
      exit_code: this.#result?.exitCode ?? null,
      signal: this.#result?.signal ?? null,
      error: this.error ?? null,
      timed_out: this.timedOut,
      cancelled: this.cancelled,
      params: [...this.paramNames],
      caller: this.caller,
      created_at: rfc3339(this.#createdAt),
      started_at: this.#startedAt === undefined ? null : rfc3339(this.#startedAt),
      finished_at:
        this.#startedAt === undefined || this.#durationMs === undefined
          ? null
          : rfc3339(this.#startedAt + this.#durationMs),
      duration_ms: this.durationMs,
    }
  }

  /** {@link summary} with the tails of stdout and stderr as text. */
  document() {
    return {
      ...this.summary(),
      stdout: this.stdout.text(),
      stdout_truncated: this.stdout.start > 0,
      stderr: this.stderr.text(),
      stderr_truncated: this.stderr.start > 0,
    }
  }

  #finish(result: ProcessResult): void {
    this.#result = result
    this.#durationMs = this.durationMs
    const failure = this.command.failure(result)
    const failed = result.errno !== undefined || result.lost
    const state = failed ? 'failed' : result.signal === undefined ? 'exited' : 'killed'
    this.#conclude(state, this.cancelled ? `cancelled: ${failure ?? 'exit status 0'}` : failure)
  }

  #conclude(state: RunState, error: string | undefined): void {
    this.state = state
    this.error = error
    this.#over()
    this.#notify()
  }

  #notify(): void {
    for (const watcher of this.#watchers) watcher()
  }
}
