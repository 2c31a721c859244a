import type { EventLog } from '../../src/events/log.ts'
import type { PluginMetrics } from '../../src/metrics.ts'
import type { Fifo } from './fifo.ts'
import type { Journal } from './journal.ts'
import type { Recorder } from './recorder.ts'
import type { WaitingRoom } from './waiting.ts'

/** What the figures are read from. */
export interface Measured {
  readonly log: EventLog
  readonly recorder: Recorder
  readonly room: WaitingRoom
  readonly fifo: Fifo | undefined
  readonly journal: Journal | undefined
}

/** Registers the plugin's figures: all are read at a scrape, none is counted while appending. */
export function registerMetrics(metrics: PluginMetrics, measured: Measured): void {
  const { log, recorder, room, fifo, journal } = measured
  metrics.gauge('cvmd_events_total', 'Events recorded since the start, by who wrote them.', () => {
    const lines = fifo?.lines ?? 0
    const internal = Math.max(0, log.appended - lines - recorder.recorded)
    return [
      [{ source: 'fifo' }, lines],
      [{ source: 'http' }, recorder.recorded],
      [{ source: 'internal' }, internal],
    ]
  })
  metrics.gauge('cvmd_events_dropped', 'Events that fell out of memory.', () => log.dropped)
  metrics.gauge('cvmd_event_streams', 'Streams and waiting requests.', () => room.size)
  if (fifo) {
    metrics.gauge('cvmd_fifo_lines_total', 'Lines read from the FIFO.', () => fifo.lines)
    metrics.gauge('cvmd_fifo_lines_cut_total', 'Lines over the size limit.', () => fifo.cut)
  }
  if (journal) {
    metrics.gauge('cvmd_journal_waiting', 'Events not on disk yet.', () => journal.waiting)
    metrics.gauge('cvmd_journal_lost_total', 'Events a failing disk did not take.', () => {
      return journal.lost
    })
  }
}
