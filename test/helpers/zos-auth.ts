import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto'
import type { Credentials } from '../../plugins/zos/auth/authenticator.ts'

/** RFC 8410 §7: all of an Ed25519 private key but its 32 bytes. */
const HEAD = Buffer.from('302e020100300506032b657004220420', 'hex')

export function ed25519Key(seed: number): KeyObject {
  const key = Buffer.concat([HEAD, Buffer.alloc(32, seed)])
  return createPrivateKey({ key, format: 'der', type: 'pkcs8' })
}

export function publicBytes(key: KeyObject): Uint8Array {
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' })
  return new Uint8Array(Buffer.from(x, 'base64url'))
}

export type Sign = (message: Uint8Array) => Uint8Array

export const ed25519Signer =
  (key: KeyObject): Sign =>
  (message) =>
    new Uint8Array(sign(null, message, key))

const base64url = (text: string) => Buffer.from(text).toString('base64url')

/** An `Authorization` header with these claims. */
export function token(
  signer: Sign,
  claims: object,
  header: object = { alg: 'EdDSA', typ: 'JWT' },
): string {
  const text = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`
  const signature = Buffer.from(signer(Buffer.from(text))).toString('base64url')
  return `Bearer ${text}.${signature}`
}

/** An `X-Auth` header. */
export function challenge(signer: Sign, timestamp: number | string, twin: number | string): string {
  const text = Buffer.from(`${timestamp}:${twin}`)
  return `${text.toString('base64')}:${Buffer.from(signer(text)).toString('base64')}`
}

/** A request over TCP that reads something, with these headers. */
export function request(
  headers: Readonly<Record<string, string>>,
  more: Partial<Credentials> = {},
): Credentials {
  return {
    header: (name) => headers[name],
    unixSocket: false,
    peer: '203.0.113.9',
    once: false,
    ...more,
  }
}
