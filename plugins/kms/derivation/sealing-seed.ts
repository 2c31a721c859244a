import { p256PointOf, publicKeyOf } from './curves.ts'
import { hkdf32, RATLS_SALT } from './hkdf.ts'

/** What a sealing seed stands for (spec dstack §7.4). */
export interface ExpandedSeed {
  /** P-256 scalar of the application's certificate authority, 32 bytes. */
  readonly authority: Uint8Array
  /** Root key of the application, 32 bytes. */
  readonly root: Uint8Array
}

/**
 * Expands a seed of 32 bytes.
 *
 * @throws {Error} When a derived key is none of its curve: one seed in 2^32 is useless.
 */
export function expandSeed(seed: Uint8Array): ExpandedSeed {
  const authority = hkdf32(RATLS_SALT, seed, Buffer.from('app-key'))
  const root = hkdf32(RATLS_SALT, seed, Buffer.from('app-k256-key'))
  p256PointOf(authority)
  publicKeyOf('secp256k1', root)
  return { authority, root }
}
