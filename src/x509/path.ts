import { EvidenceError } from '../attest/evidence-error.ts'
import { type Certificate, isIssuedBy } from './certificate.ts'
import { printable } from './der-read.ts'

/**
 * Checks a certification path (RFC 5280 §6.1) without names, policies and revocation: every
 * certificate is issued by the next, the last one by the anchor, all are valid at the given time,
 * and all but the first may issue.
 *
 * @param chain Leaf first, without the anchor.
 * @param anchor The pinned root, trusted for its name and key.
 * @param at Unix time in milliseconds.
 * @throws {EvidenceError} `CERTIFICATE_EXPIRED`, `CERTIFICATE_NOT_YET_VALID`,
 *   `CERTIFICATE_NOT_ISSUED`, `CERTIFICATE_NOT_CA`, `CERTIFICATE_PATH_TOO_LONG`,
 *   `CERTIFICATE_KEY_USAGE` or `CERTIFICATE_CRITICAL_EXTENSION`.
 * @throws {RangeError} When the time is none: no comparison with it would ever refuse.
 */
export function verifyPath(chain: readonly Certificate[], anchor: Certificate, at: number): void {
  if (Number.isNaN(new Date(at).getTime())) {
    throw new RangeError(`Cannot check certificates at ${at}: it is no time in milliseconds`)
  }
  const path = [...chain, anchor]
  for (const [depth, certificate] of path.entries()) {
    checkDates(certificate, at)
    if (certificate.unknownCritical.length > 0) {
      const oids = certificate.unknownCritical.join(', ')
      throw refuse('CRITICAL_EXTENSION', certificate, `it has unknown critical extensions ${oids}`)
    }
    if (depth > 0) checkAuthority(certificate, depth - 1)
    const issuer = path[depth + 1]
    if (issuer !== undefined && !isIssuedBy(certificate, issuer)) {
      throw refuse('NOT_ISSUED', certificate, `it is not issued by ${nameOf(issuer)}`)
    }
  }
}

/** A certificate's common name for messages: quoted, cut, and safe to print. */
export function nameOf({ subject }: Certificate): string {
  return `"${printable(subject.commonName ?? '')}"`
}

function checkDates(certificate: Certificate, at: number): void {
  const { notBefore, notAfter } = certificate
  if (at < notBefore) {
    throw refuse('NOT_YET_VALID', certificate, `it is valid from ${iso(notBefore)}, not ${iso(at)}`)
  }
  if (at > notAfter) {
    throw refuse('EXPIRED', certificate, `it expired at ${iso(notAfter)}, before ${iso(at)}`)
  }
}

/** @param below How many authorities stand between this one and the leaf. */
function checkAuthority(certificate: Certificate, below: number): void {
  const { isCa, pathLength, keyUsage } = certificate
  if (!isCa) throw refuse('NOT_CA', certificate, 'it may not issue certificates')
  if (pathLength !== undefined && below > pathLength) {
    const found = `it allows ${pathLength} authorities below it, found ${below}`
    throw refuse('PATH_TOO_LONG', certificate, found)
  }
  if (keyUsage !== undefined && !keyUsage.has('keyCertSign')) {
    throw refuse('KEY_USAGE', certificate, 'its key may not sign certificates')
  }
}

const iso = (ms: number): string => new Date(ms).toISOString()

function refuse(code: string, certificate: Certificate, why: string): EvidenceError {
  const message = `Cannot trust certificate ${nameOf(certificate)}: ${why}`
  return new EvidenceError(`CERTIFICATE_${code}`, message)
}
