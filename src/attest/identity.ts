import { createHash } from 'node:crypto'
import type { TdxRegisters } from '../device/devices.ts'
import { EV_NO_ACTION, type EventLogEntry } from './event-log.ts'
import { EvidenceError } from './evidence-error.ts'
import { replay } from './replay.ts'
import {
  isRuntimeEntry,
  RUNTIME_REGISTER,
  type RuntimeEvent,
  runtimeEventOf,
} from './runtime-event.ts'

/** What a TDX guest's software measured about itself before it was ready (spec dstack §6.3, §6.4). */
export interface AppInfo {
  /** 20 bytes, as all ids here; undefined where no event says it. */
  readonly appId: Uint8Array | undefined
  /** 32 bytes: SHA-256 of the app-compose file. */
  readonly composeHash: Uint8Array | undefined
  /** 20 bytes, or none when the application has no instances. */
  readonly instanceId: Uint8Array | undefined
  /** 32 bytes, as the guest measured it; a configuration may claim another. */
  readonly osImageHash: Uint8Array | undefined
  /** JSON `{"name", "id"}` as it was measured. */
  readonly keyProvider: string | undefined
  /** 32 bytes. */
  readonly mrSystem: Uint8Array
  /** 32 bytes. */
  readonly mrAggregated: Uint8Array
  /** The RTMR3 these were computed with, 48 bytes. */
  readonly rtmr3: Uint8Array
}

/** The boot's last own event: what follows is the application's, whatever it calls itself. */
const SYSTEM_READY = 'system-ready'

/** Up to here the boot is the same for every instance of an application. */
const BOOT_MR_DONE = 'boot-mr-done'

/** The events that say who the application is, and those that end what they say. */
const SYSTEM: readonly string[] = [
  'app-id',
  'compose-hash',
  'instance-id',
  'os-image-hash',
  'key-provider',
  BOOT_MR_DONE,
  SYSTEM_READY,
]

/**
 * Reads the application's identity out of a log. Trust it only where the log replays to the
 * registers of a verified quote.
 *
 * @param registers Of the quote. RTMR3 is replayed from the log.
 * @param variant `boot-time` stops at `boot-mr-done`, as dstack's KMS does when it signs
 *   certificates; `full` takes all of RTMR3 and the events before `system-ready`.
 * @throws {EvidenceError} `EVENT_CONFLICT` when two events of one name differ, `EVENT_AMBIGUOUS`
 *   where something may hide one, `EVENT_LOG_INVALID` for a wrong length or what is no text; as
 *   `replay`.
 */
export function appInfo(
  entries: readonly EventLogEntry[],
  registers: TdxRegisters,
  variant: 'full' | 'boot-time' = 'full',
): AppInfo {
  const last = variant === 'full' ? SYSTEM_READY : BOOT_MR_DONE
  const events = systemEvents(entries, last)
  // A hash found later is still of the boot: the image is the same whenever it is measured.
  const all = variant === 'full' ? events : systemEvents(entries, SYSTEM_READY)
  const rtmr3 = replay(entries, variant === 'full' ? undefined : BOOT_MR_DONE)[3]
  const keyProvider = payloadOf(events, 'key-provider')
  return {
    appId: payloadOf(events, 'app-id', 20),
    composeHash: payloadOf(events, 'compose-hash', 32),
    instanceId: payloadOf(events, 'instance-id', 20, 0),
    osImageHash: payloadOf(all, 'os-image-hash', 32),
    keyProvider: keyProvider && textOf(keyProvider, 'key-provider'),
    mrSystem: mrSystem(registers, keyProvider),
    mrAggregated: mrAggregated(registers, rtmr3),
    rtmr3,
  }
}

/**
 * `SHA256(MRTD || RTMR0 || RTMR1 || RTMR2 || K)`, K the hash of the key provider's event or zeros
 * (spec dstack §6.4).
 */
export function mrSystem(registers: TdxRegisters, keyProvider?: Uint8Array): Uint8Array {
  const { mrtd, rtmr } = registers
  return sha256(mrtd, rtmr[0], rtmr[1], rtmr[2], keyProvider ? sha256(keyProvider) : zeros(32))
}

/**
 * `SHA256(MRTD || RTMR0 || … || RTMR3)`; MRCONFIGID, MROWNER and MROWNERCONFIG follow inside the
 * hash when any of them is set (spec dstack §6.4).
 */
export function mrAggregated(registers: TdxRegisters, rtmr3 = registers.rtmr[3]): Uint8Array {
  const { mrtd, rtmr, mrConfigId, mrOwner, mrOwnerConfig } = registers
  const owner = [mrConfigId, mrOwner, mrOwnerConfig]
  const set = owner.some((value) => !isZero(value))
  return sha256(mrtd, rtmr[0], rtmr[1], rtmr[2], rtmr3, ...(set ? owner : []))
}

/**
 * The application's id where none is configured: the first 20 bytes of the compose hash, which is
 * SHA-256 of the app-compose file.
 */
export function defaultAppId(compose: Uint8Array): Uint8Array {
  return compose.slice(0, 20)
}

