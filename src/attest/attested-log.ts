import { createHash } from 'node:crypto'
import type { Attester, Platform } from '../attester/attester.ts'
import type { CallOptions } from '../device/devices.ts'
import type { EventLog } from '../events/log.ts'
import { EvidenceError } from './evidence-error.ts'
import { fromHex, toHex } from './hex.ts'

/** What the report data of an attested log begins with, so that it stands for nothing else. */
export const ATTESTED_LOG_TAG = 'cvmd-attested-log:v1:'

/** Bytes of a caller's nonce. */
export const MAX_NONCE_BYTES = 64

/** How far a log reaches: all events up to `seq` follow from `head`. */
export interface LogHead {
  /** Sequence number of the newest event; 0 for an empty log. */
  readonly seq: number
  /** Its hash in the chain, 64 hex digits; zeros for an empty log. */
  readonly head: string
}

/** The answer of `GET /cvmd/attested-log`. */
export interface AttestedLogAnswer extends LogHead {
  readonly platform: Platform
  /** Hex, as the caller gave it. */
  readonly nonce: string
  /** Hex; see {@link attestedLogReportData}. */
  readonly report_data: string
  /** Base64, on TDX. */
  readonly quote?: string
  /** Base64, on Nitro. */
  readonly document?: string
}

/** The answer as a verifier reads it. */
export interface AttestedLog extends LogHead {
  readonly platform: Platform
  readonly nonce: Uint8Array
  /** The quote or document. */
  readonly evidence: Uint8Array
}

/**
 * `SHA512(tag || nonce || seq as 8 bytes, big-endian || head as 32 bytes)`: what the evidence of an
 * attested log is bound to. The tag and what follows the nonce have fixed lengths, so no two inputs
 * read the same.
 *
 * @param nonce 1 to 64 bytes.
 * @returns 64 bytes.
 * @throws {RangeError} For a nonce of another length.
 */
export function attestedLogReportData(nonce: Uint8Array, { seq, head }: LogHead): Uint8Array {
  if (nonce.length === 0 || nonce.length > MAX_NONCE_BYTES) {
    throw new RangeError(
      `Cannot bind a nonce of ${nonce.length} bytes: give 1 to ${MAX_NONCE_BYTES}`,
    )
  }
  const number = Buffer.alloc(8)
  number.writeBigUInt64BE(BigInt(seq))
  const hash = createHash('sha512').update(ATTESTED_LOG_TAG).update(nonce)
  return new Uint8Array(hash.update(number).update(fromHex(head, 'head')).digest())
}

/**
 * Makes evidence of the event log as it is now. Who gave the nonce knows that every event up to
 * the sequence number was in the log when the evidence was made, and what it said.
 *
 * @param nonce 1 to 64 bytes, which the caller has never used before.
 * @throws {DeviceError | NsmError | QueueError} As `Attester.evidence`.
 * @throws {RangeError} For a nonce of another length.
 */
export async function attestLog(
  log: Pick<EventLog, 'next' | 'head'>,
  attester: Pick<Attester, 'evidence'>,
  nonce: Uint8Array,
  options?: CallOptions,
): Promise<AttestedLogAnswer> {
  const at: LogHead = { seq: log.next - 1, head: log.head }
  const reportData = attestedLogReportData(nonce, at)
  const evidence = await attester.evidence(reportData, options)
  return {
    platform: evidence.platform,
    nonce: toHex(nonce),
    ...at,
    report_data: toHex(reportData),
    ...(evidence.platform === 'tdx'
      ? { quote: base64(evidence.quote) }
      : { document: base64(evidence.document) }),
  }
}

/** Whether JSON looks like an {@link AttestedLogAnswer}, for telling answers apart. */
export function isAttestedLog(value: Readonly<Record<string, unknown>>): boolean {
  return 'seq' in value && 'head' in value
}

/**
 * Reads an answer. Its `report_data` is not looked at: a verifier computes it.
 *
 * @throws {EvidenceError} `ATTESTED_LOG_INVALID`, `HEX_INVALID`.
 */
export function parseAttestedLog(value: Readonly<Record<string, unknown>>): AttestedLog {
  const { platform, seq, head, quote, document } = value
  if (platform !== 'tdx' && platform !== 'nitro') {
    throw invalid('platform is neither "tdx" nor "nitro"')
  }
  if (!Number.isSafeInteger(seq) || (seq as number) < 0) throw invalid('seq is not a number')
  if (typeof head !== 'string' || !/^[0-9a-f]{64}$/.test(head)) {
    throw invalid('head is not 64 lower-case hex digits')
  }
  if (typeof value.nonce !== 'string') throw invalid('there is no nonce')
  const nonce = fromHex(value.nonce, 'nonce')
  if (nonce.length === 0 || nonce.length > MAX_NONCE_BYTES) {
    throw invalid(`nonce has ${nonce.length} bytes, expected 1 to ${MAX_NONCE_BYTES}`)
  }
  const name = platform === 'tdx' ? 'quote' : 'document'
  const text = platform === 'tdx' ? quote : document
  if (typeof text !== 'string' || text === '') throw invalid(`there is no ${name}`)
  const evidence = new Uint8Array(Buffer.from(text, 'base64'))
  return { platform, seq: seq as number, head, nonce, evidence }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

function invalid(what: string): EvidenceError {
  return new EvidenceError('ATTESTED_LOG_INVALID', `Cannot read attested log: ${what}`)
}
