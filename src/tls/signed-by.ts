import { type KeyObject, verify } from 'node:crypto'
import { DerReader, TAG } from '../x509/der-read.ts'
import { isSignedBy, type Signed } from '../x509/signed.ts'

// RFC 4055 §5: PKCS #1 version 1.5.
const RSA: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
}

/**
 * Whether the key signed a certificate or a revocation list, by ECDSA or RSA with SHA-2, or Ed25519.
 * Evidence is only ever signed by ECDSA, authorities of an organisation use all of them.
 */
export function isSigned(signed: Signed, key: KeyObject): boolean {
  if (isSignedBy(signed, key)) return true
  const oid = new DerReader(signed.algorithm, 'algorithm').enter(TAG.sequence).oid()
  const hash = Object.hasOwn(RSA, oid) ? RSA[oid] : undefined
  const { asymmetricKeyType: kind } = key
  const rsa = kind === 'rsa' && hash !== undefined
  // RFC 8410 §3.
  if (!rsa && !(kind === 'ed25519' && oid === '1.3.101.112')) return false
  try {
    return verify(hash, signed.tbs, key, signed.signature)
  } catch {
    return false
  }
}
