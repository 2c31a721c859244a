import { EvidenceError } from './evidence-error.ts'

/** Lower-case hex of bytes. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/**
 * Bytes of hex digits in either case, nothing else: no prefix, no spaces.
 *
 * @param what Names the value in the error: `digest of event 3`.
 * @throws {EvidenceError} `HEX_INVALID`.
 */
export function fromHex(text: string, what: string): Uint8Array {
  if (!isHex(text)) {
    throw new EvidenceError('HEX_INVALID', `Cannot read ${what}: "${text.slice(0, 40)}" is not hex`)
  }
  return new Uint8Array(Buffer.from(text, 'hex'))
}

/** Whether text is an even number of hex digits in either case; so is the empty text. */
export function isHex(text: string): boolean {
  return text.length % 2 === 0 && !/[^0-9a-f]/i.test(text)
}

/** Whether two runs of bytes are the same; for public values, not for secrets. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
