import type { EventLog } from '../../src/events/log.ts'
import { type Event, LEVELS, type Level } from '../../src/events/sink.ts'
import {
  type EventGap,
  type EventPage,
  previousHash,
  toWire,
  type WireEvent,
} from '../../src/events/wire.ts'

/** Events looked at for one page, so that a filter that matches nothing stays cheap. */
const MAX_SCAN = 50_000

/** Sum of message lengths in one page; one event may exceed it. */
const MAX_PAGE_CHARS = 1024 * 1024

/** Which events a reader wants; absent members do not restrict. */
export interface EventFilter {
  readonly source?: string | undefined
  /** The lowest level wanted. */
  readonly level?: Level | undefined
  /** A part of the message, case-sensitive. */
  readonly contains?: string | undefined
}

/** Whether an event passes. */
export type Matcher = (event: Event) => boolean

/** Makes the test of a filter. */
export function matcher({ source, level, contains }: EventFilter): Matcher {
  const lowest = level === undefined ? 0 : LEVELS.indexOf(level)
  return (event) =>
    (source === undefined || event.source === source) &&
    (lowest === 0 || LEVELS.indexOf(event.level) >= lowest) &&
    (contains === undefined || event.message.includes(contains))
}

/** Where a reader stands after its cursor was compared with the log. */
export interface Position {
  /** The cursor to read on from. */
  readonly cursor: number
  readonly gap?: EventGap
  readonly reset?: true
}

/**
 * Compares a reader's cursor with what is in the log. A cursor beyond the newest event belongs to
 * an earlier run of the daemon.
 *
 * @param after The last sequence number seen; undefined starts at the oldest event.
 */
export function locate(log: EventLog, after: number | undefined): Position {
  const oldest = log.first - 1
  if (after === undefined) return { cursor: oldest }
  if (after >= log.next) return { cursor: oldest, reset: true }
  if (after >= oldest) return { cursor: after }
  return { cursor: oldest, gap: { from: after + 1, to: oldest } }
}

/** Events after a cursor, and the cursor after them. */
export interface Batch {
  readonly events: readonly WireEvent[]
  readonly cursor: number
}

/** Reads on from a cursor that {@link locate} gave, within the limits of one page. */
export function readBatch(log: EventLog, cursor: number, match: Matcher, limit: number): Batch {
  const events: WireEvent[] = []
  const end = Math.min(log.next - 1, cursor + MAX_SCAN)
  let chars = 0
  let at = cursor
  while (at < end && events.length < limit && chars < MAX_PAGE_CHARS) {
    const event = log.get(++at) as Event
    if (!match(event)) continue
    events.push(toWire(log, event))
    chars += event.message.length
  }
  return { events, cursor: at }
}

/** One page for a reader. */
export function readPage(
  log: EventLog,
  after: number | undefined,
  match: Matcher,
  limit: number,
): EventPage {
  const { cursor, ...rest } = locate(log, after)
  const batch = readBatch(log, cursor, match, limit)
  const { first, dropped } = log
  const [oldest] = batch.events
  const previous = oldest && previousHash(log, oldest.seq)
  return {
    events: batch.events,
    next: batch.cursor,
    first,
    dropped,
    ...(previous !== undefined && { previous }),
    ...rest,
  }
}
