import type { ContainerPlatform } from '../../../src/attest/container.ts'
import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { tdPolicyFacts } from '../../../src/attest/identity.ts'
import { verifyDocument } from '../../../src/attest/nitro/verify.ts'
import { raTlsReportData } from '../../../src/attest/ra-tls.ts'
import type { Collateral } from '../../../src/attest/tdx/collateral.ts'
import type { Quote } from '../../../src/attest/tdx/quote.ts'
import { intelSgxRoot } from '../../../src/attest/tdx/root.ts'
import type { TcbStatus } from '../../../src/attest/tdx/tcb-info.ts'
import { verifyQuote } from '../../../src/attest/tdx/verify.ts'
import { reasonOf, type Step, type Verdict } from '../../../src/attest/verdict.ts'
import { platformOf, type QuotedPlatform } from '../../../src/collateral/platform.ts'
import { TrustError } from '../../../src/collateral/trust-error.ts'
import { parseCertificate } from '../../../src/x509/certificate.ts'
import { type BootInfo, nitroBootInfo, tdxBootInfo } from '../policy/boot-info.ts'
import { notVerified, readingEvidence, refusal } from './refusal.ts'

/** Whom to believe about evidence. */
export interface EvidenceTrust {
  /** DER of the anchor of quotes. Default: the Intel SGX Root CA. */
  readonly tdxRoot?: Uint8Array | undefined
  /** DER of the anchor of documents. Default: the root of AWS Nitro Enclaves. */
  readonly nitroRoot?: Uint8Array | undefined
  /**
   * What Intel says of a kind of platform; undefined where that is not known.
   *
   * @param platform As a quote names it, of which only the PCK certificate is verified yet.
   * @throws {TrustError} When it cannot be found out now.
   */
  readonly collateral: (platform: QuotedPlatform) => Promise<Collateral | undefined>
  /** Default true; false for clouds that start TDs without it, whose kernel sets it later. */
  readonly requireSeptVeDisable?: boolean | undefined
}

/** Evidence that is genuine, about the key it is shown with, and of nobody who debugs. */
export interface VerifiedEvidence {
  /** What a policy decides on when keys are asked for. */
  readonly boot: BootInfo
  /** The same when certificates are (spec dstack §6.4). */
  readonly bootTime: BootInfo
  /** When what it came with ceases to be valid, where that is known; Unix time in milliseconds. */
  readonly validUntil?: number | undefined
}

/**
 * What the policy is asked about is no reason to refuse here: all but a platform whose key was
 * revoked (spec dstack §9.3).
 */
const FOR_POLICY: readonly TcbStatus[] = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'TDRelaunchAdvised',
  'TDRelaunchAdvisedConfigurationNeeded',
]

/** Steps that fail by the collateral, which is ours, unless they find that Intel revoked a key. */
const OF_COLLATERAL: ReadonlySet<string> = new Set([
  'collateral',
  'revocation',
  'TCB info',
  'QE identity',
])
const NO_COLLATERAL = 'Cannot judge the quote: there is no valid collateral for its platform'
const REVOKED: ReadonlySet<string | undefined> = new Set(['PCK_REVOKED', 'PCK_CA_REVOKED'])

/**
 * Verifies evidence in the order of spec dstack §8: signatures, binding to the key, TD policy,
 * event log; only then is anything read out of it.
 *
 * @param spki SubjectPublicKeyInfo, DER, of the key that the owner of the evidence has proved.
 * @param at Unix time in milliseconds.
 * @throws {ApiError} 401 `UNAUTHORIZED`; 500 `INTERNAL_ERROR` when there is no collateral to judge
 *   it with, or none that is valid.
 */
export function verifyEvidence(
  platform: ContainerPlatform,
  spki: Uint8Array,
  trust: EvidenceTrust,
  at: number,
): Promise<VerifiedEvidence> {
  return verifyEvidenceOver(platform, raTlsReportData(spki), trust, at)
}

/**
 * The same for evidence about something else than the key of a certificate.
 *
 * @param reportData What it has to be made over, 64 bytes.
 */
export async function verifyEvidenceOver(
  platform: ContainerPlatform,
  reportData: Uint8Array,
  trust: EvidenceTrust,
  at: number,
): Promise<VerifiedEvidence> {
  if (platform.kind === 'nitro-enclave') {
    const root = trust.nitroRoot ? { root: trust.nitroRoot } : {}
    const claims = accepted(verifyDocument(platform.document, { ...root, at, reportData }))
    const boot = readingEvidence(() => nitroBootInfo(claims))
    return { boot, bootTime: boot }
  }
  const claims = accepted(
    verifyQuote(platform.quote, {
      root: trust.tdxRoot,
      at,
      reportData,
      collateral: await collateralOf(platform.quote, trust, at),
      policy: {
        acceptedStatuses: FOR_POLICY,
        requireSeptVeDisable: trust.requireSeptVeDisable ?? true,
      },
    }),
  )
  return readingEvidence(() => {
    checkTd(claims.quote)
    return {
      boot: tdxBootInfo(claims, platform.eventLog),
      bootTime: tdxBootInfo(claims, platform.eventLog, 'boot-time'),
    }
  })
}

/**
 * Undefined where there is none, or the quote does not come from a platform of the maker's.
 *
 * @throws {ApiError} 500 `INTERNAL_ERROR`.
 */
async function collateralOf(
  quote: Uint8Array,
  { collateral, tdxRoot }: EvidenceTrust,
  at: number,
): Promise<Collateral | undefined> {
  const root = parseCertificate(tdxRoot ?? intelSgxRoot())
  const platform = platformOf(quote, { root, at })
  if (!platform) return undefined
  try {
    return await collateral(platform)
  } catch (error) {
    if (error instanceof TrustError) throw refusal('INTERNAL_ERROR', NO_COLLATERAL, error)
    throw error
  }
}

/** The claims of a verdict that accepts; each of them was looked at. */
function accepted<Claims>(verdict: Verdict<Claims>): Claims {
  if (verdict.accepted && verdict.claims !== undefined) return verdict.claims
  throw refusalOf(reasonOf(verdict))
}

function refusalOf(step: Step | undefined) {
  const { name = '', detail = 'nothing was verified', code = 'UNVERIFIED' } = step ?? {}
  const cause = new EvidenceError(code, detail)
  if (OF_COLLATERAL.has(name) && !REVOKED.has(code)) {
    return refusal('INTERNAL_ERROR', NO_COLLATERAL, cause)
  }
  // In the words of dstack, which clients may look for.
  return notVerified(code === 'REPORT_DATA_MISMATCH' ? 'report data mismatch' : detail, cause)
}

/**
 * The whole first byte of the attributes has to be zero, as the audit of dstack asks, and the
 * module Intel's own (spec dstack §6.4), whatever the verifier before this already refuses.
 */
function checkTd(quote: Quote): void {
  const { underDebug, foreignModule, serviceTd } = tdPolicyFacts(quote)
  const refuse = (code: string, why: string) =>
    new EvidenceError(code, `Cannot accept quote: ${why}`)
  if (underDebug) throw refuse('TD_DEBUG', 'the TD is started for debugging')
  if (foreignModule) throw refuse('TD_MODULE', 'the TDX module is not signed by Intel')
  if (serviceTd) throw refuse('TD_SERVICE_TD', 'a service TD is bound to the TD')
}
