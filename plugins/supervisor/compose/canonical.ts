import { createHash } from 'node:crypto'

/** A JSON value. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [name: string]: Json }

/**
 * JSON with the members of every object in the order of their names (UTF-16 units) and without
 * blanks: equal values have one text. Members that are undefined do not count.
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part
    const names = Object.keys(part).sort()
    return Object.fromEntries(names.map((name) => [name, (part as Record<string, unknown>)[name]]))
  })
}

/** 64 hex digits. */
export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
