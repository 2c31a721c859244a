import { x25519 } from '@noble/curves/ed25519'
import { hashedKey } from './hashed-key.ts'
import { hkdf32, RATLS_SALT } from './hkdf.ts'

/*
 * What a KMS derives from its root keys (spec dstack §9.2). Ids have one length each, so that a
 * context, which has no separators, stands for one set of them.
 */

/** The secrets of a KMS; everything that applications get follows from them. */
export interface RootKeys {
  /**
   * 0 derives exactly what dstack does. Keys that take the place of others have a higher one, which
   * enters every derivation.
   */
  readonly version: number
  /** Scalar of the certificate authority, P-256, 32 bytes. */
  readonly ca: Uint8Array
  /** secp256k1 scalar, 32 bytes. */
  readonly k256: Uint8Array
}

/** Length of an application's and of an instance's id. */
export const ID_BYTES = 20

/** Goes between a context and the version, be32, of root keys that have one. */
const VERSION_LABEL = '\0cvmd-root-version'

/** Scalar of the authority that signs an application's certificates, P-256, 32 bytes. */
export function appCaScalar(root: RootKeys, appId: Uint8Array): Uint8Array {
  return hkdf32(RATLS_SALT, held(root.ca), context(root, 'app-ca', appId))
}

/**
 * The key of an instance's disk, 32 bytes.
 *
 * @param instanceId 20 bytes, or none where the application has no instances.
 */
export function diskKey(root: RootKeys, appId: Uint8Array, instanceId: Uint8Array): Uint8Array {
  const ids = instanceId.length === 0 ? [appId] : [appId, instanceId]
  return hashedKey(held(root.ca), context(root, 'app-disk-crypt-key', ...ids))
}

/** The X25519 secret that opens what is encrypted for an application, 32 bytes. */
export function envKey(root: RootKeys, appId: Uint8Array): Uint8Array {
  return hashedKey(held(root.ca), context(root, 'env-encrypt-key', appId))
}

/** The public half of {@link envKey}, 32 bytes. */
export function envPublicKey(root: RootKeys, appId: Uint8Array): Uint8Array {
  const secret = envKey(root, appId)
  const publicKey = x25519.getPublicKey(secret)
  secret.fill(0)
  return publicKey
}

/** An application's root key, a secp256k1 scalar of 32 bytes; its other keys are below it. */
export function appRootKey(root: RootKeys, appId: Uint8Array): Uint8Array {
  return hkdf32(RATLS_SALT, held(root.k256), context(root, 'app-key', appId))
}

/**
 * By what the root key vouches for an application's, which signatures are over its Keccak-256.
 *
 * @param publicKey Of {@link appRootKey}, compressed, 33 bytes.
 */
export function issuedClaim(appId: Uint8Array, publicKey: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from('dstack-kms-issued:'), appId, publicKey])
}

/**
 * The same for {@link envPublicKey}.
 *
 * @param timestamp Unix time in seconds: with it an old signature does not pass for a new one.
 */
export function envKeyClaim(
  appId: Uint8Array,
  publicKey: Uint8Array,
  timestamp?: number,
): Uint8Array {
  const time = Buffer.alloc(timestamp === undefined ? 0 : 8)
  if (timestamp !== undefined) time.writeBigUInt64BE(BigInt(timestamp))
  return Buffer.concat([Buffer.from('dstack-env-encrypt-pubkey:'), appId, time, publicKey])
}

/**
 * Root keys that were overwritten at the end would give keys that anybody can compute.
 *
 * @throws {Error}
 */
function held(secret: Uint8Array): Uint8Array {
  if (secret.some((byte) => byte !== 0)) return secret
  throw new Error('Cannot derive keys: the root keys are not held any more')
}

/** @throws {RangeError} For an id of another length, which would make contexts ambiguous. */
function context({ version }: RootKeys, label: string, ...ids: readonly Uint8Array[]): Uint8Array {
  const wrong = ids.find(({ length }) => length !== ID_BYTES)
  if (wrong) {
    throw new RangeError(
      `Cannot derive keys: an id has ${wrong.length} bytes, expected ${ID_BYTES}`,
    )
  }
  const plain = Buffer.concat([...ids, Buffer.from(label)])
  if (version === 0) return plain
  const number = Buffer.alloc(4)
  number.writeUInt32BE(version)
  return Buffer.concat([plain, Buffer.from(VERSION_LABEL), number])
}
