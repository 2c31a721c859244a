const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Appended to a message that was longer than its limit. */
export const CUT_MARK = ' [cut]'

/** A message as text, and as bytes where the text could not hold them. */
export interface DecodedText {
  readonly message: string
  /** Present only when the bytes are not valid UTF-8. */
  readonly raw?: Uint8Array
}

/**
 * Reads bytes of unknown origin as UTF-8. Each byte that is not part of a character becomes one
 * U+FFFD, as in Go's `utf8.DecodeRune` (the decoder of the platform merges some), and the bytes
 * themselves are kept beside the text.
 */
export function decodeText(bytes: Uint8Array): DecodedText {
  const message = UTF8.decode(bytes)
  if (!message.includes('\uFFFD')) return { message }
  let exact = ''
  let valid = true
  for (let at = 0; at < bytes.length; ) {
    const length = characterLength(bytes, at)
    exact += length === 0 ? '\uFFFD' : UTF8.decode(bytes.subarray(at, at + length))
    valid &&= length > 0
    at += length || 1
  }
  // Copied: the caller's buffer is usually one that is read into again.
  return valid ? { message } : { message: exact, raw: bytes.slice() }
}

/** Cuts text to a number of UTF-8 bytes, never inside a character, and marks the cut. */
export function cutBytes(bytes: Uint8Array, limit: number): Uint8Array {
  if (bytes.length <= limit) return bytes
  const mark = new TextEncoder().encode(CUT_MARK)
  const end = boundaryBefore(bytes, limit)
  const cut = new Uint8Array(end + mark.length)
  cut.set(bytes.subarray(0, end))
  cut.set(mark, end)
  return cut
}

/** The largest index up to `limit` that does not split a character; `limit` in invalid text. */
function boundaryBefore(bytes: Uint8Array, limit: number): number {
  for (let back = 1; back <= 3 && back <= limit; back++) {
    const lead = bytes[limit - back] as number
    if ((lead & 0xc0) === 0x80) continue
    return lead >= 0xc0 && characterLength(bytes, limit - back) > back ? limit - back : limit
  }
  return limit
}

/** Length of the UTF-8 character at an index, 0 where there is none (RFC 3629, table in §4). */
function characterLength(bytes: Uint8Array, at: number): number {
  const lead = bytes[at] as number
  if (lead < 0x80) return 1
  const length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0
  if (length === 0 || at + length > bytes.length) return 0
  const second = bytes[at + 1] as number
  const lowest = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80
  const highest = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf
  if (second < lowest || second > highest) return 0
  for (let i = at + 2; i < at + length; i++) {
    if (((bytes[i] as number) & 0xc0) !== 0x80) return 0
  }
  return length
}
