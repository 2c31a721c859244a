import { createHash } from 'node:crypto'
import type { EventLogEntry } from './event-log.ts'
import { EvidenceError } from './evidence-error.ts'
import { fromHex, toHex } from './hex.ts'

/** Event type of all runtime events (spec dstack §6.3); not a TCG type. */
export const RUNTIME_EVENT_TYPE = 0x0800_0001

/** The register they are extended into. */
export const RUNTIME_REGISTER = 3

/** An event that software measured after boot. */
export interface RuntimeEvent {
  readonly name: string
  readonly payload: Uint8Array
  /** Rule of the digest: 1 joins bytes with colons, 2 hashes canonical JSON. */
  readonly version: 1 | 2
}

/**
 * The bytes whose SHA-384 is the digest of a runtime event (spec dstack §6.3).
 *
 * Version 1 is `le32(type) ":" name ":" payload`, in which a colon of the name cannot be told from
 * the one behind it; version 2 is the canonical JSON (RFC 8785) of name, payload and type.
 *
 * @throws {EvidenceError} `EVENT_NAME_INVALID` for a name that is not Unicode (a lone surrogate).
 */
export function preimageOf({ name, payload, version }: RuntimeEvent): Uint8Array {
  if (/\p{Cs}/u.test(name)) {
    throw new EvidenceError(
      'EVENT_NAME_INVALID',
      `Cannot hash runtime event ${JSON.stringify(name.slice(0, 40))}: its name is not Unicode text`,
    )
  }
  // JSON.stringify escapes as RFC 8785 §3.2.2.2 asks; these keys are in its order.
  if (version === 2) {
    return Buffer.from(JSON.stringify({ name, payload: toHex(payload), type: RUNTIME_EVENT_TYPE }))
  }
  const type = Buffer.alloc(4)
  type.writeUInt32LE(RUNTIME_EVENT_TYPE)
  return Buffer.concat([type, Buffer.from(`:${name}:`), payload])
}

/**
 * The 48 bytes that RTMR3 is extended with.
 *
 * @throws {EvidenceError} As {@link preimageOf}.
 */
export function digestOf(event: RuntimeEvent): Uint8Array {
  return createHash('sha384').update(preimageOf(event)).digest()
}

/**
 * A runtime event as an entry of the log, with its digest, and with its preimage in version 2.
 *
 * @throws {EvidenceError} As {@link preimageOf}.
 */
export function runtimeEntry(event: RuntimeEvent): EventLogEntry {
  const preimage = preimageOf(event)
  return {
    imr: RUNTIME_REGISTER,
    event_type: RUNTIME_EVENT_TYPE,
    digest: createHash('sha384').update(preimage).digest('hex'),
    event: event.name,
    event_payload: toHex(event.payload),
    ...(event.version === 2 && { version: 2, preimage: toHex(preimage) }),
  }
}

/** Whether an entry says it is a runtime event, in whichever register. */
export function isRuntimeEntry(entry: EventLogEntry): boolean {
  return entry.event_type === RUNTIME_EVENT_TYPE
}

/**
 * The runtime event that an entry describes. Its `digest` and `preimage` are not looked at.
 *
 * @throws {EvidenceError} `EVENT_REGISTER` when it is not in RTMR3, `EVENT_LOG_INVALID` for a
 *   version other than 1 and 2, `HEX_INVALID`.
 */
export function runtimeEventOf(entry: EventLogEntry): RuntimeEvent {
  const { imr, event, event_payload, version = 1 } = entry
  const called = `runtime event ${JSON.stringify(event.slice(0, 40))}`
  if (imr !== RUNTIME_REGISTER) {
    throw new EvidenceError(
      'EVENT_REGISTER',
      `Cannot trust ${called}: it is in RTMR${imr}, expected RTMR${RUNTIME_REGISTER}`,
    )
  }
  if (version !== 1 && version !== 2) {
    throw new EvidenceError('EVENT_LOG_INVALID', `Cannot read ${called}: version is ${version}`)
  }
  return { name: event, payload: fromHex(event_payload, `payload of ${called}`), version }
}
