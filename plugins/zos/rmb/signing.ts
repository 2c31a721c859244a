import { createHash } from 'node:crypto'
import { verifyEd25519 } from '../deployment/ed25519.ts'
import { verifySr25519 } from '../deployment/sr25519.ts'
import type { Address, Envelope, Message } from './envelope.ts'
import { joined } from './protobuf.ts'

export type KeyType = 'ed25519' | 'sr25519'

/** First byte of a signature. */
export const TYPE_BYTE: Readonly<Record<KeyType, number>> = { ed25519: 0x65, sr25519: 0x73 }

const SIGNATURE_BYTES = 65

/** What is hashed: every part of an envelope but the signature, with nothing in between (§10.2). */
export function challengeBytes(envelope: Envelope): Uint8Array {
  const { tags, timestamp, expiration, source, destination, message } = envelope
  const head = [
    envelope.uid,
    tags ?? '',
    timestamp,
    expiration,
    addressText(source),
    addressText(destination),
    messageText(message),
    envelope.schema ?? '',
    envelope.federation ?? '',
  ]
  return joined([
    new TextEncoder().encode(head.join('')),
    envelope.payload?.bytes ?? new Uint8Array(),
    new TextEncoder().encode(envelope.relays.join('')),
  ])
}

/** MD5 of {@link challengeBytes}: what is signed, 16 bytes. */
export function challengeOfEnvelope(envelope: Envelope): Uint8Array {
  return new Uint8Array(createHash('md5').update(challengeBytes(envelope)).digest())
}

/**
 * Whether a twin has signed a message.
 *
 * @param signature Type byte and 64 bytes.
 * @param keyType The only one that counts; undefined where the signature may say.
 */
export async function isSignedBy(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
  keyType?: KeyType,
): Promise<boolean> {
  if (signature.length !== SIGNATURE_BYTES) return false
  const type = typeOf(signature)
  if (type === undefined || (keyType !== undefined && keyType !== type)) return false
  const bytes = signature.slice(1)
  return type === 'ed25519'
    ? verifyEd25519(publicKey, message, bytes)
    : await verifySr25519(publicKey, message, bytes)
}

function typeOf(signature: Uint8Array): KeyType | undefined {
  if (signature[0] === TYPE_BYTE.ed25519) return 'ed25519'
  return signature[0] === TYPE_BYTE.sr25519 ? 'sr25519' : undefined
}

function addressText(address: Address | undefined): string {
  return `${address?.twin ?? 0}${address?.connection ?? ''}`
}

function messageText(message: Message | undefined): string {
  if (message?.kind === 'request') return message.command
  return message?.kind === 'error' ? `${message.code}${message.message}` : ''
}
