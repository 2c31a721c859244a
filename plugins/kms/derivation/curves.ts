import { ed25519 } from '@noble/curves/ed25519'
import { p256 } from '@noble/curves/nist'
import { secp256k1 } from '@noble/curves/secp256k1'

/** What 32 derived bytes are the private key of: a scalar, or the seed of Ed25519. */
export type Algorithm = 'secp256k1' | 'ed25519'

/**
 * The public key of a derived one.
 *
 * @returns SEC1 compressed, 33 bytes; of Ed25519 the 32 bytes of RFC 8032.
 * @throws {Error} When the bytes are no scalar of the curve, which is as likely as guessing a key.
 */
export function publicKeyOf(algorithm: Algorithm, secret: Uint8Array): Uint8Array {
  return algorithm === 'ed25519'
    ? ed25519.getPublicKey(secret)
    : secp256k1.getPublicKey(secret, true)
}

/**
 * The public point of a P-256 scalar, uncompressed, 65 bytes.
 *
 * @throws {Error} When the bytes are no scalar of the curve: one in 2^32 derived values is none.
 */
export function p256PointOf(scalar: Uint8Array): Uint8Array {
  return p256.getPublicKey(scalar, false)
}

/** A fresh P-256 scalar, 32 bytes. */
export function randomP256Scalar(): Uint8Array {
  return p256.utils.randomPrivateKey()
}
