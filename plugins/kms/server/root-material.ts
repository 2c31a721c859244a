import { randomFillSync } from 'node:crypto'
import { type Authority, selfSigned } from '../certificates/authority.ts'
import { type P256Key, p256Key } from '../certificates/p256-key.ts'
import { rootName } from '../certificates/root-name.ts'
import { publicKeyOf, randomP256Scalar } from '../derivation/curves.ts'
import type { RootKeys } from '../derivation/kms-keys.ts'

/**
 * What a KMS is with one version of root keys; its cluster shares everything but the domain. Domain
 * and temporary authority are the same in all versions.
 */
export interface RootMaterial {
  readonly root: RootKeys
  /** Of the key `root.ca`. */
  readonly authority: Authority
  /** Whose key is public: what it signs is authenticated by the evidence inside alone. */
  readonly temporaryCa: { readonly certificate: string; readonly key: P256Key }
  /** DNS name or IP address at which clients know it. */
  readonly domain: string
  /** Absent where the keys came from another KMS, and in versions above 0. */
  readonly info: BootstrapInfo | undefined
}

/** What Bootstrap answered, and GetMeta repeats (spec dstack §9.1). */
export interface BootstrapInfo {
  /** SubjectPublicKeyInfo of the certificate authority, DER. */
  readonly caPublicKey: Uint8Array
  /** Compressed, 33 bytes. */
  readonly k256PublicKey: Uint8Array
  /** Evidence over both keys; empty where none was made. */
  readonly attestation: Uint8Array
}

/** Fresh root keys. */
export function randomRootKeys(version = 0): RootKeys {
  for (;;) {
    const k256 = randomFillSync(new Uint8Array(32))
    try {
      publicKeyOf('secp256k1', k256)
      return { version, ca: randomP256Scalar(), k256 }
    } catch {
      // Less than one in 2^127 is no scalar of the curve.
    }
  }
}

/**
 * Fresh certificates for keys, in the names of dstack (spec dstack §9.5), valid for ten years.
 *
 * @param temporary Scalar of the temporary authority; default a fresh one.
 */
export function createMaterial(
  root: RootKeys,
  domain: string,
  info: BootstrapInfo | undefined,
  temporary: Uint8Array = randomP256Scalar(),
): RootMaterial {
  const key = p256Key(temporary)
  const [certificate = ''] = selfSigned(key, TEMPORARY_CA, []).chain
  return { root, authority: rootAuthority(root), temporaryCa: { certificate, key }, domain, info }
}

/** The authority that root keys are, with a fresh certificate valid for ten years. */
export function rootAuthority({ version, ca }: RootKeys): Authority {
  return selfSigned(p256Key(ca), rootName(version), [])
}

const TEMPORARY_CA = [
  ['O', 'Dstack'],
  ['CN', 'Dstack Client Temp CA'],
] as const
