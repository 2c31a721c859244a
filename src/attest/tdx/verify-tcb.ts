import type { Crl } from '../../x509/crl.ts'
import { EvidenceError } from '../evidence-error.ts'
import { toHex } from '../hex.ts'
import type { Steps } from '../steps.ts'
import type { Collateral, SignedText } from './collateral.ts'
import type { PckChain, PckPlatform } from './pck.ts'
import type { Quote } from './quote.ts'
import { checkModule, checkPlatform, checkQuotingEnclave, matchLevels } from './tcb.ts'
import { type QeIdentity, readQeIdentity, readTcbInfo, type TcbInfo } from './tcb-info.ts'
import { matchSvnLevels, mergeTcb, type Tcb } from './tcb-status.ts'
import {
  type Anchor,
  checkNotRevoked,
  checkSignedText,
  checkWindow,
  iso,
  verifyCrl,
} from './trust.ts'

/** Who vouches for the quoting enclave. */
export interface Signer {
  readonly chain: PckChain
  readonly platform: PckPlatform
}

/** With what to judge the platform. */
export interface CollateralOptions {
  /** Without it neither revocation nor the quoting enclave can be checked. */
  readonly collateral?: Collateral | undefined
  /** False accepts a quote by its signatures alone when there is no collateral. Default: true. */
  readonly collateralRequired?: boolean | undefined
}

/** What collateral is needed for, in order. */
const NAMES = [
  'revocation',
  'TCB info',
  'QE identity',
  'platform',
  'quoting enclave',
  'TDX module',
  'TCB level',
  'module and enclave level',
] as const

/**
 * Steps 3 and 7 to 13 of spec tdx §8: what Intel says of the platform and its software.
 *
 * @returns Undefined when a step failed, or without collateral.
 */
export function verifyTcb(
  steps: Steps,
  quote: Quote,
  signer: Signer,
  { collateral, collateralRequired = true }: CollateralOptions,
  anchor: Anchor,
): Tcb | undefined {
  if (collateral !== undefined) {
    return steps.together(() => judge(steps, quote, signer, collateral, anchor))
  }
  for (const name of NAMES) steps.skip(name, 'no collateral was given')
  if (collateralRequired) steps.together(() => steps.take('collateral', refuseWithout, () => ''))
  else steps.skip('collateral', "accepted without: the quoting enclave may be anybody's")
  return undefined
}

function judge(
  steps: Steps,
  quote: Quote,
  { chain, platform }: Signer,
  collateral: Collateral,
  anchor: Anchor,
): Tcb {
  const take = <T>(name: (typeof NAMES)[number], look: () => T, detail: (found: T) => string) =>
    steps.take(name, look, detail)

  const rootCrl = take(
    'revocation',
    () => verifyRevocation(chain, collateral, anchor),
    ({ nextUpdate }) => `nothing revoked, lists valid until ${iso(nextUpdate)}`,
  )
  const info = take(
    'TCB info',
    () => readSigned('TCB_INFO', collateral.tcbInfo, readTcbInfo, rootCrl, anchor),
    describeWindow,
  )
  const identity = take(
    'QE identity',
    () => readSigned('QE_IDENTITY', collateral.qeIdentity, readQeIdentity, rootCrl, anchor),
    describeWindow,
  )
  take(
    'platform',
    () => checkPlatform(info, platform),
    () => `FMSPC ${toHex(platform.fmspc)}, PCEID ${toHex(platform.pceId)}`,
  )
  const { qeReport } = quote.signature
  take(
    'quoting enclave',
    () => checkQuotingEnclave(identity, qeReport),
    () => `MRSIGNER ${toHex(qeReport.mrSigner)}, ISVPRODID ${qeReport.isvProdId}`,
  )
  const module = take(
    'TDX module',
    () => checkModule(info, quote),
    (found) => found?.id ?? 'major version 0',
  )
  const levels = take(
    'TCB level',
    () => matchLevels(info, platform, quote),
    ({ tdx }) => `${tdx.tcbStatus}, of ${iso(tdx.tcbDate)}`,
  )
  return take(
    'module and enclave level',
    () => mergeTcb(info, levels, matchSvnLevels(module, identity, quote, qeReport), quote),
    (tcb) => `module ${tcb.module?.tcbStatus ?? 'without levels'}, enclave ${tcb.qe.tcbStatus}`,
  )
}

/** @returns The root's list, by which TCB signers are checked too. */
function verifyRevocation(
  [pck, authority]: PckChain,
  { rootCrl, pckCrl }: Collateral,
  { root, at }: Anchor,
): Crl {
  const ofRoot = verifyCrl(rootCrl, root, at)
  checkNotRevoked(authority, ofRoot, 'PCK_CA_REVOKED')
  checkNotRevoked(pck, verifyCrl(pckCrl, authority, at), 'PCK_REVOKED')
  return ofRoot
}

/** Nothing of the text is looked at before its signature is known to be good. */
function readSigned<T extends TcbInfo | QeIdentity>(
  prefix: string,
  signed: SignedText,
  read: (text: string) => T,
  rootCrl: Crl,
  anchor: Anchor,
): T {
  checkSignedText(signed, prefix, rootCrl, anchor)
  const content = read(signed.text)
  checkWindow(prefix, `${content.id} data`, content.issueDate, content.nextUpdate, anchor.at)
  return content
}

function describeWindow({ tcbEvaluationDataNumber, nextUpdate }: TcbInfo | QeIdentity): string {
  return `evaluation ${tcbEvaluationDataNumber}, valid until ${iso(nextUpdate)}`
}

function refuseWithout(): never {
  const message = 'Cannot accept quote: give collateral, or say that none is required'
  throw new EvidenceError('COLLATERAL_MISSING', message)
}
