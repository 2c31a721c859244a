import type { Counter, Labels } from '../../../src/metrics.ts'

/** Requests that ended alike. */
export interface RequestCount {
  readonly method: string
  readonly outcome: string
  readonly reason: string
  readonly count: number
}

/** A counter that can be read. */
export interface RequestCounts {
  /** To be counted with; passes everything on. */
  readonly counter: Counter
  /** In the order they first occurred. */
  read(): readonly RequestCount[]
}

/** Ends that are told apart; what is more is counted as one. */
const MAX_KINDS = 1000

/** Counts what goes to a counter of the metrics, which nobody but a scraper can read. */
export function countRequests(metric: Counter): RequestCounts {
  const counts = new Map<string, RequestCount>()
  const add = ({ method = '', outcome = '', reason = '' }: Labels, by: number) => {
    const key = JSON.stringify([method, outcome, reason])
    const known = counts.get(key) ?? { method, outcome, reason, count: 0 }
    counts.set(key, { ...known, count: known.count + by })
  }
  const isNew = ({ method = '', outcome = '', reason = '' }: Labels) =>
    !counts.has(JSON.stringify([method, outcome, reason]))
  return {
    counter: {
      inc(labels = {}, by = 1) {
        metric.inc(labels, by)
        const full = counts.size >= MAX_KINDS && isNew(labels)
        add(full ? { method: 'other', outcome: 'other' } : labels, by)
      },
    },
    read: () => [...counts.values()],
  }
}
