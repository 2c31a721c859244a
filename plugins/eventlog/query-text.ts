import { decodeText } from '../../src/events/text.ts'

/**
 * The first value of a query key, as bytes: form-decoded (`+` is a space), escapes that are no
 * escapes kept as they are. (Go drops such a pair whole, spec system-api §19.)
 *
 * @param url A whole URL; its fragment, if any, is not part of the query.
 */
export function queryBytes(url: string, key: string): Uint8Array | undefined {
  const query = /\?([^#]*)/.exec(url)?.[1] ?? ''
  for (const pair of query.split('&')) {
    const equals = pair.indexOf('=')
    const name = equals === -1 ? pair : pair.slice(0, equals)
    if (decodeText(formDecode(name)).message !== key) continue
    return formDecode(equals === -1 ? '' : pair.slice(equals + 1))
  }
  return undefined
}

function formDecode(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text.replaceAll('+', ' '))
  let size = 0
  for (let at = 0; at < bytes.length; at++, size++) {
    const byte = bytes[at] === 0x25 ? hexPair(bytes, at + 1) : undefined
    bytes[size] = byte ?? (bytes[at] as number)
    if (byte !== undefined) at += 2
  }
  return bytes.subarray(0, size)
}

function hexPair(bytes: Uint8Array, at: number): number | undefined {
  const digits = String.fromCharCode(bytes[at] ?? 0, bytes[at + 1] ?? 0)
  return /^[0-9a-f]{2}$/i.test(digits) ? Number.parseInt(digits, 16) : undefined
}
