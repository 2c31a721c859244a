/**
 * RFC 3339 in UTC as Go's `time.RFC3339Nano` prints it: trailing zeros of the fraction cut, and no
 * fraction at all on a whole second.
 *
 * @param ms Unix time in milliseconds.
 */
export function rfc3339(ms: number): string {
  const iso = new Date(ms).toISOString()
  if (iso.endsWith('.000Z')) return `${iso.slice(0, -5)}Z`
  return iso.replace(/0+Z$/, 'Z')
}

/** RFC 3339 in UTC with whole seconds. */
export function rfc3339Seconds(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}
