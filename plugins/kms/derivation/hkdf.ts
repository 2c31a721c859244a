import { createHmac } from 'node:crypto'

/** Salt of everything that dstack derives but the keys of v1 (spec dstack §7.1, §9.2). */
export const RATLS_SALT = 'RATLS'

/**
 * The first 32 bytes of HKDF-SHA256 (RFC 5869), by HMAC: what the runtimes offer refuses an `info`
 * of some kilobytes, and the path of a key has no limit.
 */
export function hkdf32(salt: string, secret: Uint8Array, info: Uint8Array): Uint8Array {
  const extracted = createHmac('sha256', salt).update(secret).digest()
  const expanded = createHmac('sha256', extracted).update(info).update(FIRST_BLOCK).digest()
  extracted.fill(0)
  return expanded
}

const FIRST_BLOCK = Uint8Array.of(1)
