import { ByteReader } from './byte-reader.ts'
import { EV_NO_ACTION, type EventLogEntry, MAX_EVENTS, nameAcpiEntries } from './event-log.ts'
import { EvidenceError } from './evidence-error.ts'
import { toHex } from './hex.ts'

/** The ACPI table that says where firmware put the log (ACPI 6.5 §5.2.34; spec tdx §7). */
export interface CcelTable {
  /** 1 SEV, 2 TDX. */
  readonly ccType: number
  readonly ccSubtype: number
  /** Least size of the log area in bytes. */
  readonly logLength: bigint
  /** Physical address of the log area. */
  readonly logAddress: bigint
}

/** One record of the log. */
export interface CcelEvent {
  /** 0 MRTD, 1 to 4 RTMR0 to RTMR3. */
  readonly register: number
  /** TCG event type; 3 (EV_NO_ACTION) is not measured. */
  readonly type: number
  /** SHA-384, 48 bytes. */
  readonly digest: Uint8Array
  readonly data: Uint8Array
}

/** A boot event log. */
export interface Ccel {
  /** All records after the one that describes the format. */
  readonly events: readonly CcelEvent[]
  /** Where the padding begins. */
  readonly bytesUsed: number
}

/** The log area is 64 KiB to 1 MiB (spec tdx §7). */
const MAX_LOG_BYTES = 1024 * 1024

const SHA384 = 0x000c
const SPEC_ID = 'Spec ID Event03\0'
const MAX_ALGORITHMS = 16
const PADDING = 0xffff_ffff

/**
 * Reads the CCEL ACPI table, 56 bytes.
 *
 * @throws {EvidenceError} `TRUNCATED`, `CCEL_TABLE_INVALID`.
 */
export function parseCcelTable(bytes: Uint8Array): CcelTable {
  const reader = new ByteReader(bytes, 'CCEL table')
  const signature = Buffer.from(reader.take(4)).toString('latin1')
  const length = reader.u32()
  if (signature !== 'CCEL' || length < 56 || length > bytes.length) {
    throw new EvidenceError(
      'CCEL_TABLE_INVALID',
      `Cannot read CCEL table: signature ${JSON.stringify(signature)}, length ${length} of ${bytes.length}, expected "CCEL" and 56`,
    )
  }
  // Revision, checksum, and who made the table.
  reader.take(28)
  const ccType = reader.u8()
  const ccSubtype = reader.u8()
  reader.take(2)
  return { ccType, ccSubtype, logLength: reader.u64(), logAddress: reader.u64() }
}

/** Whether bytes begin as a boot event log does; what follows may still be damaged. */
export function isCcel(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(32, 48)).toString('latin1') === SPEC_ID
}

/**
 * Reads a boot event log: TCG2 crypto-agile records up to the padding (spec tdx §7, TCG PC Client
 * Platform Firmware Profile §10.2).
 *
 * @throws {EvidenceError} `CCEL_TOO_LONG`, `CCEL_HEADER`, `CCEL_RECORD`, `TRUNCATED`.
 */
export function parseCcel(bytes: Uint8Array): Ccel {
  if (bytes.length > MAX_LOG_BYTES) throw tooLong(`${bytes.length} bytes, at most ${MAX_LOG_BYTES}`)
  const reader = new ByteReader(bytes, 'CCEL')
  const sizes = digestSizes(reader)
  const events: CcelEvent[] = []
  while (!atPadding(bytes.subarray(reader.offset))) {
    if (events.length === MAX_EVENTS) throw tooLong(`more than ${MAX_EVENTS} records`)
    events.push(readEvent(reader, sizes))
  }
  return { events, bytesUsed: reader.offset }
}

/**
 * The log as dstack lists it: registers from zero, the three ACPI entries named. Records of MRTD
 * are left out, as no entry can say them.
 *
 * @throws {EvidenceError} As {@link parseCcel}.
 */
export function ccelEntries(bytes: Uint8Array): EventLogEntry[] {
  const measured = parseCcel(bytes).events.filter(({ register }) => register > 0)
  return nameAcpiEntries(
    measured.map(({ register, type, digest, data }) => ({
      imr: register - 1,
      event_type: type,
      digest: toHex(digest),
      event: '',
      event_payload: toHex(data),
    })),
  )
}

/** Reads the first record, in the old layout, which names the digests of all others. */
function digestSizes(reader: ByteReader): ReadonlyMap<number, number> {
  reader.take(4)
  const type = reader.u32()
  reader.take(20)
  const data = new ByteReader(reader.take(reader.u32()), 'CCEL header')
  const signature = Buffer.from(data.take(16)).toString('latin1')
  if (type !== EV_NO_ACTION || signature !== SPEC_ID) {
    throw new EvidenceError('CCEL_HEADER', 'Cannot read CCEL: it does not begin with a Spec ID')
  }
  // Platform class, version of the specification, size of an unsigned integer.
  data.take(8)
  const count = data.u32()
  if (count > MAX_ALGORITHMS) {
    throw new EvidenceError('CCEL_HEADER', `Cannot read CCEL: it names ${count} algorithms`)
  }
  const sizes = new Map<number, number>()
  for (let i = 0; i < count; i++) sizes.set(data.u16(), data.u16())
  if (sizes.get(SHA384) !== 48) {
    throw new EvidenceError('CCEL_HEADER', 'Cannot read CCEL: its digests are not SHA-384')
  }
  return sizes
}

/** At the end, at a register of all ones, or at a header of zeros; padding may be cut anywhere. */
function atPadding(rest: Uint8Array): boolean {
  if (rest.length >= 4 && Buffer.from(rest.subarray(0, 4)).readUInt32LE() === PADDING) return true
  const head = rest.subarray(0, 12)
  return head.every((byte) => byte === 0) || (rest.length < 4 && head.every((b) => b === 0xff))
}

function readEvent(reader: ByteReader, sizes: ReadonlyMap<number, number>): CcelEvent {
  const at = reader.offset
  const register = reader.u32()
  const type = reader.u32()
  if (register > 4) throw record(at, `register ${register}, expected 0 to 4`)
  const count = reader.u32()
  if (count > sizes.size) throw record(at, `${count} digests, the header names ${sizes.size}`)
  let digest: Uint8Array | undefined
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16()
    const size = sizes.get(algorithm)
    if (size === undefined) throw record(at, `digest algorithm 0x${algorithm.toString(16)}`)
    const value = reader.take(size)
    if (algorithm === SHA384) digest = value
  }
  if (!digest) throw record(at, 'no SHA-384 digest')
  return { register, type, digest, data: reader.take(reader.u32()) }
}

function tooLong(what: string): EvidenceError {
  return new EvidenceError('CCEL_TOO_LONG', `Cannot read CCEL: ${what}`)
}

function record(offset: number, what: string): EvidenceError {
  return new EvidenceError('CCEL_RECORD', `Cannot read CCEL: record at ${offset} has ${what}`)
}
