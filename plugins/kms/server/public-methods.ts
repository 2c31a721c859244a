import type { z } from 'zod'
import { hex } from '../../../src/compat/prpc/bytes.ts'
import { ApiError } from '../../../src/errors.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import { envKeyClaim, envPublicKey, ID_BYTES } from '../derivation/kms-keys.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import { type Policy, PolicyError, type PolicyFacts } from '../policy/policy.ts'
import { signRecoverable } from '../signing/recoverable.ts'
import type { EvidenceTrust } from '../trust/verified-evidence.ts'
import type { DerivedKeys } from './derived-keys.ts'
import type { EnvKeyRequest } from './messages.ts'
import { permitSelf } from './permission.ts'
import type { RootMaterial } from './root-material.ts'
import type { Roots } from './root-set.ts'

/** What a KMS answers with. */
export interface Kms {
  /** May change from one reading to the next: keys of an earlier one are overwritten by then. */
  readonly roots: Roots
  /** Keys that are kept for the next time; absent: none are. */
  readonly derived?: DerivedKeys | undefined
  readonly policy: Policy
  /** Whom it believes. */
  readonly trust: EvidenceTrust
  /** What it measured itself; undefined where it needs no permission of its own. */
  readonly self: BootInfo | undefined
  /** Unix time in milliseconds. */
  readonly now: () => number
}

/*
 * What anybody may ask (spec dstack §9.1). Answers have their members in the order of dstack's
 * messages; bytes are hex in them.
 */

/** About the KMS. What the policy cannot tell just now is left at null: the keys do not hang on it. */
export async function getMeta(kms: Kms, signal?: AbortSignal): Promise<object> {
  const facts = await kms.policy.describe(signal).catch((error): PolicyFacts => {
    if (error instanceof PolicyError) return { isDev: false }
    throw error
  })
  const { current, versions } = kms.roots
  const { root, info } = current
  return {
    ca_cert: ownCertificate(current),
    allow_any_upgrade: facts.isDev,
    k256_pubkey: hex(publicKeyOf('secp256k1', root.k256)),
    bootstrap_info: info
      ? {
          ca_pubkey: hex(info.caPublicKey),
          k256_pubkey: hex(info.k256PublicKey),
          attestation: hex(info.attestation),
        }
      : null,
    is_dev: facts.isDev,
    gateway_app_id: facts.gatewayAppId ?? null,
    kms_contract_address: facts.kmsContractAddress ?? null,
    chain_id: facts.chainId ?? null,
    app_auth_implementation: facts.appImplementation ?? null,
    root_version: root.version,
    root_versions: versions,
  }
}

/** With what clients mint the certificate they come back with. */
export async function getTempCaCert(kms: Kms, signal?: AbortSignal): Promise<object> {
  await permitSelf(kms.policy, kms.self, signal)
  const { current } = kms.roots
  return {
    temp_ca_cert: current.temporaryCa.certificate,
    temp_ca_key: current.temporaryCa.key.pem,
    ca_cert: ownCertificate(current),
  }
}

/**
 * To which key the environment of an application is encrypted.
 *
 * @throws {ApiError} 400 `INVALID_REQUEST` for another length of the id, or as {@link versionOf}.
 */
export async function getAppEnvEncryptPubKey(
  kms: Kms,
  { app_id: appId, root_version }: z.output<typeof EnvKeyRequest>,
  signal?: AbortSignal,
): Promise<object> {
  await permitSelf(kms.policy, kms.self, signal)
  if (appId.length !== ID_BYTES) {
    throw new ApiError(400, 'INVALID_REQUEST', 'app_id must be 20 bytes')
  }
  const { root } = versionOf(kms.roots, root_version)
  const publicKey = envPublicKey(root, appId)
  const timestamp = Math.floor(kms.now() / 1000)
  return {
    public_key: hex(publicKey),
    signature: hex(signRecoverable(root.k256, envKeyClaim(appId, publicKey))),
    timestamp,
    signature_v1: hex(signRecoverable(root.k256, envKeyClaim(appId, publicKey, timestamp))),
    root_version: root.version,
  }
}

/**
 * The version that somebody names, or the current one.
 *
 * @throws {ApiError} 400 `INVALID_REQUEST`, naming the versions that there are.
 */
export function versionOf(roots: Roots, version: number | undefined): RootMaterial {
  const found = version === undefined ? roots.current : roots.materialOf(version)
  if (found) return found
  const message = `Unknown root version: ${version}; there are ${roots.versions.join(', ')}`
  throw new ApiError(400, 'INVALID_REQUEST', message)
}

/** The root certificate, PEM. */
export function ownCertificate({ authority }: RootMaterial): string {
  return authority.chain[0] ?? ''
}
