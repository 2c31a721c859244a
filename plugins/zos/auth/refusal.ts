import { ZosError } from '../zos-error.ts'

/** Who calls is not proven, and why. */
export function refusal(why: string, options?: ErrorOptions): ZosError {
  return new ZosError('authentication', why, options)
}

/** A twin's id in decimal digits, from 1 to 2^32 - 1; undefined for anything else. */
export function twinIdOf(text: unknown): number | undefined {
  if (typeof text !== 'string' || !/^\d{1,10}$/.test(text)) return undefined
  const id = Number(text)
  return id >= 1 && id <= 0xffff_ffff ? id : undefined
}

/** A part of a header as an error quotes it. */
export function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length <= 64 ? text : `${text.slice(0, 64)}…`
}
