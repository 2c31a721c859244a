import { SCHEMA } from '../bus/message.ts'
import type { Answer } from '../rmb/answer.ts'
import { decrypt, encrypt } from '../rmb/encryption.ts'
import { type Address, type Envelope, encodeEnvelope, type Payload } from '../rmb/envelope.ts'
import type { Identity } from '../rmb/identity.ts'
import { challengeOfEnvelope } from '../rmb/signing.ts'
import { MAX_TTL_S, type Request } from './incoming.ts'

/** Codes of peers (spec §10.1). */
const CODES = { payload: 101, noKey: 105, crypto: 106 } as const

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text of a request's payload, or what to answer where there is none to be had. */
export function payloadOf(
  { payload, twin }: Pick<Request, 'payload' | 'twin'>,
  identity: Identity,
): string | (Answer & { readonly ok: false }) {
  let bytes = payload?.bytes ?? new Uint8Array()
  if (payload?.kind === 'cipher') {
    const own = `twin ${twin.id}`
    if (!twin.pk) return refused(CODES.noKey, `${own} has no public key for encryption`)
    try {
      bytes = decrypt(identity.sharedKey(twin.pk), bytes)
    } catch {
      return refused(CODES.crypto, `the payload cannot be decrypted with the key of ${own}`)
    }
  }
  try {
    return utf8.decode(bytes)
  } catch {
    return refused(CODES.payload, 'invalid payload: it is not UTF-8')
  }
}

function refused(code: number, message: string) {
  return { ok: false, code, message } as const
}

/**
 * The reply to a request, signed, and encrypted where its sender has a key for that.
 *
 * @param now Milliseconds since 1970.
 */
export function replyTo(
  { uid, source, twin }: Pick<Request, 'uid' | 'source' | 'twin'>,
  answer: Answer,
  own: { readonly identity: Identity; readonly address: Address },
  now: number,
): Uint8Array {
  const { identity, address } = own
  const plain = new TextEncoder().encode(answer.ok ? answer.text : 'null')
  const sealed = sealedFor(twin.pk, plain, identity)
  const said = sealed ? answer : refused(CODES.crypto, `the key of twin ${twin.id} is not valid`)
  const unsigned: Envelope = {
    uid,
    timestamp: BigInt(Math.floor(now / 1000)),
    expiration: BigInt(MAX_TTL_S),
    source: address,
    destination: source,
    message: said.ok
      ? { kind: 'response' }
      : { kind: 'error', code: said.code, message: said.message },
    schema: SCHEMA,
    payload: sealed ?? { kind: 'plain', bytes: new TextEncoder().encode('null') },
    relays: [],
  }
  const signature = identity.sign(challengeOfEnvelope(unsigned))
  return encodeEnvelope({ ...unsigned, signature })
}

/** @returns Undefined where the key is none; then nothing may go out in clear. */
function sealedFor(
  pk: Uint8Array | undefined,
  plain: Uint8Array,
  identity: Identity,
): Payload | undefined {
  if (!pk) return { kind: 'plain', bytes: plain }
  try {
    return { kind: 'cipher', bytes: encrypt(identity.sharedKey(pk), plain) }
  } catch {
    return undefined
  }
}
