import { EvidenceError } from '../evidence-error.ts'
import { type CborMap, decodeCbor } from './cbor.ts'
import { type CoseSign1, parseCoseSign1 } from './cose.ts'

/** An attestation document of the Nitro Secure Module (spec nitro §3), read and not verified. */
export interface NitroDocument {
  /** What signs {@link NitroDocument}'s other fields, which are its payload. */
  readonly message: CoseSign1
  /** `i-<instance>-enc<enclave>`. */
  readonly moduleId: string
  /** The hash that measures: always `SHA384`. */
  readonly digest: 'SHA384'
  /** Unix time in milliseconds. */
  readonly timestamp: number
  /** 1 to 32 registers by index from 0 to 31; 32, 48 or 64 bytes each. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>
  /** DER, of the enclave's key. */
  readonly certificate: Uint8Array
  /** DER, the root first, the issuer of {@link certificate} last. */
  readonly cabundle: readonly Uint8Array[]
  /** 1 to 1024 bytes that the enclave asked to be signed. */
  readonly publicKey: Uint8Array | undefined
  /** Up to 1024 bytes, as {@link nonce}. */
  readonly userData: Uint8Array | undefined
  readonly nonce: Uint8Array | undefined
}

const MAX_PAYLOAD_BYTES = 16_384
const MAX_MODULE_ID = 256
const MAX_PCRS = 32
const PCR_BYTES: readonly number[] = [32, 48, 64]
const MAX_FIELD_BYTES = 1024
/** Genuine bundles hold four; each one costs a signature to check. */
const MAX_BUNDLE = 6

/**
 * Reads a document. What a field may be is spec nitro §3; an optional one may be null or absent.
 * Fields of other names are ignored.
 *
 * @throws {EvidenceError} `NITRO_MALFORMED`, or what `parseCoseSign1` and `decodeCbor` throw.
 */
export function parseDocument(bytes: Uint8Array): NitroDocument {
  const message = parseCoseSign1(bytes)
  const { byteLength } = message.payload
  if (byteLength > MAX_PAYLOAD_BYTES) {
    throw malformed(`its payload has ${byteLength} bytes, at most ${MAX_PAYLOAD_BYTES} are allowed`)
  }
  const payload = decodeCbor(message.payload, 'payload of attestation document')
  if (!(payload instanceof Map)) throw malformed('its payload is no map')
  return {
    message,
    moduleId: readModuleId(payload),
    digest: readDigest(payload),
    timestamp: readTimestamp(payload),
    pcrs: readPcrs(payload),
    certificate: readBytes(payload.get('certificate'), 'certificate', 1),
    cabundle: readBundle(payload),
    publicKey: readOptional(payload, 'public_key', 1),
    userData: readOptional(payload, 'user_data', 0),
    nonce: readOptional(payload, 'nonce', 0),
  }
}

function readModuleId(payload: CborMap): string {
  const value = payload.get('module_id')
  if (typeof value !== 'string' || value.length === 0 || value.length > MAX_MODULE_ID) {
    throw malformed(`module_id is no text of 1 to ${MAX_MODULE_ID} characters`)
  }
  return value
}

function readDigest(payload: CborMap): 'SHA384' {
  const value = payload.get('digest')
  if (value !== 'SHA384') throw malformed('digest is not "SHA384"')
  return value
}

function readTimestamp(payload: CborMap): number {
  const value = payload.get('timestamp')
  // Past this there is no such date, and nothing could be said of it.
  if (typeof value !== 'number' || !Number.isInteger(value) || value <= 0 || value > MAX_DATE) {
    throw malformed('timestamp is no time in milliseconds')
  }
  return value
}

/** The last moment of ECMAScript's dates. */
const MAX_DATE = 8.64e15

function readPcrs(payload: CborMap): ReadonlyMap<number, Uint8Array> {
  const value = payload.get('pcrs')
  if (!(value instanceof Map) || value.size === 0 || value.size > MAX_PCRS) {
    throw malformed(`pcrs is no map of 1 to ${MAX_PCRS} registers`)
  }
  const pcrs = new Map<number, Uint8Array>()
  for (const [index, bytes] of value as CborMap) {
    if (typeof index !== 'number' || !(index >= 0 && index < MAX_PCRS)) {
      throw malformed(`pcrs has index ${JSON.stringify(`${index}`.slice(0, 40))}`)
    }
    if (!(bytes instanceof Uint8Array) || !PCR_BYTES.includes(bytes.byteLength)) {
      throw malformed(`PCR ${index} is not of ${PCR_BYTES.join(', ')} bytes`)
    }
    pcrs.set(index, bytes)
  }
  return pcrs
}

function readBundle(payload: CborMap): readonly Uint8Array[] {
  const value = payload.get('cabundle')
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_BUNDLE) {
    throw malformed(`cabundle is no array of 1 to ${MAX_BUNDLE} certificates`)
  }
  return value.map((item, i) => readBytes(item, `cabundle[${i}]`, 1))
}

function readOptional(payload: CborMap, name: string, least: number): Uint8Array | undefined {
  const value = payload.get(name)
  return value === null || value === undefined ? undefined : readBytes(value, name, least)
}

function readBytes(value: unknown, name: string, least: number): Uint8Array {
  if (
    value instanceof Uint8Array &&
    value.byteLength >= least &&
    value.byteLength <= MAX_FIELD_BYTES
  ) {
    return value
  }
  throw malformed(`${name} is no byte string of ${least} to ${MAX_FIELD_BYTES} bytes`)
}

function malformed(why: string): EvidenceError {
  return new EvidenceError('NITRO_MALFORMED', `Cannot read attestation document: ${why}`)
}
