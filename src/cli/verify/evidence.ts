import { type AttestedLog, isAttestedLog, parseAttestedLog } from '../../attest/attested-log.ts'
import { ccelEntries, isCcel } from '../../attest/ccel.ts'
import { type Container, readContainer } from '../../attest/container.ts'
import { type EventLogEntry, MAX_VALUES, parseEventLog } from '../../attest/event-log.ts'
import { EvidenceError } from '../../attest/evidence-error.ts'
import { isHex } from '../../attest/hex.ts'
import { hasMoreValues } from '../../attest/json-values.ts'
import { type CpuReport, parseTdReport, TDREPORT_BYTES } from '../../attest/tdx/tdreport.ts'

/** What a file turned out to hold. */
export type Evidence = SignedEvidence | UnsignedEvidence

/** Something a verifier can judge. */
export interface SignedEvidence {
  readonly platform: 'tdx' | 'nitro'
  /** What the file is, for a person: `GetQuote answer`. */
  readonly form: string
  /** The quote or the document. */
  readonly bytes: Uint8Array
  /** The answer around it; nothing in it is proven by itself. */
  readonly answer?: Readonly<Record<string, unknown>>
  readonly container?: Container
  readonly attestedLog?: AttestedLog
  /** Whether the answer's nonce is bound as `/attestation` binds it. */
  readonly isBoundToNonce: boolean
}

/** Something that nobody far away can judge by itself. */
export type UnsignedEvidence =
  | { readonly platform: 'tdreport'; readonly form: string; readonly report: CpuReport }
  | {
      readonly platform: 'event-log'
      readonly form: string
      readonly entries: readonly EventLogEntry[]
    }

/**
 * Finds out by content what a file holds: binary, or its hex (with or without `0x`) or base64, or
 * one of the JSON answers that carry it.
 *
 * @throws {EvidenceError} `NOT_EVIDENCE`, or what the reader of the container, of the boot log or
 *   of the attested log throws.
 */
export function recognise(file: Uint8Array): Evidence {
  const found = recogniseBinary(file)
  if (found) return found
  const text = Buffer.from(file).toString('utf8').trim()
  if (text.startsWith('{') || text.startsWith('[')) return recogniseJson(text)
  const bytes = decode(text)
  const inner = bytes && recogniseBinary(bytes)
  if (inner) return inner
  throw unknown('it is neither a quote, an NSM document, an attestation nor an answer with one')
}

/** Bytes of hex with or without `0x`, or of base64; undefined for anything else. */
function decode(text: string): Uint8Array | undefined {
  const compact = text.replace(/\s+/g, '')
  const digits = compact.replace(/^0x/i, '')
  if (digits !== '' && isHex(digits)) return new Uint8Array(Buffer.from(digits, 'hex'))
  if (compact === '' || /[^\w+/=-]/.test(compact)) return undefined
  return new Uint8Array(Buffer.from(compact, 'base64'))
}

function recogniseBinary(bytes: Uint8Array): Evidence | undefined {
  const [first = -1, second = -1] = bytes
  if (isQuote(bytes)) return { platform: 'tdx', form: 'quote', bytes, isBoundToNonce: false }
  // COSE_Sign1: an array of four, tagged or not, the first of them a byte string.
  const array = first === 0xd2 ? second : first
  const header = (first === 0xd2 ? bytes[2] : second) ?? -1
  if (array === 0x84 && header >= 0x40 && header < 0x60) {
    return { platform: 'nitro', form: 'NSM attestation document', bytes, isBoundToNonce: false }
  }
  if (bytes.length === TDREPORT_BYTES && first === 0x81 && second === 0) {
    return { platform: 'tdreport', form: 'TDREPORT', report: parseTdReport(bytes) }
  }
  if (isCcel(bytes)) {
    return { platform: 'event-log', form: 'boot event log (CCEL)', entries: ccelEntries(bytes) }
  }
  // SCALE begins with version and platform, MessagePack with a map whose first key is text.
  const isScale = first === 0 && second >= 0 && second <= 4
  const isMap = first >= 0x80 && first < 0x90 && second >= 0xa0 && second < 0xc0
  return isScale || isMap ? fromContainer(bytes) : undefined
}

/** A header of any version, SGX included, which the verifier then refuses with a reason. */
function isQuote(bytes: Uint8Array): boolean {
  if (bytes.length < 48) return false
  const [version = 0, versionHigh, keyType = 0, keyTypeHigh, teeType] = bytes
  const isHeader = versionHigh === 0 && keyTypeHigh === 0 && keyType <= 3
  return isHeader && version >= 3 && version <= 5 && (teeType === 0x81 || teeType === 0)
}

function fromContainer(bytes: Uint8Array): SignedEvidence {
  const container = readContainer(bytes)
  const { platform } = container
  const form = `attestation container, version ${container.version}`
  const rest = { form, container, isBoundToNonce: false }
  return platform.kind === 'tdx'
    ? { platform: 'tdx', bytes: platform.quote, ...rest }
    : { platform: 'nitro', bytes: platform.document, ...rest }
}

function recogniseJson(text: string): Evidence {
  if (hasMoreValues(text, MAX_VALUES)) throw unknown('its JSON has more values than any evidence')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new EvidenceError('NOT_EVIDENCE', 'Cannot read evidence: its JSON is damaged', { cause })
  }
  if (Array.isArray(value)) {
    return { platform: 'event-log', form: 'event log', entries: parseEventLog(value) }
  }
  const answer = value as Readonly<Record<string, unknown>>
  if (isAttestedLog(answer)) {
    const attestedLog = parseAttestedLog(answer)
    const { platform, evidence: bytes } = attestedLog
    const form = 'attested event log'
    return { platform, form, bytes, answer, attestedLog, isBoundToNonce: false }
  }
  if (typeof answer.attestation === 'string') {
    return fromContainer(decoded(answer.attestation, 'attestation'))
  }
  const isBoundToNonce = 'platform' in answer && 'nonce' in answer
  const form = (method: string) => `${isBoundToNonce ? '/attestation' : method} answer`
  const rest = { answer, isBoundToNonce }
  if (typeof answer.quote === 'string') {
    const bytes = decoded(answer.quote, 'quote')
    return { platform: 'tdx', form: form('GetQuote'), bytes, ...rest }
  }
  if (typeof answer.document === 'string') {
    const bytes = decoded(answer.document, 'document')
    return { platform: 'nitro', form: form('GetAttestation'), bytes, ...rest }
  }
  throw unknown('its JSON has neither quote, document nor attestation')
}

function decoded(text: string, member: string): Uint8Array {
  const bytes = decode(text)
  if (bytes) return bytes
  throw unknown(`its "${member}" is ${text === '' ? 'empty' : 'neither hex nor base64'}`)
}

function unknown(what: string): EvidenceError {
  return new EvidenceError('NOT_EVIDENCE', `Cannot read evidence: ${what}`)
}
