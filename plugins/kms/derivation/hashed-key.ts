import { createHash } from 'node:crypto'
import { DerReader, TAG } from '../../../src/x509/der-read.ts'
import { readPem } from '../../../src/x509/pem.ts'
import { p256Key } from '../certificates/p256-key.ts'
import { hkdf32, RATLS_SALT } from './hkdf.ts'

/**
 * A secret of 32 bytes by dstack's `derive_dh_secret` (spec dstack §9.2): SHA-256 of the PKCS #8
 * encoding, 138 bytes, of the P-256 key that is derived for a context.
 *
 * @param scalar P-256, 32 bytes.
 * @throws {Error} When the derived bytes are no scalar of the curve: one context in 2^32.
 */
export function hashedKey(scalar: Uint8Array, context: Uint8Array): Uint8Array {
  const derived = hkdf32(RATLS_SALT, scalar, context)
  const [der = new Uint8Array()] = readPem(p256Key(derived).pem, 'PRIVATE KEY', 1)
  derived.fill(0)
  const key = new Uint8Array(createHash('sha256').update(der).digest())
  der.fill(0)
  return key
}

/**
 * The scalar, 32 bytes, of a P-256 key in PKCS #8 (RFC 5958 §2, RFC 5915 §3). The curve is for
 * whoever uses it to check.
 *
 * @throws {EvidenceError} `DER_MALFORMED`.
 */
export function scalarOf(pkcs8: Uint8Array): Uint8Array {
  const info = new DerReader(pkcs8, 'private key').enter(TAG.sequence)
  info.small()
  info.read(TAG.sequence)
  const inner = info.read(TAG.octetString).content
  const key = new DerReader(inner, 'private key').enter(TAG.sequence)
  key.small()
  const { content } = key.read(TAG.octetString)
  if (content.length !== 32) throw key.malformed(`a scalar of ${content.length} bytes`)
  // A copy: the slice of a Buffer would share its memory.
  return new Uint8Array(content)
}
