import { GENESIS } from './chain.ts'
import type { EventLog } from './log.ts'
import type { Event, Level } from './sink.ts'

/** An event as the native API sends it. */
export interface WireEvent {
  readonly seq: number
  /** RFC 3339 in UTC with milliseconds. */
  readonly time: string
  readonly source: string
  readonly level: Level
  readonly message: string
  /** The message's bytes in base64, only where they are not valid UTF-8. */
  readonly raw?: string
  /** Position in the chain, 64 hex digits; see `chainHash`. */
  readonly hash: string
}

/** A run of sequence numbers a reader can no longer get, both ends included. */
export interface EventGap {
  readonly from: number
  readonly to: number
}

/** One page of the event log, as `GET /cvmd/events` sends it. */
export interface EventPage {
  readonly events: readonly WireEvent[]
  /** Give it as `after` to go on: every event up to it was looked at. */
  readonly next: number
  /** Sequence number of the oldest event still kept. */
  readonly first: number
  /** Events that fell out of the ring since the daemon started. */
  readonly dropped: number
  /**
   * Hash before the first event of the page, from which that event's own follows; absent where the
   * event before it fell out of the ring, or was never in it.
   */
  readonly previous?: string
  /** Events after the reader's cursor that are gone. */
  readonly gap?: EventGap
  /** The cursor is from another run of the daemon; the page starts at the oldest event. */
  readonly reset?: true
}

/** The hash that an event's own follows from; undefined where the event before it is not there. */
export function previousHash(log: EventLog, seq: number): string | undefined {
  return seq === 1 ? GENESIS : log.hash(seq - 1)
}

/** An event that is in the log, as it is sent. */
export function toWire(log: EventLog, event: Event): WireEvent {
  const { seq, time, source, level, message, raw } = event
  const hash = log.hash(seq) as string
  const wire = { seq, time: new Date(time).toISOString(), source, level, message, hash }
  return raw === undefined ? wire : { ...wire, raw: Buffer.from(raw).toString('base64') }
}
