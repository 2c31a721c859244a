/**
 * What the first bytes of a connection say:
 *
 * - `more`: the beginning of a ClientHello.
 * - `hello`: all of one; `serverName` in lower case, undefined when the client does not say it.
 * - `invalid`: anything else.
 */
export type Hello =
  | { readonly state: 'more' }
  | { readonly state: 'hello'; readonly serverName: string | undefined }
  | { readonly state: 'invalid'; readonly reason: string }

/** Longest beginning that is looked at. Real ones have up to 2 KB, or some more with large keys. */
export const MAX_HELLO_BYTES = 32 * 1024

const MORE: Hello = { state: 'more' }

/** Content type of a record: RFC 8446, section 5.1. */
const HANDSHAKE = 22
const MAX_RECORD = 2 ** 14
const CLIENT_HELLO = 1
const SERVER_NAME = 0
const HOST_NAME = 0

/**
 * Finds the server name that a TLS client asks for (RFC 8446: section 4.1.2, RFC 6066: section 3),
 * without taking part in the handshake.
 *
 * @param bytes All that was received so far.
 */
export function readClientHello(bytes: Uint8Array): Hello {
  try {
    const message = handshakeMessage(bytes)
    return message ? { state: 'hello', serverName: serverName(message) } : MORE
  } catch (error) {
    if (error instanceof Malformed) return { state: 'invalid', reason: error.message }
    throw error
  }
}

class Malformed extends Error {}

/** The body of the ClientHello, from the records that it is spread over; undefined while cut. */
function handshakeMessage(bytes: Uint8Array): Reader | undefined {
  const parts: Uint8Array[] = []
  let length = 0
  for (let at = 0; ; ) {
    const [type, major, , high = 0, low = 0] = bytes.subarray(at, at + 5)
    if (type !== undefined && type !== HANDSHAKE) throw new Malformed('it is no TLS handshake')
    if (major !== undefined && major !== 3) throw new Malformed('it is no version of TLS')
    if (bytes.length < at + 5) break
    const size = high * 256 + low
    if (size === 0 || size > MAX_RECORD) throw new Malformed(`a record has ${size} bytes`)
    const part = bytes.subarray(at + 5, at + 5 + size)
    parts.push(part)
    length += part.length
    at += 5 + size
    const whole = wanted(parts)
    if (whole !== undefined && length >= whole + 4) {
      return new Reader(join(parts, length).subarray(4, 4 + whole))
    }
    if (bytes.length < at) break
  }
  if (bytes.length >= MAX_HELLO_BYTES) throw new Malformed('its first message is too long')
  return undefined
}

/** Length of the message by its first four bytes; undefined while they are not all there. */
function wanted(parts: readonly Uint8Array[]): number | undefined {
  const [type, a, b, c] = join(parts.slice(0, 4), 4)
  const [first] = parts[0] ?? []
  if (first !== undefined && type !== CLIENT_HELLO) throw new Malformed('it is no ClientHello')
  const known = parts.slice(0, 4).reduce((sum, part) => sum + part.length, 0)
  if (known < 4) {
    if (parts.length >= 4) throw new Malformed('its records are empty')
    return undefined
  }
  const length = (a ?? 0) * 65_536 + (b ?? 0) * 256 + (c ?? 0)
  if (length > MAX_HELLO_BYTES) throw new Malformed('its first message is too long')
  return length
}

/** The first `length` bytes of the parts, or as many as there are, and zeros. */
function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  const all = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    all.set(part.subarray(0, length - at), at)
    at = Math.min(length, at + part.length)
  }
  return all
}

function serverName(hello: Reader): string | undefined {
  hello.take(2 + 32) // legacy_version, random
  hello.take(hello.number(1)) // legacy_session_id
  hello.take(hello.number(2)) // cipher_suites
  hello.take(hello.number(1)) // legacy_compression_methods
  // TLS 1.2 without extensions.
  if (hello.done) return undefined
  const extensions = hello.inner(hello.number(2))
  let found: string | undefined
  let seen = false
  while (!extensions.done) {
    const type = extensions.number(2)
    const extension = extensions.inner(extensions.number(2))
    if (type !== SERVER_NAME) continue
    // What one reader takes for the name must not be another than the next one takes.
    if (seen) throw new Malformed('it names its server twice')
    seen = true
    found = hostName(extension)
  }
  return found
}

function hostName(extension: Reader): string {
  const list = extension.inner(extension.number(2))
  if (!extension.done) throw new Malformed('its server name is followed by something')
  const type = list.number(1)
  const bytes = list.take(list.number(2))
  // RFC 6066 knows one type, and one name of each type.
  if (type !== HOST_NAME || !list.done) throw new Malformed('its server name is of an unknown kind')
  const text = String.fromCharCode(...bytes.subarray(0, 256))
  if (!/^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}$/.test(text))
    throw new Malformed('its server name is no host name')
  return text.replace(/\.$/, '').toLowerCase()
}

/** Takes numbers and bytes off, refusing to go over the end. */
class Reader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#at === this.#bytes.length
  }

  take(length: number): Uint8Array {
    const end = this.#at + length
    if (end > this.#bytes.length) throw new Malformed('a length in it goes beyond its end')
    const taken = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return taken
  }

  number(length: number): number {
    return this.take(length).reduce((value, byte) => value * 256 + byte, 0)
  }

  inner(length: number): Reader {
    return new Reader(this.take(length))
  }
}
