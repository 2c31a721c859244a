import { type EventLogEntry, isAcpiEntry } from '../../attest/event-log.ts'
import { RUNTIME_EVENT_TYPE } from '../../attest/runtime-event.ts'

/**
 * The `event_log` of a quote's answer: JSON text with every digest, and without the payloads of
 * boot entries (spec dstack §6.3), which are many times as long and not needed to replay it.
 */
export function quoteEventLog(entries: readonly EventLogEntry[]): string {
  const shown = entries.map((entry) =>
    entry.event_type === RUNTIME_EVENT_TYPE || isAcpiEntry(entry)
      ? entry
      : { ...entry, event_payload: '' },
  )
  return JSON.stringify(shown)
}
