import { createCipheriv, createHash, createHmac, createPrivateKey, sign } from 'node:crypto'
import type { Socket } from 'node:net'
import { x25519 } from '@noble/curves/ed25519'
import type { PemPair } from '../../src/tls/self-signed.ts'
import { readPem } from '../../src/x509/pem.ts'

/*
 * The server's side of a TLS 1.3 handshake (RFC 8446), as no library makes it: with a certificate
 * whose key it need not have. x25519, TLS_AES_128_GCM_SHA256 and ECDSA on P-256 alone.
 */

const X25519 = 0x001d
const RECORD = { changeCipherSpec: 20, alert: 21, handshake: 22, application: 23 }

/**
 * Answers one connection.
 *
 * @param pair The chain to show, and the key to sign with, which may be another one.
 * @param onClient Told of the type of each record of the client's after its first.
 */
export function handshake(
  socket: Socket,
  { cert, key }: PemPair,
  onClient: (type: number) => void,
): void {
  let received: Buffer = Buffer.alloc(0)
  let hello: Buffer = Buffer.alloc(0)
  let answered = false
  socket.on('data', (data: Buffer) => {
    received = Buffer.concat([received, data])
    for (;;) {
      const length = received.length < 5 ? Number.POSITIVE_INFINITY : received.readUInt16BE(3)
      if (received.length < 5 + length) return
      const type = received[0] ?? 0
      if (answered) {
        onClient(type)
      } else if (type === RECORD.handshake) {
        hello = Buffer.concat([hello, received.subarray(5, 5 + length)])
        if (hello.length >= 4 && hello.length === 4 + hello.readUIntBE(1, 3)) {
          answered = true
          socket.write(serverFlight(hello, readPem(cert, 'CERTIFICATE', 4), key))
        }
      }
      received = received.subarray(5 + length)
    }
  })
}

/** Everything from the ServerHello to the server's Finished. */
function serverFlight(hello: Buffer, chain: readonly Uint8Array[], key: string): Buffer {
  const { sessionId, share } = readClientHello(hello)
  const secret = x25519.utils.randomPrivateKey()
  const serverHello = message(2, [
    Buffer.from([3, 3]),
    x25519.utils.randomPrivateKey(),
    vector(1, sessionId),
    Buffer.from([0x13, 0x01, 0]),
    vector(
      2,
      Buffer.concat([
        // supported_versions, key_share
        Buffer.from([0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, X25519, 0, 32]),
        x25519.getPublicKey(secret),
      ]),
    ),
  ])
  const early = hmac(Buffer.alloc(32), Buffer.alloc(32))
  const shared = Buffer.from(x25519.getSharedSecret(secret, share))
  const handshakeSecret = hmac(expandLabel(early, 'derived', sha256(), 32), shared)
  const traffic = expandLabel(handshakeSecret, 's hs traffic', sha256(hello, serverHello), 32)
  const encrypt = recordsOf(
    expandLabel(traffic, 'key', NONE, 16),
    expandLabel(traffic, 'iv', NONE, 12),
  )

  const transcript = [hello, serverHello]
  const add = (type: number, parts: readonly Uint8Array[]) => {
    const made = message(type, parts)
    transcript.push(made)
    return encrypt(made)
  }
  const records = [record(RECORD.handshake, serverHello), record(RECORD.changeCipherSpec, ONE)]
  records.push(add(8, [vector(2, NONE)]))
  const entries = chain.map((der) => Buffer.concat([vector(3, der), vector(2, NONE)]))
  records.push(add(11, [vector(1, NONE), vector(3, Buffer.concat(entries))]))
  const toSign = [
    Buffer.alloc(64, 0x20),
    Buffer.from('TLS 1.3, server CertificateVerify\0'),
    sha256(...transcript),
  ]
  const signature = sign('sha256', Buffer.concat(toSign), createPrivateKey(key))
  records.push(add(15, [Buffer.from([4, 3]), vector(2, signature)]))
  const finished = expandLabel(traffic, 'finished', NONE, 32)
  records.push(add(20, [hmac(finished, sha256(...transcript))]))
  return Buffer.concat(records)
}

function readClientHello(hello: Buffer): { sessionId: Buffer; share: Buffer } {
  let at = 4 + 2 + 32
  const take = (size: number): Buffer => {
    const length = hello.readUIntBE(at, size)
    const found = hello.subarray(at + size, at + size + length)
    at += size + length
    return found
  }
  const sessionId = take(1)
  take(2)
  take(1)
  const extensions = take(2)
  for (let i = 0; i < extensions.length; ) {
    const [type, length] = [extensions.readUInt16BE(i), extensions.readUInt16BE(i + 2)]
    const end = i + 4 + length
    for (let j = i + 6; type === 51 && j < end; ) {
      const [group, size] = [extensions.readUInt16BE(j), extensions.readUInt16BE(j + 2)]
      if (group === X25519) return { sessionId, share: extensions.subarray(j + 4, j + 4 + size) }
      j += 4 + size
    }
    i = end
  }
  throw new Error('the client offers no share on x25519')
}

const NONE = Buffer.alloc(0)
const ONE = Buffer.of(1)

function vector(size: number, content: Uint8Array): Buffer {
  const length = Buffer.alloc(size)
  length.writeUIntBE(content.length, 0, size)
  return Buffer.concat([length, content])
}

function message(type: number, parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.of(type), vector(3, Buffer.concat(parts))])
}

function record(type: number, content: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(type, 3, 3), vector(2, content)])
}

/** Encrypts messages, each into as many records as it needs. */
function recordsOf(key: Buffer, iv: Buffer): (content: Buffer) => Buffer {
  let sequence = 0
  return (content) => {
    const made: Buffer[] = []
    for (let at = 0; at < content.length; at += 16_000) {
      const plain = Buffer.concat([content.subarray(at, at + 16_000), Buffer.of(RECORD.handshake)])
      const nonce = Buffer.from(iv)
      nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ sequence++) >>> 0, 8)
      const head = Buffer.from([RECORD.application, 3, 3, 0, 0])
      head.writeUInt16BE(plain.length + 16, 3)
      const cipher = createCipheriv('aes-128-gcm', key, nonce).setAAD(head)
      made.push(head, cipher.update(plain), cipher.final(), cipher.getAuthTag())
    }
    return Buffer.concat(made)
  }
}

/** RFC 8446 §7.1, for lengths of one block. */
function expandLabel(secret: Buffer, label: string, context: Buffer, length: number): Buffer {
  const info = [vector(1, Buffer.from(`tls13 ${label}`)), vector(1, context), ONE]
  const size = Buffer.alloc(2)
  size.writeUInt16BE(length)
  return hmac(secret, Buffer.concat([size, ...info])).subarray(0, length)
}

function hmac(key: Buffer, data: Buffer): Buffer {
  return createHmac('sha256', key).update(data).digest()
}

function sha256(...parts: readonly Buffer[]): Buffer {
  return createHash('sha256').update(Buffer.concat(parts)).digest()
}
