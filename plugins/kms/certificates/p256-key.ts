import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
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
  readonly publicKey: KeyObject
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array
  /** PKCS #8, `PRIVATE KEY`. */
  readonly pem: string
}

const SCALAR_BYTES = 32
const POINT_BYTES = 65

/**
 * The key of a scalar of 32 bytes.
 *
 * @throws {Error} When the bytes are no scalar of the curve.
 */
export function p256Key(scalar: Uint8Array): P256Key {
  const point = p256PointOf(scalar)
  const der = encoded(scalar, point)
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  const key = {
    privateKey,
    publicKey: createPublicKey(privateKey),
    spki: sequence(P256, bitString(point)),
    pem: pemBlock('PRIVATE KEY', der),
  }
  der.fill(0)
  return key
}

/**
 * PKCS #8 (RFC 5958) around the key of RFC 5915 with its public point: 138 bytes. The encoding is
 * part of dstack's protocol, which derives further keys from it (spec dstack §9.2). The caller
 * zeroes it.
 *
 * @param scalar 32 bytes.
 * @throws {Error} When the bytes are no scalar of the curve.
 */
export function p256Pkcs8(scalar: Uint8Array): Uint8Array {
  return encoded(scalar, p256PointOf(scalar))
}

/** RFC 5480 §2.1.1: an elliptic curve key on P-256. */
const P256 = sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7'))

/** The encoding with zeros for the scalar and the point that ends it. */
const TEMPLATE = template()
const POINT_AT = TEMPLATE.length - POINT_BYTES
const SCALAR_AT = 36

function template(): Uint8Array {
  const version = (n: number) => integer(Uint8Array.of(n))
  const scalar = octetString(new Uint8Array(SCALAR_BYTES))
  const point = explicit(1, bitString(new Uint8Array(POINT_BYTES)))
  return sequence(version(0), P256, octetString(sequence(version(1), scalar, point)))
}

/** Written into one buffer, so that no copy of the scalar is left behind. */
function encoded(scalar: Uint8Array, point: Uint8Array): Buffer {
  const der = Buffer.alloc(TEMPLATE.length)
  der.set(TEMPLATE)
  der.set(scalar, SCALAR_AT)
  der.set(point, POINT_AT)
  return der
}
