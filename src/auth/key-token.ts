import { createHash, randomBytes } from 'node:crypto'

/** Length of a key's id: 6 random bytes in hex. */
const ID_BYTES = 6

/** Random bytes of the secret part. */
const SECRET_BYTES = 32

const TOKEN = /^cvmd_([0-9a-f]{12})_[A-Za-z0-9_-]{43}$/

/** What a key's id looks like. */
export const KEY_ID = /^[0-9a-f]{12}$/

/** A fresh token and the id inside it: `cvmd_<id>_<32 random bytes in base64url>`. */
export function createToken(): { id: string; token: string } {
  const id = randomBytes(ID_BYTES).toString('hex')
  return { id, token: `cvmd_${id}_${randomBytes(SECRET_BYTES).toString('base64url')}` }
}

/** The id inside a token; undefined for anything that is no token. */
export function tokenId(token: string): string | undefined {
  return TOKEN.exec(token)?.[1]
}

/**
 * What is stored of a token: SHA-256 of its text, 32 bytes. A slow hash protects passwords people
 * invent; 256 random bits cannot be guessed at any speed, and this one is cheap on each request.
 */
export function tokenDigest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1); undefined for another scheme. */
export function parseBearer(header: string): string | undefined {
  return /^bearer ([A-Za-z0-9._~+/-]+=*)$/i.exec(header)?.[1]
}
