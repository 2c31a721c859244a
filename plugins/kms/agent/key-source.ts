import type { Authority } from '../certificates/authority.ts'
import type { P256Key } from '../certificates/p256-key.ts'
import type { KmsSigner } from './kms-signer.ts'

/** Where the keys of the application come from, and what there is of them. */
export interface KeySource {
  /** For people: `the key file "/dstack/.host-shared/.appkeys.json"`. */
  readonly from: string
  /** Root key of the application, a secp256k1 scalar of 32 bytes. Its owner zeroes it. */
  readonly root: Uint8Array
  /** By which a KMS vouches for the root key, 65 bytes; none without a KMS. */
  readonly rootSignature: Uint8Array
  readonly authority: AuthoritySource
}

/** Who signs certificates of the application. */
export type AuthoritySource =
  | { readonly kind: 'given'; readonly authority: Authority }
  /** It has no certificate yet; the application becomes its own root. */
  | { readonly kind: 'own'; readonly key: P256Key }
  /** The key never leaves the KMS. */
  | { readonly kind: 'kms'; readonly signer: KmsSigner }
