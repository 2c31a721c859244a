import { EvidenceError } from '../evidence-error.ts'
import { sameBytes, toHex } from '../hex.ts'
import type { NitroDocument } from './document.ts'

/** What the relying party demands beyond a genuine signature. */
export interface NitroPolicy {
  /** Accepts an enclave whose console the parent instance reads. Default: false. */
  readonly allowDebug?: boolean
  /** Expected registers by index; one that the document does not hold does not match. */
  readonly pcrs?: ReadonlyMap<number, Uint8Array>
}

/** How far a document's time may be from the verifier's, in milliseconds. */
export interface Freshness {
  readonly maxAgeMs: number
  readonly maxFutureMs: number
}

/** PCR0 to PCR2: image, kernel with boot ramdisk, application. */
const IMAGE_PCRS: readonly number[] = [0, 1, 2]

/** The registers that identify the image, in order; undefined where the document lacks one. */
export function imagePcrs({ pcrs }: NitroDocument): readonly Uint8Array[] | undefined {
  const found = IMAGE_PCRS.flatMap((index) => pcrs.get(index) ?? [])
  return found.length === IMAGE_PCRS.length ? found : undefined
}

/**
 * Whether nothing says what runs in the enclave: in debug mode its image registers are all zero.
 * One that is missing says as little.
 */
export function isDebug({ pcrs }: NitroDocument): boolean {
  return IMAGE_PCRS.every((index) => pcrs.get(index)?.every((octet) => octet === 0) ?? true)
}

/** @throws {EvidenceError} `NITRO_TOO_OLD` or `NITRO_FROM_FUTURE`. */
export function checkFreshness(timestamp: number, at: number, freshness: Freshness): void {
  const { maxAgeMs, maxFutureMs } = freshness
  const age = at - timestamp
  // Turned round, so that NaN does not pass.
  if (!(age <= maxAgeMs)) {
    throw refuse('NITRO_TOO_OLD', `it is ${seconds(age)} s old, at most ${seconds(maxAgeMs)}`)
  }
  if (!(-age <= maxFutureMs)) {
    const ahead = `it is ${seconds(-age)} s in the future, at most ${seconds(maxFutureMs)}`
    throw refuse('NITRO_FROM_FUTURE', ahead)
  }
}

/** @throws {EvidenceError} `NITRO_DEBUG`. */
export function checkDebug(document: NitroDocument, { allowDebug = false }: NitroPolicy): void {
  if (isDebug(document) && !allowDebug) {
    throw refuse('NITRO_DEBUG', 'the enclave is started for debugging: PCR0 to PCR2 are zero')
  }
}

/** @throws {EvidenceError} `NITRO_PCR_MISMATCH`, naming the first that differs. */
export function checkPcrs(
  { pcrs }: NitroDocument,
  expected: ReadonlyMap<number, Uint8Array>,
): void {
  for (const [index, value] of expected) {
    const found = pcrs.get(index)
    if (found === undefined || !sameBytes(found, value)) {
      throw refuse('NITRO_PCR_MISMATCH', difference(`PCR${index}`, found, value))
    }
  }
}

/** @throws {EvidenceError} `REPORT_DATA_MISMATCH`. */
export function checkReportData({ userData }: NitroDocument, expected: Uint8Array): void {
  if (userData === undefined || !sameBytes(userData, expected)) {
    throw refuse('REPORT_DATA_MISMATCH', difference('user data', userData, expected))
  }
}

/** @throws {EvidenceError} `NONCE_MISMATCH`. */
export function checkNonce({ nonce }: NitroDocument, expected: Uint8Array): void {
  if (nonce === undefined || !sameBytes(nonce, expected)) {
    throw refuse('NONCE_MISMATCH', difference('nonce', nonce, expected))
  }
}

function difference(what: string, found: Uint8Array | undefined, expected: Uint8Array): string {
  const is = found === undefined ? 'missing' : short(found)
  return `${what} is ${is}, expected ${short(expected)}`
}

function short(bytes: Uint8Array): string {
  const hex = toHex(bytes.subarray(0, 64))
  return bytes.byteLength > 64 ? `${hex}… (${bytes.byteLength} bytes)` : hex || 'empty'
}

const seconds = (ms: number): number => Math.round(ms / 1000)

function refuse(code: string, found: string): EvidenceError {
  return new EvidenceError(code, `Cannot accept attestation document: ${found}`)
}
