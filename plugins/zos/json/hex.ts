import { JsonError } from './json-error.ts'

/**
 * Bytes of hex text in either case.
 *
 * @throws {JsonError} In the words of Go's `encoding/hex`.
 */
export function decodeHex(text: string): Uint8Array {
  const wrong = /[^0-9a-fA-F]/u.exec(text)?.[0]
  if (wrong !== undefined) throw new JsonError(`encoding/hex: invalid byte: ${described(wrong)}`)
  if (text.length % 2 === 1) throw new JsonError('encoding/hex: odd length hex string')
  return Uint8Array.from({ length: text.length / 2 }, (_, i) =>
    Number.parseInt(text.slice(2 * i, 2 * i + 2), 16),
  )
}

export function encodeHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** The first byte of its UTF-8 as Go's `%#U` shows it: `U+0078 'x'`. */
function described(character: string): string {
  const [byte = 0] = new TextEncoder().encode(character)
  const number = `U+${byte.toString(16).toUpperCase().padStart(4, '0')}`
  const printable = (byte >= 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad)
  return printable ? `${number} '${String.fromCharCode(byte)}'` : number
}
