import { type ApiError, errnoOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import type { BootInfo } from '../policy/boot-info.ts'

/** The same thing is told once in this time, with the number of those that were left out. */
const WINDOW_MS = 10_000

/** Different things remembered; what strangers ask must not grow without end. */
const MAX_KINDS = 1000

/** What a KMS tells of its requests; names and reasons, nothing that was given. */
export interface RequestEvents {
  /** Keys or a certificate went to somebody. */
  released(method: string, to: BootInfo): void
  refused(method: string, error: ApiError): void
}

/**
 * Writes what was given and refused into the event log. Whoever repeats a request does not push
 * everything else out of it.
 *
 * @param now Monotonic milliseconds.
 */
export function requestEvents(
  events: EventSink,
  now: () => number = () => performance.now(),
): RequestEvents {
  const told = new Map<string, { until: number; leftOut: number }>()
  const tell = (level: 'info' | 'warn' | 'error', text: string) => {
    const known = told.get(text)
    const at = now()
    if (known && at < known.until) {
      known.leftOut += 1
      return
    }
    const more = known && known.leftOut > 0 ? `, and ${known.leftOut} times more before` : ''
    events.append(`${text}${more}`, { level })
    told.delete(text)
    const [oldest] = told.keys()
    if (told.size >= MAX_KINDS && oldest !== undefined) told.delete(oldest)
    told.set(text, { until: at + WINDOW_MS, leftOut: 0 })
  }
  return {
    released: (method, { appId, instanceId }) => {
      const instance = instanceId === '' ? '' : `, instance ${instanceId}`
      tell('info', `${method}: answered app ${appId}${instance}`)
    },
    refused: (method, error) => {
      const reason = errnoOf(error.cause)
      const level = error.status >= 500 ? 'error' : 'warn'
      tell(level, `${method}: refused, ${error.code}${reason === undefined ? '' : ` (${reason})`}`)
    },
  }
}
