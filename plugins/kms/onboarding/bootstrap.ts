import { keccak_256 } from '@noble/hashes/sha3'
import {
  type Container,
  type ContainerPlatform,
  writeContainer,
} from '../../../src/attest/container.ts'
import { toHex } from '../../../src/attest/hex.ts'
import { mrAggregated, nitroImageHash } from '../../../src/attest/identity.ts'
import { parseDocument } from '../../../src/attest/nitro/document.ts'
import { parseQuote } from '../../../src/attest/tdx/quote.ts'
import { p256Key } from '../certificates/p256-key.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import type { RootKeys } from '../derivation/kms-keys.ts'
import type { Policy } from '../policy/policy.ts'
import { type BootstrapInfo, createMaterial, randomRootKeys } from '../server/root-material.ts'
import { zero } from '../server/root-set.ts'
import { assertAllowedKms } from './allowed.ts'
import { type OwnEvidenceParts, ownEvidence, verifiedSelf } from './own-evidence.ts'
import { assertNoRootKeys, checkedDomain, storeRootKeys, type Target } from './store.ts'

/** What root keys are made with. */
export interface BootstrapOptions extends Target, OwnEvidenceParts {
  /** DNS name or IP address at which clients are going to know this KMS. */
  readonly domain: string
  readonly policy: Policy
  /** Whether the policy has to allow this KMS itself. */
  readonly enforceSelf: boolean
}

/**
 * What Bootstrap answers: the members of dstack, and those of the seed API (spec dstack §2.4). All
 * are public, and hex.
 */
export interface BootstrapAnswer {
  /** SubjectPublicKeyInfo of the certificate authority, DER. */
  readonly ca_pubkey: string
  /** Compressed, 33 bytes. */
  readonly k256_pubkey: string
  /** Evidence over both keys in the attestation container, whole. */
  readonly attestation: string
  /** The same as `k256_pubkey`. */
  readonly publicKey: string
  /** `mr_aggregated` of this machine, 32 bytes. */
  readonly measurement: string
}

/**
 * Makes root keys, with evidence that they are from here, and writes them for good. Everything that
 * can fail does so before, so that a machine which is not allowed to be a KMS leaves no keys behind.
 *
 * @throws {ApiError} 400 `DOMAIN_INVALID`, `WRONG_PLATFORM`; 403 `KMS_NOT_ALLOWED`; 409
 *   `ROOT_KEYS_EXIST`; 500 `INTERNAL_ERROR`, `ROOT_KEYS_NOT_WRITTEN`; 502 `EVIDENCE_UNUSABLE`; as
 *   `deviceProblem` says.
 * @throws {Error} The system error.
 */
export async function bootstrap(options: BootstrapOptions): Promise<BootstrapAnswer> {
  const { policy, enforceSelf, signal } = options
  const domain = checkedDomain(options.domain)
  await assertNoRootKeys(options, 'bootstrapped')
  const root = randomRootKeys()
  try {
    const { reportData, ...keys } = publicKeysOf(root)
    const container = await ownEvidence(options, reportData, 'bootstrap', signal)
    if (enforceSelf) {
      const { boot } = await verifiedSelf(options, container, reportData)
      await assertAllowedKms(policy, boot, 'KMS is not allowed to bootstrap', signal)
    }
    const info = { ...keys, attestation: writeContainer(container) }
    await storeRootKeys(options, createMaterial(root, domain, info), 'bootstrapped')
    return answerOf(info, container)
  } finally {
    zero(root)
  }
}

/**
 * The report data by which evidence vouches for root keys (spec dstack §6.1), 64 bytes. The
 * misspelling is part of the protocol.
 *
 * @param caPublicKey SubjectPublicKeyInfo, DER.
 * @param k256PublicKey Compressed, 33 bytes.
 */
export function bootstrapReportData(
  caPublicKey: Uint8Array,
  k256PublicKey: Uint8Array,
): Uint8Array {
  const keys = `${toHex(caPublicKey)};${toHex(k256PublicKey)};`
  const reportData = new Uint8Array(64)
  reportData.set(keccak_256(`dstack-kms-genereted-keys-v1:${keys}`))
  return reportData
}

function publicKeysOf({ ca, k256 }: RootKeys) {
  const caPublicKey = p256Key(ca).spki
  const k256PublicKey = publicKeyOf('secp256k1', k256)
  const reportData = bootstrapReportData(caPublicKey, k256PublicKey)
  return { caPublicKey, k256PublicKey, reportData }
}

function answerOf(
  { caPublicKey, k256PublicKey, attestation }: BootstrapInfo,
  { platform }: Container,
): BootstrapAnswer {
  return {
    ca_pubkey: toHex(caPublicKey),
    k256_pubkey: toHex(k256PublicKey),
    attestation: toHex(attestation),
    publicKey: toHex(k256PublicKey),
    measurement: toHex(measurementIn(platform)),
  }
}

/** As the evidence has it, which is this machine's own (spec dstack §6.4). */
function measurementIn(platform: ContainerPlatform): Uint8Array {
  if (platform.kind === 'tdx') return mrAggregated(parseQuote(platform.quote))
  return nitroImageHash(parseDocument(platform.document).pcrs)
}
