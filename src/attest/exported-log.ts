import { chainHash, GENESIS } from '../events/chain.ts'
import { type Event, LEVELS } from '../events/sink.ts'
import type { LogHead } from './attested-log.ts'
import { EvidenceError } from './evidence-error.ts'
import type { Step } from './verdict.ts'

/** cvmd's own event log as somebody downloaded it. */
export interface ExportedLog {
  readonly events: readonly ExportedEvent[]
  /** Hash before the first event, where the export has it: a page, and a journal's header. */
  readonly previous: string | undefined
}

export interface ExportedEvent {
  readonly event: Event
  /** As the export says it. */
  readonly hash: string
}

/**
 * Reads an export in any form that keeps the chain: a page of `GET /cvmd/events` or its array of
 * events, the lines of `cvmd events --json`, or the journal's files one after the other.
 *
 * @throws {EvidenceError} `LOG_WITHOUT_CHAIN` for system-api's lists, which have no hashes;
 *   `LOG_INVALID` for anything else.
 */
export function parseExportedLog(text: string): ExportedLog {
  const events: ExportedEvent[] = []
  const page = pageOf(text)
  let previous = textOf(page?.previous)
  for (const [index, item] of (page?.events ?? lines(text)).entries()) {
    const value = asObject(item)
    if (value.journal === 1) {
      if (events.length === 0) previous = textOf(value.previous) ?? previous
      continue
    }
    // What `cvmd events --json` says beside events shows as a gap in the numbers.
    if (value.type === 'gap' || value.type === 'reset') continue
    events.push(toEvent(value.type === 'event' ? asObject(value.event) : value, index))
  }
  return { events, previous }
}

const STEP = 'downloaded log'

/**
 * Follows the chain of an export up to an attested head.
 *
 * A log whose hashes were all computed anew from some event on holds together and ends in another
 * head: that is seen, and from which event on it was is not, since the head is all that is proven.
 *
 * @returns The step of a verdict; on failure its detail names the first event that is wrong.
 */
export function checkExportedLog(log: ExportedLog, attested: LogHead): Step {
  const [first] = log.events
  if (attested.seq === 0 || !first) return checkWithoutEvents(attested)
  const start = first.event.seq
  let previous = start === 1 ? GENESIS : log.previous
  // Without the hash before it, what the first event says cannot be recomputed.
  const proven = previous === undefined ? start + 1 : start
  if (attested.seq < proven) {
    return failed(
      'LOG_TOO_LATE',
      `it begins with ${start}, too late to prove event ${attested.seq}`,
    )
  }
  for (let seq = start; seq <= attested.seq; seq++) {
    const found = log.events[seq - start]
    if (found?.event.seq !== seq) return misplaced(log, seq, found?.event.seq)
    if (previous !== undefined && chainHash(previous, found.event) !== found.hash) {
      const orRemoved = seq === start && seq > 1 ? ', or events before it were removed' : ''
      const why = `event ${seq} was altered: its hash is that of other content${orRemoved}`
      return failed('EVENT_ALTERED', why)
    }
    previous = found.hash
  }
  if (previous !== attested.head) {
    return failed(
      'LOG_REWRITTEN',
      `its hashes agree with each other but not with the attested one of event ${attested.seq}: an event up to there was altered and every hash since computed anew, or this is another log`,
    )
  }
  const later = start + log.events.length - 1 - attested.seq
  const notes = [
    `events ${proven} to ${attested.seq} are as they were attested`,
    ...(proven > 1 ? [`those before ${proven} are not proven by this log`] : []),
    ...(later > 0 ? [`${later} later ones are not covered`] : []),
  ]
  return { name: STEP, outcome: 'passed', detail: notes.join('; ') }
}

function checkWithoutEvents({ seq, head }: LogHead): Step {
  if (seq > 0) return failed('EVENT_REMOVED', `event 1 is missing: the log is empty`)
  if (head !== GENESIS) return failed('LOG_REWRITTEN', 'the head of an empty log is not zeros')
  return { name: STEP, outcome: 'passed', detail: 'no event was in the log when it was attested' }
}

/** Why another event, or none, stands where `seq` belongs. */
function misplaced(log: ExportedLog, seq: number, found: number | undefined): Step {
  if (found === undefined) {
    return failed('EVENT_REMOVED', `event ${seq} is missing: the log ends before it`)
  }
  if (found < seq)
    return failed('EVENT_REORDERED', `event ${found} comes again, before event ${seq}`)
  const moved = log.events.some(({ event }) => event.seq === seq)
  return moved
    ? failed('EVENT_REORDERED', `event ${seq} was moved: event ${found} stands in its place`)
    : failed('EVENT_REMOVED', `event ${seq} is missing: event ${found} stands in its place`)
}

function failed(code: string, detail: string): Step {
  return { name: STEP, outcome: 'failed', code, detail }
}

/** An export that is one JSON value: a page, an array, or a single event. */
interface Page {
  readonly events: readonly unknown[]
  readonly previous?: unknown
}

function pageOf(text: string): Page | undefined {
  const whole = parseJson(text)
  if (whole === undefined) return undefined
  if (Array.isArray(whole)) return { events: whole }
  const { events, previous } = asObject(whole)
  return Array.isArray(events) ? { events, previous } : { events: [whole] }
}

/** The values of an export that has one in each line. */
function lines(text: string): readonly unknown[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line, index) => parseJson(line) ?? fail(`line ${index + 1} is not JSON`))
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function toEvent(value: Record<string, unknown>, index: number): ExportedEvent {
  const { seq, source, message, raw, hash } = value
  if ('received_at' in value) {
    throw new EvidenceError(
      'LOG_WITHOUT_CHAIN',
      "Cannot check event log: system-api's list has no hashes, download GET /cvmd/events instead",
    )
  }
  const level = LEVELS.find((name) => name === value.level)
  const time = toTime(value.time)
  if (!Number.isSafeInteger(seq) || (seq as number) < 1)
    fail(`item ${index} has no sequence number`)
  if (time === undefined) fail(`event ${seq} has no time`)
  if (level === undefined) fail(`event ${seq} has no level`)
  if (typeof source !== 'string') fail(`event ${seq} has no source`)
  if (typeof message !== 'string') fail(`event ${seq} has no message`)
  if (typeof hash !== 'string') fail(`event ${seq} has no hash`)
  if (raw !== undefined && typeof raw !== 'string') fail(`event ${seq}: raw is not base64`)
  const event = { seq: seq as number, time, source, level, message }
  return { event: raw === undefined ? event : { ...event, raw: Buffer.from(raw, 'base64') }, hash }
}

/** Unix milliseconds as in the journal, or RFC 3339 in UTC with milliseconds as in the API. */
function toTime(time: unknown): number | undefined {
  if (typeof time === 'number') return Number.isSafeInteger(time) ? time : undefined
  const ms = typeof time === 'string' ? Date.parse(time) : Number.NaN
  return Number.isNaN(ms) ? undefined : ms
}

function fail(what: string): never {
  throw new EvidenceError('LOG_INVALID', `Cannot read event log: ${what}`)
}
