import { type Certificate, parseCertificate } from '../../x509/certificate.ts'
import { nameOf, verifyPath } from '../../x509/path.ts'
import { EvidenceError } from '../evidence-error.ts'
import { sameBytes } from '../hex.ts'
import type { NitroDocument } from './document.ts'

/**
 * Verifies who vouches for the enclave's key (spec nitro §4): the bundle begins with the trusted
 * root itself, each certificate is issued by the one before, and the last one issued the enclave's.
 * There is no revocation: the vendor's rules ask for none, certificates last hours.
 *
 * @param at Unix time in milliseconds at which all must be valid.
 * @returns The enclave's certificate.
 * @throws {EvidenceError} `NITRO_ROOT_UNKNOWN`, `NITRO_CHAIN_RULES`, what `parseCertificate` and
 *   what `verifyPath` throw.
 */
export function verifyChain(document: NitroDocument, root: Certificate, at: number): Certificate {
  const [first, ...authorities] = document.cabundle
  if (first === undefined || !sameBytes(first, root.der)) {
    const message = `Cannot trust the bundle: it does not begin with the root ${nameOf(root)}`
    throw new EvidenceError('NITRO_ROOT_UNKNOWN', message)
  }
  const leaf = parseCertificate(document.certificate)
  const issuers = authorities.map(parseCertificate).reverse()
  for (const issuer of issuers) checkIssuer(issuer)
  checkLeaf(leaf)
  verifyPath([leaf, ...issuers], root, at)
  return leaf
}

/** What the vendor demands beyond RFC 5280 (`docs/attestation_process.md`). */
function checkIssuer(certificate: Certificate): void {
  const { basicConstraintsCritical, curve, keyUsage } = certificate
  // All of the vendor's are, and the signatures of others may take long to check.
  if (curve !== 'P-384') throw refuse(certificate, 'its key is not on P-384')
  if (!basicConstraintsCritical) throw refuse(certificate, 'its basic constraints are not critical')
  if (!keyUsage?.has('keyCertSign')) throw refuse(certificate, 'its key may not sign certificates')
}

function checkLeaf(certificate: Certificate): void {
  const { isCa, pathLength, keyUsage } = certificate
  if (isCa || pathLength !== undefined) throw refuse(certificate, 'it is an authority')
  if (!keyUsage?.has('digitalSignature')) throw refuse(certificate, 'its key may not sign')
}

function refuse(certificate: Certificate, why: string): EvidenceError {
  const message = `Cannot trust certificate ${nameOf(certificate)}: ${why}`
  return new EvidenceError('NITRO_CHAIN_RULES', message)
}
