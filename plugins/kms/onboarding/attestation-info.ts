import { createHash, randomBytes } from 'node:crypto'
import type { ContainerPlatform } from '../../../src/attest/container.ts'
import { toHex } from '../../../src/attest/hex.ts'
import { pckOf } from '../../../src/attest/tdx/pck.ts'
import { parseQuote } from '../../../src/attest/tdx/quote.ts'
import { type Policy, PolicyError, type PolicyFacts } from '../policy/policy.ts'
import { type OwnEvidenceParts, ownEvidence, verifiedSelf } from './own-evidence.ts'

/** What an operator registers a KMS by (spec dstack §9.5); bytes are hex, what is unknown is empty. */
export interface AttestationInfo {
  /** 32 bytes. */
  readonly device_id: string
  /** 32 bytes. */
  readonly mr_aggregated: string
  /** 32 bytes, or empty. */
  readonly os_image_hash: string
  readonly tee_variant: string
  readonly site_name: string
  readonly eth_rpc_url: string
  readonly kms_contract_address: string
  /** 16 bytes, or empty on Nitro. */
  readonly ppid: string
}

export interface AttestationInfoParts extends OwnEvidenceParts {
  readonly policy: Policy
  readonly siteName?: string | undefined
}

/**
 * What this machine is, by fresh evidence of its own, verified as that of others would be.
 *
 * @throws {ApiError} As `ownEvidence` and `verifiedSelf`.
 */
export async function attestationInfo(parts: AttestationInfoParts): Promise<AttestationInfo> {
  const { policy, siteName = '' } = parts
  // Nobody else sees this evidence; a caller never chooses what it is made over.
  const reportData = createHash('sha512').update('cvmd-kms-info:').update(randomBytes(32)).digest()
  const container = await ownEvidence(parts, reportData, 'say what this machine is')
  const { boot } = await verifiedSelf(parts, container, reportData)
  const facts = await policy.describe().catch((error): Partial<PolicyFacts> => {
    if (error instanceof PolicyError) return {}
    throw error
  })
  return {
    device_id: boot.deviceId,
    mr_aggregated: boot.mrAggregated,
    os_image_hash: boot.osImageHash,
    tee_variant: boot.teeVariant,
    site_name: siteName,
    eth_rpc_url: facts.ethRpcUrl ?? '',
    kms_contract_address: facts.kmsContractAddress ?? '',
    ppid: ppidIn(container.platform),
  }
}

function ppidIn(platform: ContainerPlatform): string {
  return platform.kind === 'tdx' ? toHex(pckOf(parseQuote(platform.quote)).ppid) : ''
}
