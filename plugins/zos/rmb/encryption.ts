import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import { secp256k1 } from '@noble/curves/secp256k1'
import { joined } from './protobuf.ts'

const NONCE_BYTES = 12
const TAG_BYTES = 16
const CIPHER = 'aes-256-gcm'

/**
 * The key two twins share (spec §10.3): SHA-256 of the x coordinate of their secp256k1 point.
 *
 * @param secret Own private key, 32 bytes.
 * @param pk The other's compressed public key, 33 bytes.
 * @returns 32 bytes, the same for both.
 * @throws {TypeError} When `pk` is no point of the curve.
 */
export function sharedKey(secret: Uint8Array, pk: Uint8Array): Uint8Array {
  let point: Uint8Array
  try {
    point = secp256k1.getSharedSecret(secret, pk, true)
  } catch {
    // The library's words may hold a key.
    throw new TypeError('Cannot agree on a key: the public key of the other twin is not valid')
  }
  return new Uint8Array(createHash('sha256').update(point.subarray(1)).digest())
}

/** The public key of a secret for {@link sharedKey}: compressed, 33 bytes. */
export function encryptionKey(secret: Uint8Array): Uint8Array {
  return secp256k1.getPublicKey(secret, true)
}

/**
 * @param nonce 12 bytes, for tests; random where it is left out, as it must be.
 * @returns Nonce, AES-256-GCM of `plain`, tag.
 */
export function encrypt(
  key: Uint8Array,
  plain: Uint8Array,
  nonce: Uint8Array = randomBytes(NONCE_BYTES),
): Uint8Array {
  const cipher = createCipheriv(CIPHER, key, nonce)
  const body = cipher.update(plain)
  return joined([nonce, body, cipher.final(), cipher.getAuthTag()])
}

/**
 * @param sealed As {@link encrypt} writes it.
 * @throws {RangeError} When it was made with another key, was changed, or is cut off.
 */
export function decrypt(key: Uint8Array, sealed: Uint8Array): Uint8Array {
  const refusal = 'Cannot decrypt the payload: it was encrypted for another key, or changed'
  if (sealed.length < NONCE_BYTES + TAG_BYTES) throw new RangeError(refusal)
  const end = sealed.length - TAG_BYTES
  try {
    const options = { authTagLength: TAG_BYTES }
    const decipher = createDecipheriv(CIPHER, key, sealed.slice(0, NONCE_BYTES), options)
    decipher.setAuthTag(sealed.slice(end))
    return joined([decipher.update(sealed.slice(NONCE_BYTES, end)), decipher.final()])
  } catch (cause) {
    throw new RangeError(refusal, { cause })
  }
}
