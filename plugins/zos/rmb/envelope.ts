import { type Field, MessageWriter, ProtobufError, readFields, readText } from './protobuf.ts'

/** One end of a message: a twin, and which of its connections. */
export interface Address {
  /** u32 */
  readonly twin: number
  readonly connection?: string
}

export type Message =
  | { readonly kind: 'request'; readonly command: string }
  | { readonly kind: 'response' }
  | { readonly kind: 'error'; readonly code: number; readonly message: string }
  | { readonly kind: 'ping' }
  | { readonly kind: 'pong' }

export interface Payload {
  readonly kind: 'plain' | 'cipher'
  readonly bytes: Uint8Array
}

/** What travels between twins over relays (spec §10.2, rmb-rs `proto/types.proto`). */
export interface Envelope {
  readonly uid: string
  readonly tags?: string
  /** Seconds since 1970, u64. */
  readonly timestamp: bigint
  /** Seconds after {@link timestamp}, u64. */
  readonly expiration: bigint
  /** Only errors of a relay have none. */
  readonly source?: Address
  readonly destination?: Address
  readonly message?: Message
  /** A type byte and 64 bytes. */
  readonly signature?: Uint8Array
  readonly schema?: string
  /** No longer used, but signed. */
  readonly federation?: string
  readonly payload?: Payload
  /** No longer used, but signed. */
  readonly relays: readonly string[]
}

/** More relays than any twin has. */
const MAX_RELAYS = 64

/** The wire form, in the order of fields that the published clients write. */
export function encodeEnvelope(envelope: Envelope): Uint8Array {
  const { source, destination, message, signature, payload } = envelope
  const writer = new MessageWriter()
  if (envelope.uid !== '') writer.text(1, envelope.uid)
  if (envelope.tags !== undefined) writer.text(2, envelope.tags)
  if (envelope.timestamp !== 0n) writer.varint(3, envelope.timestamp)
  if (envelope.expiration !== 0n) writer.varint(4, envelope.expiration)
  if (source) writer.bytes(5, encodeAddress(source))
  if (destination) writer.bytes(6, encodeAddress(destination))
  if (message) writer.bytes(MESSAGE_FIELDS[message.kind], encodeMessage(message))
  if (signature) writer.bytes(9, signature)
  if (envelope.schema !== undefined) writer.text(10, envelope.schema)
  if (envelope.federation !== undefined) writer.text(11, envelope.federation)
  if (payload) writer.bytes(payload.kind === 'plain' ? 13 : 14, payload.bytes)
  for (const relay of envelope.relays) writer.text(17, relay)
  return writer.finish()
}

/**
 * Reads what {@link encodeEnvelope} and its like write. Unknown fields are passed over; of a field
 * that comes twice the last counts, parts of addresses and messages one by one, as everywhere in
 * protocol buffers. Payload and signature are views of `bytes`.
 *
 * @throws {ProtobufError}
 */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  const envelope: { -readonly [Key in keyof Envelope]: Envelope[Key] } & { relays: string[] } = {
    uid: '',
    timestamp: 0n,
    expiration: 0n,
    relays: [],
  }
  for (const field of readFields(bytes)) {
    if (field.type === 'varint') {
      if (field.number === 3) envelope.timestamp = field.value
      if (field.number === 4) envelope.expiration = field.value
    }
    if (field.type !== 'bytes') continue
    const { number, value } = field
    switch (number) {
      case 1:
        envelope.uid = readText(value)
        break
      case 2:
        envelope.tags = readText(value)
        break
      case 5:
        envelope.source = decodeAddress(value, envelope.source)
        break
      case 6:
        envelope.destination = decodeAddress(value, envelope.destination)
        break
      case 7:
      case 8:
      case 12:
      case 15:
      case 16:
        envelope.message = decodeMessage(number, value, envelope.message)
        break
      case 9:
        envelope.signature = value
        break
      case 10:
        envelope.schema = readText(value)
        break
      case 11:
        envelope.federation = readText(value)
        break
      case 13:
        envelope.payload = { kind: 'plain', bytes: value }
        break
      case 14:
        envelope.payload = { kind: 'cipher', bytes: value }
        break
      case 17:
        if (envelope.relays.length === MAX_RELAYS) {
          throw new ProtobufError(`Cannot read envelope: it names more than ${MAX_RELAYS} relays`)
        }
        envelope.relays.push(readText(value))
    }
  }
  return envelope
}

const MESSAGE_FIELDS = { request: 7, response: 8, error: 12, ping: 15, pong: 16 } as const

function encodeAddress({ twin, connection }: Address): Uint8Array {
  const writer = new MessageWriter()
  if (twin !== 0) writer.varint(1, BigInt(twin))
  if (connection !== undefined) writer.text(2, connection)
  return writer.finish()
}

function encodeMessage(message: Message): Uint8Array {
  const writer = new MessageWriter()
  if (message.kind === 'request' && message.command !== '') writer.text(1, message.command)
  if (message.kind === 'error') {
    if (message.code !== 0) writer.varint(1, BigInt(message.code))
    if (message.message !== '') writer.text(2, message.message)
  }
  return writer.finish()
}

function decodeAddress(bytes: Uint8Array, before: Address | undefined): Address {
  let address: Address = before ?? { twin: 0 }
  for (const field of readFields(bytes)) {
    if (field.number === 1 && field.type === 'varint') address = { ...address, twin: u32(field) }
    if (field.number === 2 && field.type === 'bytes') {
      address = { ...address, connection: readText(field.value) }
    }
  }
  return address
}

function decodeMessage(number: number, bytes: Uint8Array, before: Message | undefined): Message {
  const fields = [...readFields(bytes)]
  switch (number) {
    case MESSAGE_FIELDS.request: {
      let command = before?.kind === 'request' ? before.command : ''
      for (const field of fields) {
        if (field.number === 1 && field.type === 'bytes') command = readText(field.value)
      }
      return { kind: 'request', command }
    }
    case MESSAGE_FIELDS.error: {
      let error = before?.kind === 'error' ? before : { code: 0, message: '' }
      for (const field of fields) {
        if (field.number === 1 && field.type === 'varint') error = { ...error, code: u32(field) }
        if (field.number === 2 && field.type === 'bytes') {
          error = { ...error, message: readText(field.value) }
        }
      }
      return { kind: 'error', code: error.code, message: error.message }
    }
    case MESSAGE_FIELDS.response:
      return { kind: 'response' }
    case MESSAGE_FIELDS.ping:
      return { kind: 'ping' }
    default:
      return { kind: 'pong' }
  }
}

/** Of a longer number the lower half counts. */
function u32({ value }: Field & { readonly type: 'varint' }): number {
  return Number(BigInt.asUintN(32, value))
}
