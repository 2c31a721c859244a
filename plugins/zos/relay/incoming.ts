import { SCHEMA } from '../bus/message.ts'
import type { Twin } from '../registry/registry.ts'
import { type Address, decodeEnvelope, type Envelope } from '../rmb/envelope.ts'
import { challengeOfEnvelope, isSignedBy } from '../rmb/signing.ts'
import type { Seen } from './seen.ts'

/** Longest life of a message, as peers clamp it (spec §10.2). */
export const MAX_TTL_S = 1800

/** How far a sender's clock may be ahead. */
const SKEW_S = 60

const MAX_UID = 256

/** A request that its sender has signed and that has not come before. */
export interface Request {
  readonly uid: string
  readonly source: Address
  readonly twin: Twin
  readonly command: string
  readonly payload: Envelope['payload']
  /** Milliseconds since 1970. */
  readonly expires: number
}

/** A message that is not answered. */
export class MessageDropped extends Error {
  override readonly name = 'MessageDropped'
  /** One word, for counting. */
  readonly kind: string

  constructor(kind: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.kind = kind
  }
}

export interface IncomingOptions {
  readonly twinId: number
  readonly session: string | undefined
  readonly seen: Seen
  twin(id: number): Promise<Twin | undefined>
}

/**
 * Judges one message of a relay.
 *
 * @param now Milliseconds since 1970.
 * @throws {MessageDropped} When it is no request that may be answered.
 * @throws {RegistryError} When nobody can say who the sender is.
 */
export async function readIncoming(
  envelope: Envelope,
  now: number,
  options: IncomingOptions,
): Promise<Request> {
  const { source, message, uid } = envelope
  if (!source || source.twin === 0) {
    // Only relays have no twin, and they sign nothing.
    if (message?.kind !== 'error') throw new MessageDropped('malformed', 'it has no sender')
    throw new MessageDropped('relay-error', `the relay says: ${message.message.slice(0, 200)}`)
  }
  const { twinId, session = '' } = options
  const { destination } = envelope
  if (destination?.twin !== twinId || (destination.connection ?? '') !== session) {
    throw new MessageDropped('elsewhere', 'it is for another twin or session')
  }
  if (message?.kind !== 'request') {
    throw new MessageDropped('no-request', `it is no request but ${message?.kind ?? 'nothing'}`)
  }
  if (envelope.schema !== SCHEMA) {
    throw new MessageDropped('schema', `its schema is not ${SCHEMA}`)
  }
  if (uid === '' || uid.length > MAX_UID) throw new MessageDropped('malformed', 'it has no uid')
  const expires = expiry(envelope, now)
  const key = `${source.twin} ${uid}`
  if (options.seen.has(key)) throw new MessageDropped('repeated', 'it came before')
  const twin = await options.twin(source.twin)
  if (!twin) throw new MessageDropped('unknown-twin', `there is no twin ${source.twin}`)
  const challenge = challengeOfEnvelope(envelope)
  const signature = envelope.signature ?? new Uint8Array()
  if (!(await isSignedBy(twin.publicKey, challenge, signature, twin.keyType))) {
    throw new MessageDropped('signature', `its signature is not that of twin ${source.twin}`)
  }
  // Only now, or a stranger could keep a message of others from being answered.
  if (!options.seen.add(key, expires)) throw new MessageDropped('repeated', 'it came before')
  const { command } = message
  return { uid, source, twin, command, payload: envelope.payload, expires }
}

/** @throws {MessageDropped} When it is none. */
export function readEnvelope(bytes: Uint8Array): Envelope {
  try {
    return decodeEnvelope(bytes)
  } catch (cause) {
    throw new MessageDropped('malformed', (cause as Error).message, { cause })
  }
}

function expiry({ timestamp, expiration }: Envelope, now: number): number {
  const seconds = BigInt(Math.floor(now / 1000))
  if (timestamp > seconds + BigInt(SKEW_S)) {
    throw new MessageDropped('early', 'it was sent in the future: compare the clocks')
  }
  const ttl = expiration < BigInt(MAX_TTL_S) ? expiration : BigInt(MAX_TTL_S)
  const end = Number(timestamp + ttl) * 1000
  if (end <= now) throw new MessageDropped('expired', 'it has expired')
  return end
}
