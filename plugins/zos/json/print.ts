/** JSON text that goes out as it is, such as a workload's data. */
export class RawJson {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/**
 * As `JSON.stringify`, but bigints are written as integers and {@link RawJson} as it is. Members that
 * are undefined are left out; a Map becomes an object in its own order, which objects do not keep for
 * names that look like numbers.
 */
export function printJson(value: unknown): string {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof RawJson) return value.text
  if (Array.isArray(value)) return `[${value.map((item) => printJson(item ?? null)).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value ?? null)
  const entries = value instanceof Map ? [...value] : Object.entries(value)
  const members = entries
    .filter(([, member]) => member !== undefined)
    .map(([name, member]) => `${JSON.stringify(name)}:${printJson(member)}`)
  return `{${members.join(',')}}`
}
