import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { WebSocket } from 'ws'
import type { Twin } from '../../plugins/zos/registry/registry.ts'
import { decrypt, encrypt } from '../../plugins/zos/rmb/encryption.ts'
import { decodeEnvelope, type Envelope, encodeEnvelope } from '../../plugins/zos/rmb/envelope.ts'
import type { Identity } from '../../plugins/zos/rmb/identity.ts'
import { challengeOfEnvelope, isSignedBy } from '../../plugins/zos/rmb/signing.ts'
import { relayToken } from '../../plugins/zos/rmb/token.ts'
import { within } from '../../src/deadline.ts'

/** A twin that asks another over a relay. */
export interface Requester {
  /** Sends what {@link envelope} makes, and waits for the answer to its uid. */
  ask(envelope: Envelope): Promise<Envelope>
  /** Sends it and waits for nothing. */
  send(envelope: Envelope): void
  /** A signed request; `changes` come before the signature. */
  envelope(command: string, payload: string, changes?: Partial<Envelope>): Envelope
  /** Text of an answer, decrypted; fails where its signature is not the other twin's. */
  read(answer: Envelope): Promise<string>
}

export interface RequesterOptions {
  readonly url: string
  readonly identity: Identity
  readonly twinId: number
  readonly session?: string
  /** Whom it asks. */
  readonly other: Twin
  /** Default: encrypted. */
  readonly plain?: boolean
}

export async function requester(t: TestContext, options: RequesterOptions): Promise<Requester> {
  const { url, identity, twinId, session, other, plain = false } = options
  const token = relayToken(identity, { twinId, ...(session && { session }) })
  const socket = new WebSocket(`${url}/?${token}`)
  t.after(() => socket.terminate())
  await within(20_000, once(socket, 'open'), 'connect to the relay')
  const answers = new Map<string, (envelope: Envelope) => void>()
  socket.on('message', (data) => {
    const envelope = decodeEnvelope(new Uint8Array(data as Buffer))
    answers.get(envelope.uid)?.(envelope)
  })
  const send = (envelope: Envelope) => socket.send(encodeEnvelope(envelope))
  return {
    send,
    async ask(envelope) {
      const answer = new Promise<Envelope>((resolve) => answers.set(envelope.uid, resolve))
      send(envelope)
      return await within(30_000, answer, `answer ${envelope.uid}`)
    },
    envelope(command, payload, changes) {
      const bytes = new TextEncoder().encode(payload)
      const key = plain || !other.pk ? undefined : identity.sharedKey(other.pk)
      const unsigned: Envelope = {
        uid: randomUUID(),
        timestamp: BigInt(Math.floor(Date.now() / 1000)),
        expiration: 300n,
        source: { twin: twinId, ...(session && { connection: session }) },
        destination: { twin: other.id },
        message: { kind: 'request', command },
        schema: 'application/json',
        payload: key ? { kind: 'cipher', bytes: encrypt(key, bytes) } : { kind: 'plain', bytes },
        relays: [],
        ...changes,
      }
      return { ...unsigned, signature: identity.sign(challengeOfEnvelope(unsigned)) }
    },
    async read(answer) {
      const signature = answer.signature ?? new Uint8Array()
      if (!(await isSignedBy(other.publicKey, challengeOfEnvelope(answer), signature))) {
        throw new Error('the answer is not signed by the twin that was asked')
      }
      const bytes = answer.payload?.bytes ?? new Uint8Array()
      if (answer.payload?.kind !== 'cipher') return new TextDecoder().decode(bytes)
      return new TextDecoder().decode(decrypt(identity.sharedKey(other.pk as Uint8Array), bytes))
    },
  }
}
