import { createHash } from 'node:crypto'
import { EV_NO_ACTION, type EventLogEntry, isStripped } from './event-log.ts'
import { EvidenceError } from './evidence-error.ts'
import { fromHex, sameBytes, toHex } from './hex.ts'
import { digestOf, isRuntimeEntry, preimageOf, runtimeEventOf } from './runtime-event.ts'

/** RTMR0 to RTMR3, 48 bytes each. */
export type Registers = readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array]

/** What a log says about one register of a quote. */
export interface RegisterResult {
  readonly register: 0 | 1 | 2 | 3
  /** `unknown`: the log does not cover this register, as a stripped one does not cover 0 to 2. */
  readonly state: 'match' | 'mismatch' | 'unknown'
  /** What the entries given replay to. */
  readonly replayed: Uint8Array
}

/** `SHA384(register || digest)`, both 48 bytes: how TDX extends a register. */
export function extended(register: Uint8Array, digest: Uint8Array): Uint8Array {
  return createHash('sha384').update(register).update(digest).digest()
}

/**
 * Replays a log from zero registers (spec tdx §7, dstack §6.3). The digest of a runtime event is
 * computed from its name and payload; what the entry says it is does not count.
 *
 * @param until Stops after the first runtime event of this name.
 * @throws {EvidenceError} `EVENT_REGISTER`, `EVENT_DIGEST_MISSING`, or as {@link runtimeEventOf}.
 */
export function replay(entries: readonly EventLogEntry[], until?: string): Registers {
  const zero = () => new Uint8Array(48)
  const registers: [Uint8Array, Uint8Array, Uint8Array, Uint8Array] = [
    zero(),
    zero(),
    zero(),
    zero(),
  ]
  for (const entry of entries) {
    if (entry.event_type === EV_NO_ACTION) continue
    const at = registerOf(entry)
    registers[at] = extended(registers[at], measuredDigest(entry))
    if (until !== undefined && isRuntimeEntry(entry) && entry.event === until) break
  }
  return registers
}

/**
 * The 48 bytes an entry extends its register with.
 *
 * @throws {EvidenceError} As {@link replay}.
 */
export function measuredDigest(entry: EventLogEntry): Uint8Array {
  if (isRuntimeEntry(entry)) return digestOf(runtimeEventOf(entry))
  const digest = fromHex(entry.digest, 'digest')
  if (digest.length !== 48) {
    throw new EvidenceError(
      'EVENT_DIGEST_MISSING',
      `Cannot replay event of type 0x${entry.event_type.toString(16)} in RTMR${entry.imr}: it has no SHA-384 digest`,
    )
  }
  return digest
}

/**
 * Replays a log and compares it with the registers of a quote.
 *
 * @param covers The registers of which the log is complete; default all four, or RTMR3 alone
 *   when the log is stripped.
 * @throws {EvidenceError} As {@link replay}.
 */
export function compareRegisters(
  entries: readonly EventLogEntry[],
  quoted: Registers,
  covers: readonly number[] = isStripped(entries) ? [3] : [0, 1, 2, 3],
): readonly RegisterResult[] {
  const replayed = replay(entries)
  return ([0, 1, 2, 3] as const).map((register) => {
    const same = sameBytes(replayed[register], quoted[register])
    const state = same ? 'match' : covers.includes(register) ? 'mismatch' : 'unknown'
    return { register, state, replayed: replayed[register] }
  })
}

/**
 * The first runtime entry whose stated digest or preimage is not that of its name and payload: the
 * replay is not led astray by it, but a reader of the log would be. A missing digest is no lie.
 *
 * @throws {EvidenceError} As {@link runtimeEventOf}.
 */
export function misstatedEntry(entries: readonly EventLogEntry[]): EventLogEntry | undefined {
  return entries.find((entry) => {
    if (!isRuntimeEntry(entry)) return false
    const { digest, preimage } = entry
    const event = runtimeEventOf(entry)
    const digestIsRight = digest === '' || digest === toHex(digestOf(event))
    return !digestIsRight || (preimage !== undefined && preimage !== toHex(preimageOf(event)))
  })
}

function registerOf({ imr }: EventLogEntry): 0 | 1 | 2 | 3 {
  if (imr === 0 || imr === 1 || imr === 2 || imr === 3) return imr
  throw new EvidenceError('EVENT_REGISTER', `Cannot replay event: imr is ${imr}, expected 0 to 3`)
}
