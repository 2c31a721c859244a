import type { EventLog } from '../../src/events/log.ts'
import { locate, type Matcher, readBatch } from './query.ts'
import type { Waiting } from './waiting.ts'

/** Events in one chunk of the stream. */
const BATCH = 256

export interface StreamOptions {
  readonly log: EventLog
  /** The last sequence number the client saw; undefined starts at the oldest event. */
  readonly after: number | undefined
  readonly match: Matcher
  readonly heartbeatMs: number
  /** The place this stream takes; given back when it ends. */
  readonly place: Waiting
}

/**
 * The log as server-sent events (WHATWG HTML §9.2): `id` is the sequence number, `event` is
 * `event`, `gap` (`{from, to}`: these were dropped before the client could see them) or `reset`
 * (`{first}`: the cursor is from an earlier run of the daemon).
 *
 * Nothing is prepared before it is asked for, so a client that does not read costs no memory; what
 * it misses meanwhile becomes a gap.
 */
export function eventStream(options: StreamOptions): ReadableStream<Uint8Array> {
  const { log, match, place } = options
  const encoder = new TextEncoder()
  let cursor = options.after
  let opened = false

  const next = (): string => {
    const position = locate(log, cursor)
    const batch = readBatch(log, position.cursor, match, BATCH)
    let text = ''
    if (position.gap) text += record('gap', position.gap.to, position.gap)
    if (position.reset) text += record('reset', position.cursor, { first: log.first })
    for (const event of batch.events) text += record('event', event.seq, event)
    cursor = batch.cursor
    return text
  }

  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        place.onEnd(() => {
          // A stream the client cancelled is closed already.
          try {
            controller.close()
          } catch {}
        })
      },
      async pull(controller) {
        let text = opened ? next() : `retry: 1000\n\n${next()}`
        opened = true
        while (text === '') {
          const quiet = await place.untilAppended(log, options.heartbeatMs)
          if (place.ended) return
          text = next()
          // The id moves a reconnecting client past events that its filter leaves out.
          if (text === '' && quiet) text = `: heartbeat\nid: ${cursor}\n\n`
        }
        controller.enqueue(encoder.encode(text))
      },
      cancel() {
        place.end()
      },
    },
    { highWaterMark: 0 },
  )
}

function record(event: string, id: number, data: unknown): string {
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
