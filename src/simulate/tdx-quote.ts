import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { certificatePem } from '../x509/issue.ts'
import { u16, u32 } from './bytes.ts'
import type { TdxPki } from './tdx-pki.ts'
import { PLATFORM, QUOTING_ENCLAVE } from './tdx-platform.ts'

/**
 * Turns a TDREPORT (1024 bytes) into a quote. Version 4 has a TDX 1.0 body, version 5 that of
 * TDX 1.5 (spec tdx §6).
 *
 * @param version Default 4.
 * @throws {RangeError} For a report of another length.
 */
export type SignQuote = (tdreport: Uint8Array, version?: 4 | 5) => Uint8Array

const ECDSA_P256 = 2
const TDX = 0x81
const BODY_TDX_1_5 = 3
const QE_REPORT_CERTIFICATION = 6
const PCK_CHAIN = 5
/** Verifiers insist on Intel's: it names the format of what follows, not who made it. */
const QE_VENDOR_ID = Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex')

/**
 * A quoting enclave with a fresh attestation key, certified once by the platform's key, as real
 * ones are. It does not check the report's MAC, so it also signs reports made elsewhere, such as
 * those of the lab's kernel module.
 */
export function createQuotingEnclave(pki: TdxPki): SignQuote {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  // The point without its leading 0x04: x and y, 32 bytes each.
  const attestationKey = publicKey.export({ type: 'spki', format: 'der' }).subarray(-64)
  const certification = certify(attestationKey, pki)
  return (tdreport, version = 4) => {
    if (tdreport.byteLength !== 1024) {
      throw new RangeError(`Cannot sign TDREPORT: ${tdreport.byteLength} bytes, expected 1024`)
    }
    const content = Buffer.concat([
      header(version),
      ...(version === 5 ? [u16(BODY_TDX_1_5), u32(648)] : []),
      body(tdreport),
      ...(version === 5 ? [body15(tdreport)] : []),
    ])
    const signature = Buffer.concat([signRaw(content, privateKey), attestationKey, certification])
    return Buffer.concat([content, u32(signature.byteLength), signature])
  }
}

/** The header, 48 bytes. */
function header(version: 4 | 5): Uint8Array {
  const reserved = Buffer.alloc(4)
  const userData = Buffer.alloc(20)
  return Buffer.concat([u16(version), u16(ECDSA_P256), u32(TDX), reserved, QE_VENDOR_ID, userData])
}

/** The 584 bytes of a TD report 1.0; offsets into the TDREPORT are those of spec tdx §5. */
function body(tdreport: Uint8Array): Uint8Array {
  const field = (offset: number, length: number) => tdreport.subarray(offset, offset + length)
  return Buffer.concat([
    field(264, 16), // TEE_TCB_SVN
    field(280, 48 + 48 + 8), // MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES
    field(512, 8 + 8), // TDATTRIBUTES, XFAM
    field(528, 8 * 48), // MRTD, the three software-defined registers, RTMR0 to RTMR3
    field(128, 64), // REPORTDATA
  ])
}

/** What TDX 1.5 adds, 64 bytes: TEE_TCB_SVN2 and MRSERVICETD. */
function body15(tdreport: Uint8Array): Uint8Array {
  return Buffer.concat([tdreport.subarray(384, 400), tdreport.subarray(912, 960)])
}

/** Certification data of type 6: the enclave's report, signed by the platform's key, and chain. */
function certify(attestationKey: Uint8Array, pki: TdxPki): Uint8Array {
  const authenticationData = Buffer.from(Array.from({ length: 32 }, (_, i) => i))
  const binding = createHash('sha256').update(attestationKey).update(authenticationData).digest()
  const report = qeReport(binding)
  const certificates = [pki.pck, pki.platformCa, pki.root]
  const chain = certificates.map(({ certificate }) => certificatePem(certificate)).join('')
  const content = Buffer.concat([
    report,
    signRaw(report, pki.pck.privateKey),
    u16(authenticationData.byteLength),
    authenticationData,
    sized(PCK_CHAIN, Buffer.from(`${chain}\0`)),
  ])
  return sized(QE_REPORT_CERTIFICATION, content)
}

/** The SGX report of the quoting enclave, 384 bytes. */
function qeReport(binding: Uint8Array): Uint8Array {
  const report = Buffer.alloc(384)
  report.set(PLATFORM.componentSvns, 0) // CPUSVN
  report.set(QUOTING_ENCLAVE.attributes, 48)
  report.set(QUOTING_ENCLAVE.mrEnclave, 64)
  report.set(QUOTING_ENCLAVE.mrSigner, 128)
  report.writeUInt16LE(QUOTING_ENCLAVE.isvProdId, 256)
  report.writeUInt16LE(QUOTING_ENCLAVE.isvSvn, 258)
  report.set(binding, 320)
  return report
}

/** ECDSA with SHA-256: r and s, 32 bytes each. */
function signRaw(data: Uint8Array, key: KeyObject): Uint8Array {
  return sign('sha256', data, { key, dsaEncoding: 'ieee-p1363' })
}

/** Type, length and content. */
const sized = (type: number, content: Uint8Array): Uint8Array =>
  Buffer.concat([u16(type), u32(content.byteLength), content])
