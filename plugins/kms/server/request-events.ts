import { type ApiError, errnoOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import { PolicyDenial } from '../policy/denial.ts'

/** The same thing is told once in this time, with the number of those that were left out. */
const WINDOW_MS = 10_000

/** Different things remembered; what strangers ask must not grow without end. */
const MAX_KINDS = 1000

/** Refusals of that time that are told with what was measured. */
const MAX_NAMED = 100

/** What a KMS tells of its requests; names and reasons, nothing that was given. */
export interface RequestEvents {
  /**
   * Keys or a certificate went to somebody.
   *
   * @param version Of the root keys, where it is not the one in use.
   */
  released(method: string, to: BootInfo, version?: number): void
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
  let named = { until: 0, left: MAX_NAMED }
  /** Whoever has a genuine machine can measure what he likes, ever something else. */
  const mayName = (at: number): boolean => {
    if (at >= named.until) named = { until: at + WINDOW_MS, left: MAX_NAMED }
    named.left -= 1
    return named.left >= 0
  }
  const tell = (level: 'info' | 'warn' | 'error', what: string, who = '') => {
    const at = now()
    const isKnown = (text: string) => {
      const known = told.get(text)
      if (!known || at >= known.until) return false
      known.leftOut += 1
      return true
    }
    if (isKnown(what + who)) return
    const text = who === '' || mayName(at) ? what + who : what
    if (text === what && who !== '' && isKnown(what)) return
    const { leftOut = 0 } = told.get(text) ?? {}
    const more = leftOut > 0 ? `, and ${leftOut} times more before` : ''
    events.append(`${text}${more}`, { level })
    told.delete(text)
    const [oldest] = told.keys()
    if (told.size >= MAX_KINDS && oldest !== undefined) told.delete(oldest)
    told.set(text, { until: at + WINDOW_MS, leftOut: 0 })
  }
  return {
    released: (method, { appId, instanceId }, version) => {
      const instance = instanceId === '' ? '' : `, instance ${instanceId}`
      const older = version === undefined ? '' : `, root version ${version}`
      tell('info', `${method}: answered app ${appId}${instance}${older}`)
    },
    refused: (method, error) => {
      const reason = errnoOf(error.cause)
      const level = error.status >= 500 ? 'error' : 'warn'
      const why = reason === undefined ? '' : ` (${reason})`
      const who = error.cause instanceof PolicyDenial ? `, ${error.cause.measured}` : ''
      tell(level, `${method}: refused, ${error.code}${why}`, who)
    },
  }
}
