import { EvidenceError } from './evidence-error.ts'
import { isHex } from './hex.ts'
import { hasMoreValues } from './json-values.ts'

/** One measured event as dstack writes it (spec dstack §6.3); `digest` is always filled by cvmd. */
export interface EventLogEntry {
  /** Zero-based register: 0 to 3 for RTMR0 to RTMR3. */
  readonly imr: number
  /** TCG event type, or 0x08000001 for a runtime event. */
  readonly event_type: number
  /** SHA-384, 96 hex digits; empty in logs of some other agents. */
  readonly digest: string
  readonly event: string
  /** Hex. */
  readonly event_payload: string
  /** Digest rule of a runtime event; absent means 1. */
  readonly version?: number
  /** Hex of what was hashed; with version 2. */
  readonly preimage?: string
}

/** Entries one log may have; real ones have 20 to 90. It bounds the time that a replay takes. */
export const MAX_EVENTS = 4096

/** A log as text; as much as an attester's limits allow takes half of it. */
const MAX_CHARACTERS = 6 * 1024 * 1024
/** An entry has up to seven members. */
export const MAX_VALUES = 16 * MAX_EVENTS

/** TCG event type of entries that are not measured. */
export const EV_NO_ACTION = 3

/** Type and payload of the entries with which OVMF measures ACPI tables into RTMR0. */
const EV_PLATFORM_CONFIG_FLAGS = 10
const ACPI_DATA = Buffer.from('ACPI DATA').toString('hex')

const ACPI_NAMES = ['acpi-loader', 'acpi-rsdp', 'acpi-tables'] as const

/** Whether an entry is one of those that keep their place in a stripped log (spec dstack §6.6). */
export function isAcpiEntry(entry: EventLogEntry): boolean {
  return (
    entry.imr === 0 &&
    entry.event_type === EV_PLATFORM_CONFIG_FLAGS &&
    entry.event_payload === ACPI_DATA
  )
}

/** Names the three ACPI entries by their order, as newer dstack agents do (spec dstack §6.3). */
export function nameAcpiEntries(entries: readonly EventLogEntry[]): EventLogEntry[] {
  let seen = 0
  return entries.map((entry) =>
    isAcpiEntry(entry) ? { ...entry, event: ACPI_NAMES[seen++] ?? entry.event } : entry,
  )
}

/**
 * Whether a log has no boot entries but the ACPI ones, so that RTMR0 to RTMR2 cannot be replayed
 * from it; the form inside certificates and in some agents' `Attest`.
 */
export function isStripped(entries: readonly EventLogEntry[]): boolean {
  return entries.every((entry) => entry.imr === 3 || isAcpiEntry(entry))
}

/**
 * Reads the `event_log` of a GetQuote answer: JSON text, or the array already parsed. Unknown
 * members are left out.
 *
 * @throws {EvidenceError} `EVENT_LOG_NOT_JSON`, `EVENT_LOG_INVALID`, `EVENT_LOG_TOO_LONG`.
 */
export function parseEventLog(log: unknown): EventLogEntry[] {
  const list = typeof log === 'string' ? parseJson(log) : log
  if (!Array.isArray(list)) throw invalid('it is not an array')
  if (list.length > MAX_EVENTS) throw tooLong(`${list.length} entries, at most ${MAX_EVENTS}`)
  return list.map(toEntry)
}

function parseJson(text: string): unknown {
  if (text.length > MAX_CHARACTERS) {
    throw tooLong(`${text.length} characters, at most ${MAX_CHARACTERS}`)
  }
  if (hasMoreValues(text, MAX_VALUES)) throw tooLong(`more values than the ${MAX_VALUES} that`)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new EvidenceError('EVENT_LOG_NOT_JSON', 'Cannot read event log: it is not JSON', {
      cause,
    })
  }
}

function toEntry(value: unknown, index: number): EventLogEntry {
  const given = (value ?? {}) as Record<string, unknown>
  const { imr, event_type, digest = '', event, event_payload, version, preimage } = given
  const at = `entry ${index}`
  if (!isUint(imr, 3)) throw invalid(`${at}: imr is ${show(imr)}, expected 0 to 3`)
  if (!isUint(event_type, 0xffff_ffff)) throw invalid(`${at}: event_type is ${show(event_type)}`)
  if (!isHexText(digest) || (digest.length !== 96 && digest !== '')) {
    throw invalid(`${at}: digest is ${show(digest)}, expected 96 hex digits or none`)
  }
  if (typeof event !== 'string') throw invalid(`${at}: event is ${show(event)}, expected text`)
  if (!isHexText(event_payload)) throw invalid(`${at}: event_payload is not hex`)
  if (version !== undefined && version !== 1 && version !== 2) {
    throw invalid(`${at}: version is ${show(version)}, expected 1 or 2`)
  }
  if (preimage !== undefined && !isHexText(preimage)) throw invalid(`${at}: preimage is not hex`)
  return {
    imr,
    event_type,
    digest: digest.toLowerCase(),
    event,
    event_payload: event_payload.toLowerCase(),
    ...(version !== undefined && { version }),
    ...(preimage !== undefined && { preimage: preimage.toLowerCase() }),
  }
}

function isUint(value: unknown, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most
}

function isHexText(value: unknown): value is string {
  return typeof value === 'string' && isHex(value)
}

/** Only what is small and flat: a value nested deeply enough cannot be written out. */
function show(value: unknown): string {
  if (typeof value === 'object' && value !== null) return 'an object'
  return value === undefined ? 'missing' : String(value).slice(0, 40)
}

function tooLong(what: string): EvidenceError {
  return new EvidenceError('EVENT_LOG_TOO_LONG', `Cannot read event log: ${what} are read`)
}

function invalid(what: string): EvidenceError {
  return new EvidenceError('EVENT_LOG_INVALID', `Cannot read event log: ${what}`)
}