/** The instance's id: the first 20 bytes of `SHA256(seed || app id || binding)`. */
export function instanceId(seed: Uint8Array, appId: Uint8Array, binding = zeros(0)): Uint8Array {
  return sha256(seed, appId, binding).slice(0, 20)
}

/** Names the platform: SHA-256 of the PPID of the PCK certificate, 32 bytes. */
export function deviceId(ppid: Uint8Array): Uint8Array {
  return sha256(ppid)
}

/** On Nitro: SHA-256 of PCR4, which measures the parent instance, 32 bytes. */
export function nitroDeviceId(pcrs: ReadonlyMap<number, Uint8Array>): Uint8Array {
  return sha256(pcr(pcrs, 4))
}

/** Names the enclave's image: `SHA256(PCR0 || PCR1 || PCR2)`; also stands for the compose hash. */
export function nitroImageHash(pcrs: ReadonlyMap<number, Uint8Array>): Uint8Array {
  return sha256(pcr(pcrs, 0), pcr(pcrs, 1), pcr(pcrs, 2))
}

/** What a policy has to know of a TD beside its measurements (spec dstack §6.4). */
export interface TdPolicyFacts {
  /** Bit 0 of the attributes: the host can read the memory. */
  readonly debug: boolean
  /** Any bit of the attributes' first byte, all of which make a TD untrustworthy. */
  readonly underDebug: boolean
  /** The TDX module is not Intel's own. */
  readonly foreignModule: boolean
  /** A service TD may act on this one. */
  readonly serviceTd: boolean
}

/** @param td Attributes of 8 bytes, MRSIGNERSEAM and, from TDX 1.5 on, MRSERVICETD of 48. */
export function tdPolicyFacts(td: {
  readonly tdAttributes: Uint8Array
  readonly mrSignerSeam: Uint8Array
  readonly mrServiceTd?: Uint8Array | undefined
}): TdPolicyFacts {
  const [first = 0] = td.tdAttributes
  return {
    debug: (first & 1) !== 0,
    underDebug: first !== 0,
    foreignModule: !isZero(td.mrSignerSeam),
    serviceTd: td.mrServiceTd !== undefined && !isZero(td.mrServiceTd),
  }
}

/**
 * The runtime events before the first of the given name; all if there is none. Whoever shows a log
 * chooses how: it must not hide what the system said, so that something said later counts instead.
 */
function systemEvents(entries: readonly EventLogEntry[], last: string): RuntimeEvent[] {
  const end = entries.findIndex((entry) => isRuntimeEntry(entry) && entry.event === last)
  const before = end === -1 ? entries : entries.slice(0, end)
  const events = before.filter(isRuntimeEntry).map(runtimeEventOf)
  // A digest of version 1 is the same for "app-id" with "x:y" and "app-id:x" with "y".
  const longer = events.find(({ name }) => SYSTEM.some((own) => name.startsWith(`${own}:`)))
  if (longer) throw ambiguous(`event ${JSON.stringify(longer.name.slice(0, 40))} hides a name`)
  // The digest of a runtime event may stand in the log as that of an event of another type.
  const says = events.some(({ name }) => SYSTEM.includes(name))
  if (says && before.some(isNameless)) {
    throw ambiguous('an event of another type in RTMR3 may hide one of the system')
  }
  return events
}

function isNameless(entry: EventLogEntry): boolean {
  return (
    entry.imr === RUNTIME_REGISTER && entry.event_type !== EV_NO_ACTION && !isRuntimeEntry(entry)
  )
}

function ambiguous(why: string): EvidenceError {
  return new EvidenceError('EVENT_AMBIGUOUS', `Cannot read event log: ${why}`)
}

function payloadOf(
  events: readonly RuntimeEvent[],
  name: string,
  ...lengths: readonly number[]
): Uint8Array | undefined {
  const [first, ...others] = events.filter((event) => event.name === name)
  if (!first) return undefined
  if (others.some(({ payload }) => Buffer.compare(payload, first.payload) !== 0)) {
    throw new EvidenceError('EVENT_CONFLICT', `Cannot read event log: two events "${name}" differ`)
  }
  if (lengths.length > 0 && !lengths.includes(first.payload.length)) {
    throw new EvidenceError(
      'EVENT_LOG_INVALID',
      `Cannot read event "${name}": ${first.payload.length} bytes, expected ${lengths[0]}`,
    )
  }
  return first.payload
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Repaired, two payloads could read the same. */
function textOf(payload: Uint8Array, name: string): string {
  try {
    return UTF8.decode(payload)
  } catch (cause) {
    const message = `Cannot read event "${name}": it is not UTF-8`
    throw new EvidenceError('EVENT_LOG_INVALID', message, { cause })
  }
}

function pcr(pcrs: ReadonlyMap<number, Uint8Array>, index: number): Uint8Array {
  const value = pcrs.get(index)
  if (value) return value
  throw new EvidenceError('PCR_MISSING', `Cannot derive identity: the document has no PCR${index}`)
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0)
}

function zeros(length: number): Uint8Array {
  return new Uint8Array(length)
}

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return new Uint8Array(hash.digest())
}
