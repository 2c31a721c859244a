import { encode } from '@msgpack/msgpack'
import { EvidenceError } from './evidence-error.ts'
import { MessagePackReader } from './message-pack.ts'

/**
 * What a certificate with app info says of the application that asked for it (spec dstack §8). The
 * same is measured, and only there it is to be believed.
 */
export interface CertifiedApp {
  /** 20 bytes. */
  readonly appId: Uint8Array
  /** 32 bytes. */
  readonly composeHash: Uint8Array
  /** 20 bytes, or none. */
  readonly instanceId: Uint8Array
  /** 32 bytes, or none. */
  readonly deviceId: Uint8Array
  /** 32 bytes. */
  readonly mrSystem: Uint8Array
  /** 32 bytes. */
  readonly mrAggregated: Uint8Array
  /** 32 bytes, or none. */
  readonly osImageHash: Uint8Array
  /** JSON `{"name", "id"}`, or none. */
  readonly keyProvider: Uint8Array
}

/** In the order they are written, with the names that newer agents of dstack write beside them. */
const FIELDS = [
  ['appId', 'app_id'],
  ['composeHash', 'compose_hash'],
  ['instanceId', 'instance_id'],
  ['deviceId', 'device_id'],
  ['mrSystem', 'mr_system'],
  ['mrAggregated', 'mr_aggregated'],
  ['osImageHash', 'os_image_hash'],
  ['keyProvider', 'key_provider_info'],
] as const satisfies readonly (readonly [keyof CertifiedApp, string])[]

const MAX_FIELD_BYTES = 16 * 1024

/** Writes an array of eight, which agents of every version read. */
export function writeCertifiedApp(app: CertifiedApp): Uint8Array {
  return encode(FIELDS.map(([field]) => app[field]))
}

/**
 * Reads the array, or the map by names that newer agents write.
 *
 * @throws {EvidenceError} `RATLS_APP_INFO` when a field is missing; as `MessagePackReader`.
 */
export function readCertifiedApp(bytes: Uint8Array): CertifiedApp {
  const reader = new MessagePackReader(bytes)
  const found = new Map<string, Uint8Array>()
  const first = bytes[0] ?? 0
  if (first >= 0x90 && first < 0xa0) {
    const values = reader.list(FIELDS.length, () => reader.bytes(MAX_FIELD_BYTES))
    for (const [i, value] of values.entries()) found.set(FIELDS[i]?.[0] ?? '', value)
  } else {
    const readers = FIELDS.map(([field, name]) => {
      return [name, () => void found.set(field, reader.bytes(MAX_FIELD_BYTES))] as const
    })
    reader.map(Object.fromEntries(readers))
  }
  reader.end()
  const entries = FIELDS.map(([field, name]) => {
    const value = found.get(field)
    if (value) return [field, value] as const
    throw new EvidenceError('RATLS_APP_INFO', `Cannot read app info: it has no ${name}`)
  })
  return Object.fromEntries(entries) as Record<keyof CertifiedApp, Uint8Array>
}
