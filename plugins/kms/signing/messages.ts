import { createHash } from 'node:crypto'
import { secp256k1 } from '@noble/curves/secp256k1'
import { ApiError } from '../../../src/errors.ts'
import type { Algorithm } from '../derivation/curves.ts'
import { isEd25519Key, signEd25519, verifyEd25519 } from './ed25519.ts'

/** How data are signed: as they are, hashed with SHA-256, or hashed already. */
export type SigningAlgorithm = Algorithm | 'secp256k1_prehashed'

const DIGEST_BYTES = 32

/**
 * Signs data.
 *
 * @returns 64 bytes: `r || s` with the lower s, or the signature of RFC 8032.
 * @throws {ApiError} 400 when what should be a digest has not 32 bytes.
 */
export function signData(
  algorithm: SigningAlgorithm,
  key: Uint8Array,
  data: Uint8Array,
): Uint8Array {
  if (algorithm === 'ed25519') return signEd25519(key, data)
  return secp256k1.sign(digestOf(algorithm, data, 'signing'), key).toCompactRawBytes()
}

/**
 * Whether a signature is of these data and this key. Of the two values of s only the lower one is
 * taken, so that nobody can make a second valid signature from one.
 *
 * @throws {ApiError} 400 when signature or key cannot be one, or as {@link signData}.
 */
export function verifyData(
  algorithm: SigningAlgorithm,
  publicKey: Uint8Array,
  data: Uint8Array,
  signature: Uint8Array,
): boolean {
  const [isKey, isSignature] =
    algorithm === 'ed25519'
      ? [isEd25519Key(publicKey), signature.length === 64]
      : [isSecp256k1Key(publicKey), isSecp256k1Signature(signature)]
  if (!isKey) throw malformed('PUBLIC_KEY_MALFORMED', 'public key', publicKey)
  if (!isSignature) throw malformed('SIGNATURE_MALFORMED', 'signature', signature)
  if (algorithm === 'ed25519') return verifyEd25519(publicKey, data, signature)
  const digest = digestOf(algorithm, data, 'verification')
  return secp256k1.verify(signature, digest, publicKey, { lowS: true, format: 'compact' })
}

function digestOf(
  algorithm: Exclude<SigningAlgorithm, 'ed25519'>,
  data: Uint8Array,
  task: 'signing' | 'verification',
): Uint8Array {
  if (algorithm === 'secp256k1') return createHash('sha256').update(data).digest()
  if (data.length === DIGEST_BYTES) return data
  throw new ApiError(
    400,
    'DIGEST_LENGTH',
    `Pre-hashed ${task} requires a 32-byte digest, but received ${data.length} bytes`,
  )
}

/** Whether bytes are a point of the curve, in either form of SEC1. */
function isSecp256k1Key(bytes: Uint8Array): boolean {
  try {
    secp256k1.ProjectivePoint.fromHex(bytes)
    return true
  } catch {
    return false
  }
}

/** Whether bytes are two numbers that the order of the curve allows. */
function isSecp256k1Signature(bytes: Uint8Array): boolean {
  try {
    secp256k1.Signature.fromCompact(bytes)
    return true
  } catch {
    return false
  }
}

function malformed(code: string, what: string, { length }: Uint8Array): ApiError {
  const why = `these ${length} bytes are no ${what} of the algorithm`
  return new ApiError(400, code, `Cannot verify: ${why}`)
}
