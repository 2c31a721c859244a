import { parseCertificate } from '../../x509/certificate.ts'
import { toHex } from '../hex.ts'
import { Steps } from '../steps.ts'
import type { Verdict } from '../verdict.ts'
import { type PckPlatform, parsePckExtension, pckChainOf } from './pck.ts'
import {
  checkReportData,
  checkServiceTd,
  checkStatus,
  checkTdAttributes,
  type TdxPolicy,
} from './policy.ts'
import { parseQuote, type Quote } from './quote.ts'
import { checkAttestationKey, checkQeReport, checkQuoteSignature } from './quote-key.ts'
import { intelSgxRoot } from './root.ts'
import type { Tcb } from './tcb-status.ts'
import { type Anchor, checkPckChain } from './trust.ts'
import { type CollateralOptions, type Signer, verifyTcb } from './verify-tcb.ts'

/** What a quote proves about where and what it comes from. */
export interface TdxClaims {
  readonly quote: Quote
  /** Undefined when the PCK certificate could not be verified. */
  readonly platform: PckPlatform | undefined
  /** Undefined without collateral, or when the platform reaches no level. */
  readonly tcb: Tcb | undefined
}

const REPORT_DATA_BYTES = 64

/** How to judge a quote. */
export interface VerifyOptions extends CollateralOptions {
  /** DER of the anchor. Default: the Intel SGX Root CA. */
  readonly root?: Uint8Array | undefined
  /** Unix time in milliseconds. Default: now. */
  readonly at?: number | undefined
  /** 64 bytes that the TD must have put into the quote. */
  readonly reportData?: Uint8Array | undefined
  readonly policy?: TdxPolicy | undefined
}

/**
 * Verifies a quote by the steps of spec tdx §8. Evidence is only ever judged, whatever it holds:
 * when it cannot even be read, the first step says so and there are no claims.
 *
 * @throws {EvidenceError} When the root in the options cannot be read.
 * @throws {RangeError} When the report data in the options are not 64 bytes, or the time is none.
 */
export function verifyQuote(bytes: Uint8Array, options: VerifyOptions = {}): Verdict<TdxClaims> {
  const { reportData, at = Date.now() } = options
  if (reportData !== undefined && reportData.length !== REPORT_DATA_BYTES) {
    throw new RangeError(
      `Cannot expect report data of ${reportData.length} bytes: give ${REPORT_DATA_BYTES}`,
    )
  }
  const anchor = { root: parseCertificate(options.root ?? intelSgxRoot()), at }
  const steps = new Steps()
  const quote = steps.together(() =>
    steps.take('quote format', () => parseQuote(bytes), describeQuote),
  )
  if (quote === undefined) return { accepted: false, steps: steps.taken, claims: undefined }
  const signer = steps.together(() => verifySignatures(steps, quote, anchor))
  if (signer === undefined) {
    const claims = { quote, platform: undefined, tcb: undefined }
    return { accepted: false, steps: steps.taken, claims }
  }
  const tcb = verifyTcb(steps, quote, signer, options, anchor)
  applyPolicy(steps, quote, tcb, options)
  const claims = { quote, platform: signer.platform, tcb }
  return { accepted: steps.allPassed, steps: steps.taken, claims }
}

/** Steps 2 and 4 to 6: what the quote proves by itself. */
function verifySignatures(steps: Steps, quote: Quote, anchor: Anchor): Signer {
  const signer = steps.take(
    'PCK certificate chain',
    () => readSigner(quote, anchor),
    ({ platform }) => `FMSPC ${toHex(platform.fmspc)}, PPID ${toHex(platform.ppid)}`,
  )
  const [pck] = signer.chain
  const { isvSvn } = quote.signature.qeReport
  steps.take(
    'QE report signature',
    () => checkQeReport(quote, pck),
    () => `signed by the PCK, ISVSVN ${isvSvn}`,
  )
  steps.take(
    'attestation key',
    () => checkAttestationKey(quote),
    () => "bound by the quoting enclave's report",
  )
  steps.take(
    'quote signature',
    () => checkQuoteSignature(quote),
    () => 'header and body signed by the attestation key',
  )
  return signer
}

function readSigner(quote: Quote, anchor: Anchor): Signer {
  const chain = pckChainOf(quote)
  checkPckChain(chain, anchor)
  return { chain, platform: parsePckExtension(chain[0]) }
}

/** Step 14; each part stands alone, so that all reasons are seen at once. */
function applyPolicy(
  steps: Steps,
  quote: Quote,
  tcb: Tcb | undefined,
  { policy = {}, reportData }: VerifyOptions,
): void {
  const apply = (name: string, check: () => void, detail: () => string) =>
    steps.together(() => steps.take(name, check, detail))
  if (tcb === undefined) steps.skip('TCB status', 'the level of the platform is not known')
  else {
    apply(
      'TCB status',
      () => checkStatus(tcb, policy),
      () => describeTcb(tcb),
    )
  }
  apply(
    'TD attributes',
    () => checkTdAttributes(quote, policy),
    () => toHex(quote.tdAttributes),
  )
  apply(
    'service TD',
    () => checkServiceTd(quote, policy),
    () => (policy.allowServiceTd ? 'any allowed' : 'none'),
  )
  if (reportData === undefined) steps.skip('report data', 'nothing was expected')
  else {
    apply(
      'report data',
      () => checkReportData(quote, reportData),
      () => 'as expected',
    )
  }
}

function describeQuote({ version, trailing }: Quote): string {
  const padding = trailing === 0 ? '' : `, ${trailing} bytes after it ignored`
  return `version ${version}${padding}`
}

function describeTcb({ status, advisoryIds }: Tcb): string {
  return [status, ...advisoryIds].join(', ')
}
