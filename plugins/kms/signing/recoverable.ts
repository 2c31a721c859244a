import { secp256k1 } from '@noble/curves/secp256k1'
import { keccak_256 } from '@noble/hashes/sha3'

/**
 * A link of a signature chain (spec dstack §7.2): `r || s || v`, 65 bytes, over the Keccak-256 of a
 * message, with the nonce of RFC 6979, the lower s, and v from 0 to 3.
 *
 * @param key secp256k1 scalar, 32 bytes.
 */
export function signRecoverable(key: Uint8Array, message: Uint8Array): Uint8Array {
  const signature = secp256k1.sign(keccak_256(message), key)
  return Uint8Array.of(...signature.toCompactRawBytes(), signature.recovery)
}
