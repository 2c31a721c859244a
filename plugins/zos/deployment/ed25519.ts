import { createPublicKey, verify } from 'node:crypto'

/** RFC 8410 §4: all of a public key's SubjectPublicKeyInfo but its 32 bytes. */
const HEAD = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]

/**
 * Whether an Ed25519 signature (RFC 8032) is right. Never throws: a key that is none has no right
 * signatures. By the runtime, ten times as fast as in JavaScript.
 *
 * @param publicKey 32 bytes.
 * @param signature 64 bytes.
 */
export function verifyEd25519(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false
  try {
    const der = Buffer.from([...HEAD, ...publicKey])
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' })
    return verify(null, message, key, signature)
  } catch {
    return false
  }
}
