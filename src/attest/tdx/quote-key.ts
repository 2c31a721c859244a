import { createHash } from 'node:crypto'
import type { Certificate } from '../../x509/certificate.ts'
import { bitString, oid, sequence } from '../../x509/der-write.ts'
import { isRawSignedBy, readPublicKey } from '../../x509/signed.ts'
import { EvidenceError } from '../evidence-error.ts'
import { sameBytes, toHex } from '../hex.ts'
import type { Quote } from './quote.ts'

/**
 * The PCK must have signed the quoting enclave's report (spec tdx §8 step 4).
 *
 * @throws {EvidenceError} `QE_REPORT_SIGNATURE`.
 */
export function checkQeReport({ signature }: Quote, pck: Certificate): void {
  const { qeReport, qeReportSignature } = signature
  if (!isRawSignedBy(qeReport.bytes, qeReportSignature, pck.publicKey, 'sha256')) {
    throw refuse('QE_REPORT_SIGNATURE', "the quoting enclave's report is not signed by the PCK")
  }
}

/**
 * The report must bind the attestation key (step 5). Its last 32 bytes say nothing.
 *
 * @throws {EvidenceError} `ATTESTATION_KEY_UNBOUND`.
 */
export function checkAttestationKey({ signature }: Quote): void {
  const { attestationKey, authenticationData, qeReport } = signature
  const expected = createHash('sha256').update(attestationKey).update(authenticationData).digest()
  const found = qeReport.reportData.subarray(0, 32)
  if (!sameBytes(found, expected)) {
    const why = `the quoting enclave's report names ${toHex(found)}, the key is ${toHex(expected)}`
    throw refuse('ATTESTATION_KEY_UNBOUND', why)
  }
}

/**
 * The attestation key must have signed header and body (step 6).
 *
 * @throws {EvidenceError} `QUOTE_SIGNATURE`, or `KEY_UNUSABLE` for a key that is no point.
 */
export function checkQuoteSignature({ signed, signature }: Quote): void {
  const point = Buffer.concat([Uint8Array.of(UNCOMPRESSED), signature.attestationKey])
  const key = readPublicKey(sequence(P256, bitString(point)), 'attestation key')
  if (!isRawSignedBy(signed, signature.signature, key, 'sha256')) {
    throw refuse('QUOTE_SIGNATURE', 'header and body are not signed by the attestation key')
  }
}

// RFC 5480 §2.1.1: id-ecPublicKey on prime256v1; SEC 1 §2.3.3.
const P256 = sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7'))
const UNCOMPRESSED = 0x04

function refuse(code: string, found: string): EvidenceError {
  return new EvidenceError(code, `Cannot trust quote: ${found}`)
}
