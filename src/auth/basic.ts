/** Longest `Authorization` header that is looked at, in characters; anything longer is refused. */
export const MAX_AUTHORIZATION = 8192

/** The one user system-api knows (spec system-api §9). */
export const BASIC_USER = 'admin'

/** What a Basic header carries. */
export interface BasicCredentials {
  /** Bytes before the first `:`, one character per byte. */
  readonly user: string
  /** Everything after the first `:`, as the raw bytes the client sent. */
  readonly password: Uint8Array
}

const SCHEME = /^basic /i
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
const COLON = 0x3a

/**
 * Reads `Authorization: Basic …` exactly as system-api does: the scheme in any case, one space,
 * standard base64 with its padding, and a `:` in what it decodes to.
 *
 * @returns undefined for anything else, and for headers over {@link MAX_AUTHORIZATION}.
 * @see Go `net/http`, `parseBasicAuth`.
 */
export function parseBasic(header: string): BasicCredentials | undefined {
  if (header.length > MAX_AUTHORIZATION || !SCHEME.test(header)) return undefined
  const encoded = header.slice(6)
  // Buffer skips what is not base64 and needs no padding, so the text is checked first.
  if (!BASE64.test(encoded)) return undefined
  const bytes = Buffer.from(encoded, 'base64')
  const colon = bytes.indexOf(COLON)
  if (colon === -1) return undefined
  return { user: bytes.toString('latin1', 0, colon), password: bytes.subarray(colon + 1) }
}
