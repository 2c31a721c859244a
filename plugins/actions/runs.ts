import { randomBytes } from 'node:crypto'
import { ApiError } from '../../src/errors.ts'
import type { EventSink } from '../../src/events/sink.ts'
import type { Counter } from '../../src/metrics.ts'
import type { Command } from './command.ts'
import { checkParams } from './params.ts'
import { Run } from './run.ts'

/** What the runs need of the plugin. */
export interface RunsOptions {
  readonly events: EventSink
  readonly counter: Counter
  /** Finished runs kept. */
  readonly maxRuns: number
  /** Bytes of output kept for finished runs; the newest one always stays. */
  readonly maxHistoryBytes: number
}

/** Runs of one command that are not over. */
interface Lane {
  readonly running: Set<Run>
  readonly waiting: Run[]
  /** Duration of the last finished run, in milliseconds. */
  lastMs: number
}

/** All runs of all commands: admits, starts, remembers and ends them. */
export class Runs {
  readonly #options: RunsOptions
  readonly #lanes = new Map<Command, Lane>()
  /** Oldest first. */
  readonly #byId = new Map<string, Run>()
  readonly #finished: Run[] = []
  #historyBytes = 0
  #lastId = 0
  #stopped = false

  constructor(options: RunsOptions) {
    this.#options = options
  }

  /**
   * Starts a command, or queues it.
   *
   * @throws {ApiError} 422 for wrong parameters, 409 `ACTION_BUSY` with `Retry-After`, 503
   *   `SHUTTING_DOWN`.
   */
  start(command: Command, given: Readonly<Record<string, string>>, caller: string): Run {
    const values = checkParams(command.config.params, given)
    if (this.#stopped) {
      throw new ApiError(503, 'SHUTTING_DOWN', `Cannot run action "${command.name}": stopping`)
    }
    const lane = this.#lane(command)
    const free = lane.running.size < command.concurrency
    if (!free && lane.waiting.length >= command.config.queue) {
      this.#options.counter.inc({ action: command.name, outcome: 'rejected' })
      throw busy(command, lane)
    }
    const run = new Run(this.#newId(), command, values, caller)
    this.#byId.set(run.id, run)
    if (free) this.#launch(run, lane)
    else lane.waiting.push(run)
    return run
  }

  /** @throws {ApiError} 404 `RUN_NOT_FOUND`. */
  get(id: string): Run {
    const run = this.#byId.get(id)
    if (run) return run
    throw new ApiError(
      404,
      'RUN_NOT_FOUND',
      `Cannot find run "${id.slice(0, 64)}": it does not exist or was dropped from the history`,
    )
  }

  /** Every run known, newest first. */
  list(): Run[] {
    return [...this.#byId.values()].reverse()
  }

  /** How many runs of a command are going on and waiting. */
  load(command: Command): { readonly running: number; readonly queued: number } {
    const lane = this.#lanes.get(command)
    return { running: lane?.running.size ?? 0, queued: lane?.waiting.length ?? 0 }
  }

  /** Ends a run, or takes it out of the queue; nothing happens to one that is over. */
  cancel(run: Run): void {
    if (run.finished || run.cancelled) return
    this.#options.events.append(`[system-api] cancelling action: ${run.command.name}`)
    const { waiting } = this.#lane(run.command)
    const at = waiting.indexOf(run)
    run.cancel()
    if (at === -1) return
    waiting.splice(at, 1)
    this.#retire(run)
  }

  /** Accepts runs again after {@link stop}. */
  open(): void {
    this.#stopped = false
  }

  /** Refuses new runs and ends all others; takes the grace time and about two seconds at most. */
  async stop(): Promise<void> {
    this.#stopped = true
    const open = this.list().filter((run) => !run.finished)
    for (const run of open) this.cancel(run)
    await Promise.all(open.map((run) => run.done))
  }

  #lane(command: Command): Lane {
    const known = this.#lanes.get(command)
    if (known) return known
    const lane = { running: new Set<Run>(), waiting: [], lastMs: 1000 }
    this.#lanes.set(command, lane)
    return lane
  }

  async #launch(run: Run, lane: Lane): Promise<void> {
    lane.running.add(run)
    const title = titleOf(run)
    this.#options.events.append(`[system-api] executing action: ${title}`)
    await run.start()
    lane.running.delete(run)
    lane.lastMs = run.durationMs
    this.#report(run, title)
    this.#retire(run)
    const next = this.#stopped ? undefined : lane.waiting.shift()
    if (next) this.#launch(next, lane)
  }

  #report(run: Run, title: string): void {
    const { name, config } = run.command
    const { events } = this.#options
    if (run.error === undefined) {
      events.append(`[system-api] executing action success: ${title}`)
      return
    }
    const stderr = config.system_api ? ` (stderr: ${run.stderr.text()})` : ''
    events.append(`[system-api] error executing action: ${name} - error: ${run.error}${stderr}`, {
      level: 'error',
    })
  }

  #retire(run: Run): void {
    this.#options.counter.inc({ action: run.command.name, outcome: outcomeOf(run) })
    this.#finished.push(run)
    this.#historyBytes += sizeOf(run)
    const { maxRuns, maxHistoryBytes } = this.#options
    while (
      this.#finished.length > maxRuns ||
      (this.#finished.length > 1 && this.#historyBytes > maxHistoryBytes)
    ) {
      const oldest = this.#finished.shift() as Run
      this.#historyBytes -= sizeOf(oldest)
      this.#byId.delete(oldest.id)
    }
  }

  /** 48 bits of time, so that ids sort as runs were made, and 80 random bits; 32 hex digits. */
  #newId(): string {
    this.#lastId = Math.max(Date.now(), this.#lastId + 1)
    return this.#lastId.toString(16).padStart(12, '0') + randomBytes(10).toString('hex')
  }
}

/** A run in event texts: system-api's `NAME = CMD`, or the names alone, as values are private. */
function titleOf({ command, paramNames }: Run): string {
  if (command.config.system_api) return `${command.name} = ${command.text}`
  if (paramNames.length === 0) return command.name
  return `${command.name} (params: ${paramNames.join(', ')})`
}

function outcomeOf(run: Run): string {
  if (run.error === undefined) return 'success'
  if (run.cancelled) return 'cancelled'
  return run.timedOut ? 'timeout' : 'failure'
}

function sizeOf(run: Run): number {
  return run.stdout.size + run.stderr.size
}

function busy(command: Command, { running, lastMs }: Lane): ApiError {
  const longest = Math.max(0, ...[...running].map((run) => run.durationMs))
  const wait = Math.min(60, Math.max(1, Math.ceil((lastMs - longest) / 1000)))
  return new ApiError(
    409,
    'ACTION_BUSY',
    `Cannot run action "${command.name}": ${running.size} running, at most ` +
      `${command.concurrency} at a time`,
    { headers: { 'retry-after': String(wait) } },
  )
}
