import type { Certificate } from '../../x509/certificate.ts'
import { type Crl, isCrlIssuedBy, isRevoked, parseCrl } from '../../x509/crl.ts'
import { nameOf, verifyPath } from '../../x509/path.ts'
import { parsePemChain } from '../../x509/pem.ts'
import { isRawSignedBy } from '../../x509/signed.ts'
import { EvidenceError } from '../evidence-error.ts'
import { sameBytes, toHex } from '../hex.ts'
import type { SignedText } from './collateral.ts'
import type { PckChain } from './pck.ts'

/** Whom and when to believe. */
export interface Anchor {
  readonly root: Certificate
  /** Unix time in milliseconds. */
  readonly at: number
}

const PCK = 'Intel SGX PCK Certificate'
const AUTHORITIES = ['Intel SGX PCK Platform CA', 'Intel SGX PCK Processor CA']
const TCB_SIGNER = 'Intel SGX TCB Signing'

/**
 * The PCK must be Intel's (spec tdx §8 step 2). The root inside the quote only has to be the
 * pinned one by name and key; the signature is checked with the pinned one.
 *
 * @throws {EvidenceError} `PCK_CHAIN`, `ROOT_UNKNOWN`, `CERTIFICATE_NAME`,
 *   `CERTIFICATE_ALGORITHM`, `CERTIFICATE_KEY_USAGE`, or what `verifyPath` throws.
 */
export function checkPckChain([pck, authority, root]: PckChain, anchor: Anchor): void {
  checkRoot(root, anchor)
  for (const certificate of [pck, authority]) checkAlgorithms(certificate)
  checkName(pck, [PCK])
  checkName(authority, AUTHORITIES)
  if (pck.isCa) throw refuse('PCK_CHAIN', 'the PCK certificate is an authority')
  if (!maySign(pck)) throw refuse('CERTIFICATE_KEY_USAGE', `the key of ${nameOf(pck)} may not sign`)
  verifyPath([pck, authority], anchor.root, anchor.at)
}

/**
 * A revocation list of one authority that is valid at the time (step 3).
 *
 * @throws {EvidenceError} `CRL_SIGNATURE`, `CRL_EXPIRED`, `CRL_NOT_YET_VALID`, or what `parseCrl`
 *   throws.
 */
export function verifyCrl(der: Uint8Array, issuer: Certificate, at: number): Crl {
  const crl = parseCrl(der)
  const mayList = issuer.keyUsage === undefined || issuer.keyUsage.has('cRLSign')
  if (!mayList || crl.signed.hash !== 'sha256' || !isCrlIssuedBy(crl, issuer)) {
    throw refuse('CRL_SIGNATURE', `the CRL is not one of ${nameOf(issuer)}`)
  }
  checkWindow('CRL', `the CRL of ${nameOf(issuer)}`, crl.thisUpdate, crl.nextUpdate, at)
  return crl
}

/** @throws {EvidenceError} With the code given, such as `PCK_REVOKED`. */
export function checkNotRevoked(certificate: Certificate, crl: Crl, code: string): void {
  if (isRevoked(crl, certificate.serial)) {
    throw refuse(code, `${nameOf(certificate)}, serial ${toHex(certificate.serial)}, is revoked`)
  }
}

/**
 * A text must be signed by Intel's TCB signer (step 7).
 *
 * @param prefix Of the error's code: `TCB_INFO` or `QE_IDENTITY`.
 * @throws {EvidenceError} `…_SIGNATURE`, `TCB_SIGNER_REVOKED`, `ROOT_UNKNOWN`,
 *   `CERTIFICATE_NAME`, `CERTIFICATE_ALGORITHM`, or what `parsePemChain` and `verifyPath` throw.
 */
export function checkSignedText(
  { text, signature, issuerChain }: SignedText,
  prefix: string,
  rootCrl: Crl,
  anchor: Anchor,
): void {
  const [signer, root] = parsePemChain(issuerChain, 2)
  if (root !== undefined) checkRoot(root, anchor)
  checkName(signer, [TCB_SIGNER])
  checkAlgorithms(signer)
  verifyPath([signer], anchor.root, anchor.at)
  checkNotRevoked(signer, rootCrl, 'TCB_SIGNER_REVOKED')
  if (
    !maySign(signer) ||
    !isRawSignedBy(Buffer.from(text), signature, signer.publicKey, 'sha256')
  ) {
    throw refuse(`${prefix}_SIGNATURE`, `it is not signed by ${nameOf(signer)}`)
  }
}

/**
 * @param prefix Of the error's code: `…_EXPIRED` or `…_NOT_YET_VALID`.
 * @throws {EvidenceError}
 */
export function checkWindow(
  prefix: string,
  what: string,
  from: number,
  to: number,
  at: number,
): void {
  const now = iso(at)
  if (at > to) throw refuse(`${prefix}_EXPIRED`, `${what} ended at ${iso(to)}, before ${now}`)
  if (at < from) {
    throw refuse(`${prefix}_NOT_YET_VALID`, `${what} begins at ${iso(from)}, after ${now}`)
  }
}

/** Unix milliseconds as `2026-01-01T00:00:00.000Z`. */
export const iso = (ms: number): string => new Date(ms).toISOString()

const maySign = ({ keyUsage }: Certificate): boolean => keyUsage?.has('digitalSignature') ?? true

function checkRoot(root: Certificate, { root: pinned }: Anchor): void {
  const same = sameBytes(root.spki, pinned.spki) && sameBytes(root.subject.der, pinned.subject.der)
  if (!same) {
    throw refuse('ROOT_UNKNOWN', `root ${nameOf(root)} is not the pinned ${nameOf(pinned)}`)
  }
}

function checkName(certificate: Certificate, expected: readonly string[]): void {
  if (!expected.includes(certificate.subject.commonName ?? '')) {
    const wanted = expected.map((name) => `"${name}"`).join(' or ')
    throw refuse('CERTIFICATE_NAME', `found ${nameOf(certificate)} where ${wanted} belongs`)
  }
}

function checkAlgorithms(certificate: Certificate): void {
  if (certificate.curve !== 'P-256' || certificate.hash !== 'sha256') {
    throw refuse('CERTIFICATE_ALGORITHM', `${nameOf(certificate)} is not P-256 with SHA-256`)
  }
}

function refuse(code: string, found: string): EvidenceError {
  return new EvidenceError(code, `Cannot trust certificate data: ${found}`)
}
