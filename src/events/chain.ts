import { hash } from 'node:crypto'
import type { Event } from './sink.ts'

/** The hash before the first event: 32 zero bytes in hex. */
export const GENESIS = '0'.repeat(64)

/**
 * Hash of an event in the chain: SHA-256, in hex, over the previous hash in hex, a line feed, and
 * the event as the JSON array `[seq,time,source,level,message]`. An event whose bytes are not
 * valid UTF-8 has them in base64 as a sixth element.
 */
export function chainHash(previous: string, event: Event): string {
  const { seq, time, source, level, message, raw } = event
  const canonical = raw
    ? [seq, time, source, level, message, Buffer.from(raw).toString('base64')]
    : [seq, time, source, level, message]
  return hash('sha256', `${previous}\n${JSON.stringify(canonical)}`)
}
