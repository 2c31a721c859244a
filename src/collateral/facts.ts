import { toHex } from '../attest/hex.ts'
import type { Collateral } from '../attest/tdx/collateral.ts'
import { readQeIdentity, readTcbInfo } from '../attest/tdx/tcb-info.ts'
import { type Anchor, checkSignedText, checkWindow, verifyCrl } from '../attest/tdx/trust.ts'
import { parseCrl } from '../x509/crl.ts'
import { verifyPath } from '../x509/path.ts'
import { parsePemChain } from '../x509/pem.ts'
import { authorityOf, type QuotedPlatform } from './platform.ts'

/** What collateral says about itself. */
export interface CollateralFacts extends QuotedPlatform {
  /** When Intel wrote the TCB info; Unix time in milliseconds. */
  readonly issued: number
  /** When the first of its parts is to be replaced; Unix time in milliseconds. */
  readonly validUntil: number
}

/** Collateral with what it says about itself. */
export interface KnownCollateral {
  readonly collateral: Collateral
  readonly facts: CollateralFacts
}

/**
 * Reads every part, and verifies none.
 *
 * @throws {EvidenceError} When one cannot be read.
 */
export function factsOf({ rootCrl, pckCrl, tcbInfo, qeIdentity }: Collateral): CollateralFacts {
  const info = readTcbInfo(tcbInfo.text)
  const identity = readQeIdentity(qeIdentity.text)
  const [ofRoot, ofPck] = [parseCrl(rootCrl), parseCrl(pckCrl)]
  return {
    fmspc: toHex(info.fmspc),
    ca: authorityOf(ofPck.issuer),
    issued: info.issueDate,
    validUntil: Math.min(...[info, identity, ofRoot, ofPck].map(({ nextUpdate }) => nextUpdate)),
  }
}

/**
 * Verifies what somebody in between could have changed, so that it is not kept. Whether Intel
 * revoked the authority of PCK certificates is left to whoever judges quotes: collateral that says
 * so must not be passed over in favour of older one.
 *
 * @param pckCrlChain PEM of the authority that issued the list of PCK certificates, then the root.
 * @throws {EvidenceError} As the verifier of quotes.
 */
export function checkCollateral(
  { rootCrl, pckCrl, tcbInfo, qeIdentity }: Collateral,
  pckCrlChain: string,
  anchor: Anchor,
): void {
  const ofRoot = verifyCrl(rootCrl, anchor.root, anchor.at)
  const [authority] = parsePemChain(pckCrlChain, 2)
  verifyPath([authority], anchor.root, anchor.at)
  verifyCrl(pckCrl, authority, anchor.at)
  checkSignedText(tcbInfo, 'TCB_INFO', ofRoot, anchor)
  checkSignedText(qeIdentity, 'QE_IDENTITY', ofRoot, anchor)
  for (const [prefix, { id, issueDate, nextUpdate }] of [
    ['TCB_INFO', readTcbInfo(tcbInfo.text)],
    ['QE_IDENTITY', readQeIdentity(qeIdentity.text)],
  ] as const) {
    checkWindow(prefix, `${id} data`, issueDate, nextUpdate, anchor.at)
  }
}
