import type { Container } from '../../../src/attest/container.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import { ApiError, toApiError } from '../../../src/errors.ts'
import { evidenceOver } from '../certificates/evidence.ts'
import {
  type EvidenceTrust,
  type VerifiedEvidence,
  verifyEvidenceOver,
} from '../trust/verified-evidence.ts'

/** With what this machine shows what it is, and finds that out itself. */
export interface OwnEvidenceParts {
  readonly attester: Attester
  /** Goes along with the evidence; default none. */
  readonly vmConfig?: string | undefined
  readonly trust: EvidenceTrust
  /** Unix time in milliseconds. */
  readonly now?: (() => number) | undefined
}

/**
 * Evidence of this machine.
 *
 * @param reportData What it is made over, 64 bytes.
 * @param wanted What it is made for: `bootstrap`.
 * @throws {ApiError} 400 `WRONG_PLATFORM` on a machine that cannot attest; as `evidenceOver`.
 */
export function ownEvidence(
  { attester, vmConfig = '' }: OwnEvidenceParts,
  reportData: Uint8Array,
  wanted: string,
  signal?: AbortSignal,
): Promise<Container> {
  if (attester.platform === undefined) {
    const why = 'this machine has neither Intel TDX nor a Nitro module, so it cannot attest'
    const remedy = 'run the KMS in a confidential VM, or with --simulate to try it'
    throw new ApiError(400, 'WRONG_PLATFORM', `Cannot ${wanted}: ${why}; ${remedy}`)
  }
  return evidenceOver(attester, reportData, vmConfig, signal ? { signal } : {})
}

/**
 * What this machine measured, as others will find it.
 *
 * @throws {ApiError} 502 `EVIDENCE_UNUSABLE` when they would not accept it; 500 `INTERNAL_ERROR` when
 *   there is no collateral to judge it with.
 */
export async function verifiedSelf(
  { trust, now = Date.now }: OwnEvidenceParts,
  { platform }: Container,
  reportData: Uint8Array,
): Promise<VerifiedEvidence> {
  try {
    return await verifyEvidenceOver(platform, reportData, trust, now())
  } catch (thrown) {
    const error = toApiError(thrown)
    if (error.status !== 401) throw error
    // The caller is not who is not believed.
    const message = `Cannot use the evidence of this machine: ${error.message}`
    throw new ApiError(502, 'EVIDENCE_UNUSABLE', message, { cause: error.cause })
  }
}
