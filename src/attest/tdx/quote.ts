import { ByteReader } from '../byte-reader.ts'
import { EvidenceError } from '../evidence-error.ts'
import { toHex } from '../hex.ts'
import { type QuoteSignature, readQuoteSignature } from './quote-signature.ts'
import { readTdBody, TD_BODY_10_BYTES, TD_BODY_15_BYTES, type TdBody } from './td-body.ts'

/** A TDX quote (spec tdx §6), taken apart and not verified. */
export interface Quote extends TdBody {
  readonly version: 4 | 5
  /** 16 bytes: whose quoting enclave this is. */
  readonly qeVendorId: Uint8Array
  /** 20 bytes, of which the first 16 name the platform. */
  readonly userData: Uint8Array
  /** Header and body, which the attestation key signs. */
  readonly signed: Uint8Array
  readonly signature: QuoteSignature
  /** Bytes after the quote, which hosts leave behind in buffers of fixed size; ignored. */
  readonly trailing: number
}

const TEE_TDX = 0x81
const TEE_SGX = 0
const ECDSA_P256 = 2
const INTEL_QE_VENDOR = '939a7233f79c4ca9940a0db3957f0607'

/** Above this, what is no quote is likely DICE evidence (kernel ABI `configfs-tsm-report`). */
const LARGEST_USUAL_QUOTE = 8 * 1024
/** Longest signature data that is read; with a platform manifest they stay below 16 KiB. */
const MAX_SIGNATURE_BYTES = 32 * 1024

// Type in the body descriptor of version 5, and its size.
const SGX_BODY = 1
const BODY_SIZES: Readonly<Record<number, number>> = {
  2: TD_BODY_10_BYTES,
  3: TD_BODY_15_BYTES,
}

/**
 * Reads a quote of version 4 or 5 of an Intel quoting enclave. All views share memory with the
 * input.
 *
 * @throws {EvidenceError} `QUOTE_VERSION`, `QUOTE_NOT_TDX`, `QUOTE_UNSUPPORTED`,
 *   `QUOTE_KEY_TYPE`, `QUOTE_VENDOR`, `QUOTE_BODY`, `QUOTE_SIGNATURE_SIZE`,
 *   `QUOTE_CERTIFICATION` or `TRUNCATED`.
 */
export function parseQuote(bytes: Uint8Array): Quote {
  const reader = new ByteReader(bytes, 'quote')
  const version = readVersion(reader, bytes.length)
  const keyType = reader.u16()
  if (keyType !== ECDSA_P256) {
    throw refuse('KEY_TYPE', `attestation key type ${keyType}, expected ${ECDSA_P256}`)
  }
  const teeType = reader.u32()
  if (teeType === TEE_SGX) throw refuse('NOT_TDX', 'it comes from an SGX enclave')
  if (teeType !== TEE_TDX) {
    throw refuse('NOT_TDX', `TEE type ${teeType}, expected ${TEE_TDX}`)
  }
  reader.take(4)
  const qeVendorId = reader.take(16)
  if (toHex(qeVendorId) !== INTEL_QE_VENDOR) {
    throw refuse('VENDOR', `quoting enclave vendor ${toHex(qeVendorId)}, expected Intel`)
  }
  const userData = reader.take(20)
  const td = readTdBody(reader, version === 5 && readBodyType(reader) === TD_BODY_15_BYTES)
  const signed = bytes.subarray(0, reader.offset)
  const length = reader.u32()
  if (length > MAX_SIGNATURE_BYTES) {
    throw refuse(
      'SIGNATURE_SIZE',
      `signature data of ${length} bytes, at most ${MAX_SIGNATURE_BYTES} are read`,
    )
  }
  const signature = readQuoteSignature(reader.take(length))
  return { ...td, version, qeVendorId, userData, signed, signature, trailing: reader.remaining }
}

function readVersion(reader: ByteReader, length: number): 4 | 5 {
  const version = reader.u16()
  if (version === 4 || version === 5) return version
  if (version === 3) throw refuse('NOT_TDX', 'version 3 comes from an SGX enclave')
  if (length > LARGEST_USUAL_QUOTE) {
    const found = `${length} bytes of another format, perhaps DICE evidence, which is not supported`
    throw refuse('UNSUPPORTED', found)
  }
  throw refuse('VERSION', `version ${version}, expected 4 or 5`)
}

/** The size of the body a version 5 quote announces. */
function readBodyType(reader: ByteReader): number {
  const type = reader.u16()
  const size = reader.u32()
  if (type === SGX_BODY) throw refuse('NOT_TDX', 'its body is the report of an SGX enclave')
  const expected = BODY_SIZES[type]
  if (expected === undefined) throw refuse('BODY', `body type ${type}, expected 2 or 3`)
  if (size !== expected) {
    throw refuse('BODY', `a body of type ${type} with ${size} bytes, expected ${expected}`)
  }
  return size
}

function refuse(code: string, found: string): EvidenceError {
  return new EvidenceError(`QUOTE_${code}`, `Cannot read quote: ${found}`)
}
