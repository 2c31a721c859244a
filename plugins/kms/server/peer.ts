import { readRaTls } from '../../../src/attest/ra-tls.ts'
import { type Certificate, parseCertificate } from '../../../src/x509/certificate.ts'
import { verifyPath } from '../../../src/x509/path.ts'
import { readingEvidence, refusal } from '../trust/refusal.ts'
import {
  type EvidenceTrust,
  type VerifiedEvidence,
  verifyEvidence,
} from '../trust/verified-evidence.ts'

/**
 * Verifies whoever is at the other end of a TLS connection by his certificate (spec dstack §8).
 * TLS has made sure that he has its key; that the evidence is about this key is checked here. What
 * the certificate says beside the evidence does not count: its issuer's key is public.
 *
 * @param der The client's own certificate, or undefined where he showed none.
 * @param temporaryCa Who has to have issued it.
 * @param at Unix time in milliseconds.
 * @throws {ApiError} 401 `UNAUTHORIZED`; as {@link verifyEvidence}.
 */
export async function verifyPeer(
  der: Uint8Array | undefined,
  temporaryCa: Certificate,
  trust: EvidenceTrust,
  at: number,
): Promise<VerifiedEvidence> {
  const certificate = der && readingEvidence(() => parseCertificate(der))
  const evidence = certificate && readingEvidence(() => readRaTls(certificate).evidence)
  if (!certificate || !evidence) throw refusal('UNAUTHORIZED', 'No attestation provided')
  readingEvidence(() => verifyPath([certificate], temporaryCa, at))
  const found = await verifyEvidence(evidence.platform, certificate.spki, trust, at)
  return { ...found, validUntil: Math.min(certificate.notAfter, temporaryCa.notAfter) }
}
