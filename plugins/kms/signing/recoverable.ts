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

/**
 * Whose signature it is: a compressed key, 33 bytes. There is one for nearly every signature and
 * message, so it says something only when compared with a key that is known.
 *
 * @param signature As {@link signRecoverable} makes it.
 * @returns Undefined where there is none, or for the higher s.
 */
export function recoverSigner(signature: Uint8Array, message: Uint8Array): Uint8Array | undefined {
  const [recovery = 4] = signature.subarray(64)
  if (signature.length !== 65 || recovery > 3) return undefined
  try {
    const found = secp256k1.Signature.fromCompact(signature.subarray(0, 64))
    if (found.hasHighS()) return undefined
    const signer = found.addRecoveryBit(recovery).recoverPublicKey(keccak_256(message))
    return signer.toRawBytes(true)
  } catch {
    return undefined
  }
}
