import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519'
import { bitString, integer, octetString, oid, sequence } from '../../../src/x509/der-write.ts'

/*
 * Ed25519 (RFC 8032) by the runtime, which is as fast for half a megabyte of data as for a word; in
 * JavaScript that would hold up every other request.
 */

/** RFC 8410 §3. */
const ED25519 = sequence(oid('1.3.101.112'))

/** @param seed 32 bytes. */
export function signEd25519(seed: Uint8Array, data: Uint8Array): Uint8Array {
  // RFC 8410 §7: version 0, and an octet string within the octet string.
  const info = sequence(integer(Uint8Array.of(0)), ED25519, octetString(octetString(seed)))
  const der = Buffer.from(info.buffer, info.byteOffset, info.byteLength)
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  der.fill(0)
  return sign(null, data, key)
}

/** Whether bytes are a point of the curve in the form of a public key. */
export function isEd25519Key(bytes: Uint8Array): boolean {
  try {
    ed25519.ExtendedPoint.fromHex(bytes)
    return true
  } catch {
    return false
  }
}

/**
 * @param publicKey As {@link isEd25519Key} accepts it.
 * @param signature 64 bytes.
 */
export function verifyEd25519(
  publicKey: Uint8Array,
  data: Uint8Array,
  signature: Uint8Array,
): boolean {
  const der = Buffer.from(sequence(ED25519, bitString(publicKey)))
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' })
  return verify(null, data, key, signature)
}
