import { createHash } from 'node:crypto'

/**
 * Report data of evidence made for a caller from outside: `SHA512("cvmd-attestation:" || nonce)`,
 * 64 bytes (spec dstack §2.4). The caller never chooses it freely: he could have evidence made over
 * the binding of a key of his own.
 *
 * @param nonce At most 64 bytes; empty where the caller gave none.
 */
export function attestationReportData(nonce: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha512').update('cvmd-attestation:').update(nonce).digest())
}
