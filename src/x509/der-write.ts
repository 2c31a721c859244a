/** Distinguished encoding rules (X.690), writing only: the few types a certificate needs. */

/** A complete element: tag, length, content. */
export type Der = Uint8Array

/** An element of any tag around the given bytes. */
export function element(tag: number, ...content: readonly Uint8Array[]): Der {
  const body = Buffer.concat(content)
  return Buffer.concat([Uint8Array.of(tag), derLength(body.byteLength), body])
}

/** The length octets: one up to 127, else their count and then big-endian. */
export function derLength(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length)
  const octets: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256)
  return Uint8Array.of(0x80 | octets.length, ...octets)
}

export const sequence = (...items: readonly Der[]): Der => element(0x30, ...items)
export const set = (...items: readonly Der[]): Der => element(0x31, ...items)
export const octetString = (bytes: Uint8Array): Der => element(0x04, bytes)
export const utf8String = (text: string): Der => element(0x0c, Buffer.from(text))
export const TRUE: Der = element(0x01, Uint8Array.of(0xff))

/** `[n] EXPLICIT`, around complete elements. */
export const explicit = (n: number, ...items: readonly Der[]): Der => element(0xa0 | n, ...items)

/** `[n] IMPLICIT` of a primitive type: the content alone. */
export const implicit = (n: number, content: Uint8Array): Der => element(0x80 | n, content)

/** A non-negative integer from its big-endian bytes, in the shortest form. */
export function integer(bytes: Uint8Array): Der {
  let start = 0
  while (start < bytes.length - 1 && bytes[start] === 0) start++
  const shortest = bytes.subarray(start)
  // The top bit is the sign, so a zero goes before a set one.
  const sign = ((shortest[0] ?? 0) & 0x80) !== 0 || shortest.length === 0 ? [0] : []
  return element(0x02, Uint8Array.from(sign), shortest)
}

/** Bytes as a bit string, the last `unused` bits of it left out. */
export const bitString = (bytes: Uint8Array, unused = 0): Der =>
  element(0x03, Uint8Array.of(unused), bytes)

/** An object identifier from its dotted form, at least two arcs. */
export function oid(dotted: string): Der {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const octets: number[] = []
  for (const arc of [first * 40 + second, ...rest]) {
    const group = [arc % 128]
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) {
      group.unshift(0x80 | (left % 128))
    }
    octets.push(...group)
  }
  return element(0x06, Uint8Array.from(octets))
}

/**
 * A certificate's time (RFC 5280 §4.1.2.5): UTCTime through 2049, GeneralizedTime from 2050.
 *
 * @param ms Unix time in milliseconds; cut to whole seconds.
 */
export function time(ms: number): Der {
  const digits = `${new Date(ms).toISOString().slice(0, 19).replace(/[-T:]/g, '')}Z`
  const short = digits < '2050'
  return element(short ? 0x17 : 0x18, Buffer.from(short ? digits.slice(2) : digits))
}
