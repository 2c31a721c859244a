import { createPrivateKey, type KeyObject } from 'node:crypto'
import {
  bitString,
  explicit,
  integer,
  octetString,
  oid,
  sequence,
} from '../../../src/x509/der-write.ts'
import { pemBlock } from '../../../src/x509/issue.ts'
import { p256PointOf } from '../derivation/curves.ts'

/** A P-256 key in the forms that certificates and answers need. */
export interface P256Key {
  readonly privateKey: KeyObject
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array
  /** PKCS #8, `PRIVATE KEY`. */
  readonly pem: string
}

/**
 * The key of a scalar of 32 bytes.
 *
 * @throws {Error} When the bytes are no scalar of the curve.
 */
export function p256Key(scalar: Uint8Array): P256Key {
  const point = p256PointOf(scalar)
  const info = pkcs8(scalar, point)
  const der = Buffer.from(info.buffer, info.byteOffset, info.byteLength)
  const key = {
    privateKey: createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }),
    spki: sequence(P256, bitString(point)),
    pem: pemBlock('PRIVATE KEY', der),
  }
  der.fill(0)
  return key
}

/** RFC 5480 §2.1.1: an elliptic curve key on P-256. */
const P256 = sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7'))

/**
 * PKCS #8 around the key of RFC 5915 with its public point: 138 bytes. The encoding is part of
 * dstack's protocol, which derives further keys from it (spec dstack §9.2).
 */
function pkcs8(scalar: Uint8Array, point: Uint8Array): Uint8Array {
  const version = (n: number) => integer(Uint8Array.of(n))
  const key = sequence(version(1), octetString(scalar), explicit(1, bitString(point)))
  return sequence(version(0), P256, octetString(key))
}
