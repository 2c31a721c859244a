import type { EventSink } from '../events/sink.ts'
import type { Exchange } from '../http/exchange.ts'
import { peerGroup } from './throttle.ts'

/** Length of a window, in milliseconds. */
const WINDOW_MS = 60_000

/** Pairs of peer and reason told apart in one window; the rest is only counted. */
const MAX_PAIRS = 32

const MAX_PATH = 200

/** Records refused calls. */
export interface Audit {
  /** As `PipelineOptions.refused` wants it. */
  refused(exchange: Exchange, method: string, path: string, why: string): void
  /** Records what was only counted so far; for the end of the process. */
  flush(): void
}

interface Pair {
  readonly peer: string
  readonly why: string
  /** Refusals since the last event about this pair. */
  count: number
}

/**
 * Turns refused calls into events so that nobody can push other events out of the ring by being
 * refused: the first refusal of a peer for a reason is recorded at once, the next ones once a
 * minute as a count, and what more than 32 such pairs a minute cause as one count for all.
 *
 * Reasons are told apart without the values they quote, which the caller chooses. Query strings,
 * where secrets may be, are never recorded.
 *
 * @param now Monotonic milliseconds.
 */
export function createAudit(events: EventSink, now: () => number = () => performance.now()): Audit {
  const pairs = new Map<string, Pair>()
  let others = 0
  let windowEnd = 0

  function record(text: string): void {
    events.append(text, { level: 'warn' })
  }

  function flush(): void {
    for (const [key, pair] of pairs) {
      // A pair that stays noisy keeps its place, so that it gets one event a minute, not two.
      if (pair.count === 0) pairs.delete(key)
      else record(`refused ${pair.count} more requests from ${pair.peer}: ${pair.why}`)
      pair.count = 0
    }
    if (others > 0) record(`refused ${others} more requests from other addresses`)
    others = 0
  }

  return {
    flush,
    refused(exchange, method, path, why) {
      const at = now()
      if (at >= windowEnd) {
        flush()
        windowEnd = at + WINDOW_MS
      }
      const key = `${peerGroup(exchange)}\n${why.replace(/"[^"]*"?/g, '')}`
      const known = pairs.get(key)
      if (known !== undefined) known.count++
      else if (pairs.size >= MAX_PAIRS) others++
      else {
        const pair = { peer: exchange.peer().address, why: clean(why), count: 0 }
        pairs.set(key, pair)
        const [target = ''] = path.split('?')
        record(`refused ${clean(method)} ${clean(target)} from ${pair.peer}: ${pair.why}`)
      }
    },
  }
}

// C0, DEL, C1, line separators, and the marks that turn the direction of text.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g

function clean(text: string): string {
  const cut = text.length > MAX_PATH ? `${text.slice(0, MAX_PATH)}…` : text
  return cut.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
