const RFC3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)(?!\w)/
const UNIX = /^(\d{10}|\d{13})(?:\.\d{1,9})?(?!\w)/

/**
 * The time a line of text starts with: RFC 3339, or Unix time in seconds (10 digits) or
 * milliseconds (13), a fraction allowed (flashbots/system-api PR #10).
 *
 * @returns Unix time in milliseconds, or undefined where the line starts with none.
 */
export function leadingTime(line: string): number | undefined {
  const stamp = RFC3339.exec(line)?.[0]
  if (stamp !== undefined) {
    const ms = Date.parse(stamp.replace(' ', 'T').toUpperCase())
    return Number.isNaN(ms) || ms < 0 ? undefined : ms
  }
  const unix = UNIX.exec(line)
  if (!unix) return undefined
  const whole = unix[1] as string
  return whole.length === 13 ? Number(whole) : Math.floor(Number(unix[0]) * 1000)
}
