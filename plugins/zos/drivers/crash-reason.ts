/** Lines of a machine's log in the reason of its crash. */
export const CRASH_LINES = 20

const MAX_REASON = 4000

/**
 * Why a machine ended, for people.
 *
 * @param log Its last lines; '' for none.
 */
export function crashReason(end: string, log: string): string {
  const tail = log === '' ? '' : `; last lines of its log:\n${log}`
  const reason = `machine ended${end}${tail}`
  return reason.length <= MAX_REASON ? reason : `${reason.slice(0, MAX_REASON - 1)}…`
}
