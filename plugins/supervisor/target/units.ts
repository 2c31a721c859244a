/*
 * Sizes and times as compose writes them (spec §10).
 */

const SIZE = /^([0-9]+)([bkmg]?)b?$/i
const POWERS: Readonly<Record<string, number>> = { '': 0, b: 0, k: 1, m: 2, g: 3 }

/** Bytes of `64m`, `1GB`, `1024` or 1024; undefined for anything else, and above 2^53. */
export function readBytes(value: unknown): number | undefined {
  const match = SIZE.exec(typeof value === 'number' ? String(value) : asText(value))
  if (match === null) return undefined
  const [, digits = '', unit = ''] = match
  const bytes = Number(digits) * 1024 ** (POWERS[unit.toLowerCase()] ?? 0)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

const DURATION = /^(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h|d))+$/
const NANOSECONDS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
  d: 86400e9,
}

/** Nanoseconds of `1m30s`, `1.5h`, `500ms`; undefined for anything else, and above 2^53. */
export function readDuration(value: unknown): number | undefined {
  const text = asText(value)
  if (!DURATION.test(text)) return undefined
  let sum = 0
  for (const [, amount = '', unit = ''] of text.matchAll(/([0-9.]+)([a-zµ]+)/g)) {
    sum += Number(amount) * (NANOSECONDS[unit] ?? 0)
  }
  sum = Math.round(sum)
  return Number.isSafeInteger(sum) ? sum : undefined
}

/** A number, or a string that is one. */
export function readNumber(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined
  const text = asText(value)
  return /^-?[0-9]{1,15}(?:\.[0-9]{1,15})?$/.test(text) ? Number(text) : undefined
}

function asText(value: unknown): string {
  return typeof value === 'string' && value.length <= 64 ? value.trim() : ''
}
