const RFC_3339 = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))$/

/**
 * Seconds since 1970 of a date as Go's `time.Time` takes it from JSON; parts of seconds are cut.
 * Undefined for anything else, such as February 30th or a leap second.
 */
export function parseRfc3339(text: string): bigint | undefined {
  const match = RFC_3339.exec(text)
  if (match === null) return undefined
  const part = (i: number) => Number(match[i] ?? 0)
  const [year, month, day] = [part(1), part(2), part(3)]
  const [hour, minute, second] = [part(4), part(5), part(6)]
  const [offsetHours, offsetMinutes] = [part(8), part(9)]
  if (hour > 23 || minute > 59 || second > 59 || offsetHours > 23 || offsetMinutes > 59) {
    return undefined
  }
  const date = new Date(0)
  // Date.UTC takes years below 100 for the 1900s.
  date.setUTCFullYear(year, month - 1, day)
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined
  const offset = (offsetHours * 60 + offsetMinutes) * (match[7] === '-' ? -60 : 60)
  return BigInt(date.getTime() / 1000 + hour * 3600 + minute * 60 + second - offset)
}
