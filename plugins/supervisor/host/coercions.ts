/*
 * The values balena's supervisor takes from a request body (spec §3.1). All of them take anything
 * and throw nothing.
 */

/** `true`, `1`, and the texts `1`, `true` and `on` in any case; everything else is false. */
export function truthy(value: unknown): boolean {
  if (typeof value === 'string') return ['1', 'true', 'on'].includes(value.toLowerCase())
  return value === true || value === 1
}

/** A whole number, or a text like `101`, `-3` or `101.0`; undefined for anything else. */
export function wholeNumber(value: unknown): number | undefined {
  if (typeof value !== 'number' && typeof value !== 'string') return undefined
  if (!/^-?[0-9]+\.?0*$/.test(String(value))) return undefined
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : undefined
}

/** A text that is not empty and not the word `null` or `undefined`. */
export function textOf(value: unknown): string | undefined {
  if (typeof value !== 'string' || ['', 'null', 'undefined'].includes(value)) return undefined
  return value
}
