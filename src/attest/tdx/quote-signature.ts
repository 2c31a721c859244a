import { ByteReader } from '../byte-reader.ts'
import { EvidenceError } from '../evidence-error.ts'

/** What follows a quote's body: its signature, and why the key can be believed (spec tdx §6). */
export interface QuoteSignature {
  /** 64 bytes, r and s, by the attestation key. */
  readonly signature: Uint8Array
  /** 64 bytes: x and y of a point on P-256. */
  readonly attestationKey: Uint8Array
  readonly qeReport: QeReport
  /** 64 bytes, r and s, by the PCK. */
  readonly qeReportSignature: Uint8Array
  /** Hashed together with the attestation key; 32 bytes in practice. */
  readonly authenticationData: Uint8Array
  readonly certification: CertificationData
}

/** The SGX report of the quoting enclave. */
export interface QeReport {
  /** All 384 bytes, which the PCK signs. */
  readonly bytes: Uint8Array
  /** 16 bytes. */
  readonly cpuSvn: Uint8Array
  /** 4 bytes. */
  readonly miscSelect: Uint8Array
  /** 16 bytes. */
  readonly attributes: Uint8Array
  /** 32 bytes each. */
  readonly mrEnclave: Uint8Array
  readonly mrSigner: Uint8Array
  readonly isvProdId: number
  readonly isvSvn: number
  /** 64 bytes, of which the first 32 bind the attestation key. */
  readonly reportData: Uint8Array
}

/** How the PCK of the platform is told. */
export interface CertificationData {
  readonly type: CertificationType
  readonly data: Uint8Array
}

/** Certification data types inside a QE report; only `pck-chain` can be verified offline. */
export type CertificationType = (typeof TYPES)[keyof typeof TYPES]

const TYPES = {
  1: 'ppid-clear',
  2: 'ppid-rsa-2048',
  3: 'ppid-rsa-3072',
  4: 'pck-leaf',
  5: 'pck-chain',
  7: 'platform-manifest',
} as const
const QE_REPORT_CERTIFICATION = 6
const QE_REPORT_BYTES = 384

/**
 * Takes signature data apart; the announced sizes must fill it exactly.
 *
 * @throws {EvidenceError} `QUOTE_CERTIFICATION` or `TRUNCATED`.
 */
export function readQuoteSignature(bytes: Uint8Array): QuoteSignature {
  const outer = new ByteReader(bytes, 'signature data')
  const signature = outer.take(64)
  const attestationKey = outer.take(64)
  const type = outer.u16()
  if (type !== QE_REPORT_CERTIFICATION) {
    throw refuse(`its type is ${type}, expected ${QE_REPORT_CERTIFICATION}`)
  }
  const inner = new ByteReader(takeRest(outer), 'QE report certification data')
  const qeReport = readQeReport(inner.take(QE_REPORT_BYTES))
  const qeReportSignature = inner.take(64)
  const authenticationData = inner.take(inner.u16())
  const innerType = inner.u16()
  const known = isKnown(innerType) ? TYPES[innerType] : undefined
  if (known === undefined) throw refuse(`its inner type is ${innerType}, expected 1 to 5 or 7`)
  return {
    signature,
    attestationKey,
    qeReport,
    qeReportSignature,
    authenticationData,
    certification: { type: known, data: takeRest(inner) },
  }
}

/** A size and as many bytes, which must be all that is left. */
function takeRest(reader: ByteReader): Uint8Array {
  const size = reader.u32()
  if (size !== reader.remaining) {
    throw refuse(`it announces ${size} bytes, and ${reader.remaining} follow`)
  }
  return reader.take(size)
}

/** Offsets of the SGX report body (spec tdx §6). */
function readQeReport(bytes: Uint8Array): QeReport {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const field = (offset: number, length: number) => bytes.subarray(offset, offset + length)
  return {
    bytes,
    cpuSvn: field(0, 16),
    miscSelect: field(16, 4),
    attributes: field(48, 16),
    mrEnclave: field(64, 32),
    mrSigner: field(128, 32),
    isvProdId: view.getUint16(256, true),
    isvSvn: view.getUint16(258, true),
    reportData: field(320, 64),
  }
}

const isKnown = (type: number): type is keyof typeof TYPES => Object.hasOwn(TYPES, type)

function refuse(found: string): EvidenceError {
  return new EvidenceError('QUOTE_CERTIFICATION', `Cannot read certification data: ${found}`)
}
