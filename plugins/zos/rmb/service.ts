import type { EventSink } from '../../../src/events/sink.ts'
import type { PluginMetrics } from '../../../src/metrics.ts'
import type { Commands } from '../commands/command.ts'
import { limited } from '../waiting.ts'
import { type Answer, type Asked, beginAnswer } from './answer.ts'
import { createNotices, type NoticeLog } from './notices.ts'
import { createPool, type Pool } from './pool.ts'

/** What every way on which messages come needs. */
export interface ServiceOptions {
  readonly commands: Pick<Commands, 'names' | 'dispatch'>
  readonly log: NoticeLog
  readonly events?: Pick<EventSink, 'append'>
  readonly metrics?: PluginMetrics
  /** Requests worked on at a time. Default: {@link DEFAULT_WORKERS}. */
  readonly workers?: number
  /** Longest time for a command. Default: 30 s, and never beyond the expiry of the request. */
  readonly deadlineMs?: number
  /** Largest reply as JSON text. Default: 8 MiB. */
  readonly maxReplyBytes?: number
  /** How long `stop` waits for requests at work. Default: 10 s. */
  readonly drainMs?: number
}

/** Answers requests, whatever brings them: counted, bounded, and to the end when it stops. */
export interface Service {
  /** Aborts when no more requests are taken. */
  readonly stopping: AbortSignal
  /** Aborts when commands are told to end. */
  readonly halting: AbortSignal
  /** Aborts when nothing is done any more. */
  readonly ended: AbortSignal
  readonly pool: Pool
  readonly notices: ReturnType<typeof createNotices>
  /** To the log and the event log: for what an operator has to know. */
  tell(message: string, level: 'info' | 'warn'): void
  /** Counts what became of a request. */
  count(result: string): void
  /** A request that is not answered. */
  drop(kind: string, reason: string): void
  /** Calls the command and sends its answer. */
  respond(asked: Asked, expires: number, send: (answer: Answer) => Promise<void>): Promise<void>
  /**
   * @param settle Waits until no request comes any more, or the signal aborts.
   * @param left How many requests are not done with.
   */
  stop(settle: (signal: AbortSignal) => Promise<void>, left: () => number): Promise<void>
}

export const DEFAULT_WORKERS = 16

/** For the last words of commands that are told to end. */
const LAST_MS = 1000

/**
 * @param name Of its figures: `cvmd_zos_<name>_requests_total`.
 * @param what For people: `the message bus`.
 */
export function createService(options: ServiceOptions, name: string, what: string): Service {
  const { commands, log, workers = DEFAULT_WORKERS, drainMs = 10_000 } = options
  const { deadlineMs = 30_000, maxReplyBytes = 8 << 20 } = options
  const notices = createNotices(log)
  const stopping = new AbortController()
  const halting = new AbortController()
  const ended = new AbortController()
  const fault = (of: string, thrown: unknown) => log.error(`${of} failed: ${stackOf(thrown)}`)
  const pool = createPool(workers, (thrown) => fault(`a request of ${what}`, thrown))
  // Labels are of commands that there are, not of what callers make up.
  let known: ReadonlySet<string> | undefined

  const requests = options.metrics?.counter(
    `cvmd_zos_${name}_requests_total`,
    `Requests of ${what}, by what became of them.`,
  )
  const durations = options.metrics?.histogram(
    `cvmd_zos_${name}_request_duration_seconds`,
    `Time from a request of ${what} to its answer, by command.`,
  )
  options.metrics?.gauge(
    `cvmd_zos_${name}_requests_in_flight`,
    `Requests of ${what} that are being worked on.`,
    () => pool.size(),
  )

  const count = (result: string) => requests?.inc({ result })
  return {
    stopping: stopping.signal,
    halting: halting.signal,
    ended: ended.signal,
    pool,
    notices,
    count,
    tell(message, level) {
      if (stopping.signal.aborted) return
      log[level](message)
      options.events?.append(message, { level })
    },
    drop(kind, reason) {
      count(kind)
      notices.warn(kind, `dropped a request of ${what}: ${reason}`)
    },
    async respond(asked, expires, send) {
      const begun = performance.now()
      const { answer, ended: over } = beginAnswer(asked, {
        commands,
        deadlineMs: Math.min(deadlineMs, expires - Date.now()),
        maxReplyBytes,
        signal: halting.signal,
        onFault: fault,
      })
      const result = await answer
      known ??= new Set(commands.names())
      const command = known.has(asked.command) ? asked.command : ''
      durations?.observe((performance.now() - begun) / 1000, { command })
      count(result.ok ? 'answered' : 'refused')
      await send(result)
      // A command that does not heed its signal keeps its place, or there would be no bound.
      await over
    },
    async stop(settle, left) {
      stopping.abort()
      const limit = limited(drainMs)
      await settle(limit.signal)
      while (left() > 0 && !limit.signal.aborted) await pool.drained(limit.signal)
      limit.end()
      halting.abort(new DOMException('The node is stopping', 'AbortError'))
      const last = limited(LAST_MS)
      await pool.drained(last.signal)
      last.end()
      if (left() > 0) log.warn(`stopped with ${left()} requests of ${what} at work`)
      ended.abort()
    },
  }
}

function stackOf(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
}
