import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { connect, createServer } from 'node:tls'
import fc from 'fast-check'
import { addressBytes, createSelfSigned } from '../src/tls/self-signed.ts'
import { derLength, element, integer, oid, time } from '../src/x509/der-write.ts'
import { lacks } from './helpers/counterpart.ts'

const DAY_MS = 24 * 3600 * 1000

/** Reads one element: its tag, its content, and what follows it. */
function read(der: Uint8Array): { tag: number; content: Uint8Array; rest: Uint8Array } {
  const [tag = 0, first = 0] = der
  let start = 2
  let length = first
  if (first > 0x80) {
    length = 0
    for (const octet of der.subarray(2, 2 + first - 0x80)) length = length * 256 + octet
    start += first - 0x80
  }
  const content = der.subarray(start, start + length)
  assert.equal(content.byteLength, length)
  return { tag, content, rest: der.subarray(start + length) }
}

/** The elements inside a constructed one. */
function children(der: Uint8Array): Uint8Array[] {
  const items: Uint8Array[] = []
  for (let left = read(der).content; left.byteLength > 0; left = read(left).rest) {
    items.push(left.subarray(0, left.byteLength - read(left).rest.byteLength))
  }
  return items
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

test('lengths take the short form up to 127 and the fewest octets beyond', () => {
  const forms: [number, string][] = [
    [0, '00'],
    [127, '7f'],
    [128, '8180'],
    [255, '81ff'],
    [256, '820100'],
    [65_535, '82ffff'],
    [65_536, '83010000'],
  ]
  for (const [length, expected] of forms) assert.equal(hex(derLength(length)), expected)
  const around = fc.constantFrom(0, 127, 128, 255, 256, 65_535, 65_536)
  const size = fc.tuple(around, fc.integer({ min: 0, max: 3 })).map(([a, b]) => a + b)
  fc.assert(
    fc.property(fc.oneof(size, fc.nat(2000)), fc.nat(30), (length, tag) => {
      const content = Buffer.alloc(length, 0xa5)
      const back = read(element(tag, content.subarray(0, 1), content.subarray(1)))
      assert.equal(back.tag, tag)
      assert.ok(content.equals(back.content))
      assert.equal(back.rest.byteLength, 0)
    }),
  )
})

test('integers are positive, in the shortest form', () => {
  assert.equal(hex(integer(Uint8Array.of())), '020100')
  assert.equal(hex(integer(Uint8Array.of(0, 0))), '020100')
  assert.equal(hex(integer(Uint8Array.of(0x7f))), '02017f')
  assert.equal(hex(integer(Uint8Array.of(0, 0x80))), '02020080')
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 1n << 160n }), fc.nat(4), (value, zeros) => {
      const digits = value.toString(16)
      const bytes = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex')
      const { content } = read(integer(Buffer.concat([Buffer.alloc(zeros), bytes])))
      assert.equal(BigInt(`0x${hex(content)}`), value)
      assert.ok((content[0] as number) < 0x80)
      assert.ok(content[0] !== 0 || content.length === 1 || (content[1] as number) >= 0x80)
    }),
  )
})

test('object identifiers and times are as in the standards', () => {
  assert.equal(hex(oid('1.2.840.10045.4.3.2')), '06082a8648ce3d040302') // RFC 5758 §3.2
  assert.equal(hex(oid('2.5.29.17')), '0603551d11')
  assert.equal(hex(oid('2.999')), '06028837') // X.690 §8.19.5
  assert.equal(
    Buffer.from(time(Date.UTC(2049, 11, 31, 23, 59, 59, 999))).toString(),
    '\x17\x0d491231235959Z',
  )
  assert.equal(Buffer.from(time(Date.UTC(2050, 0, 1))).toString(), '\x18\x0f20500101000000Z')
})

test('addresses become 4 or 16 bytes, everything else a name', () => {
  const bytesOf = (host: string) => {
    const bytes = addressBytes(host)
    return bytes && hex(bytes)
  }
  assert.equal(bytesOf('127.0.0.1'), '7f000001')
  assert.equal(bytesOf('::'), '0'.repeat(32))
  assert.equal(bytesOf('::1'), `${'0'.repeat(31)}1`)
  assert.equal(bytesOf('2001:DB8::8:800:200C:417A'), '20010db80000000000080800200c417a')
  assert.equal(bytesOf('64:ff9b::192.0.2.1'), '0064ff9b0000000000000000c0000201')
  assert.equal(bytesOf('::ffff:192.0.2.1'), 'c0000201')
  for (const name of ['', 'localhost', '127.1', 'fe80::1%eth0', '[::1]', '1.2.3.4.5']) {
    assert.equal(bytesOf(name), undefined, name)
  }
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      bytes[0] = 0x20
      const groups = hex(bytes).match(/.{4}/g) ?? []
      assert.equal(bytesOf(groups.join(':')), hex(bytes))
    }),
  )
})

test('the certificate is what system-api makes, but for its name', () => {
  const now = Date.UTC(2030, 4, 6, 7, 8, 9, 10)
  const hosts = ['localhost', '127.0.0.1', '::1', '']
  const { cert, key } = createSelfSigned(hosts, now)
  assert.match(
    cert,
    /^-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END CERTIFICATE-----\n$/,
  )
  assert.match(key, /^-----BEGIN PRIVATE KEY-----\n/)
  const x509 = new X509Certificate(cert)
  assert.equal(x509.subject, 'O=cvmd')
  assert.equal(x509.issuer, 'O=cvmd')
  assert.equal(x509.ca, true)
  assert.equal(Date.parse(x509.validFrom), now - 10)
  assert.equal(Date.parse(x509.validTo), now - 10 + 365 * DAY_MS)
  assert.equal(x509.verify(x509.publicKey), true)
  assert.equal(x509.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
  const spki = { type: 'spki', format: 'der' } as const
  const own = createPublicKey(createPrivateKey(key)).export(spki)
  assert.ok(own.equals(x509.publicKey.export(spki)))

  const [body] = children(x509.raw)
  const [version, serial, , , , , , tagged] = children(body as Uint8Array)
  assert.equal(hex(version as Uint8Array), 'a003020102')
  assert.ok(read(serial as Uint8Array).content.byteLength >= 12)
  assert.ok((read(serial as Uint8Array).content[0] as number) < 0x80)
  const list = children(read(tagged as Uint8Array).content).map((item) => hex(item))
  const has = (extension: string) => assert.ok(list.includes(extension), extension)
  has('300e0603551d0f0101ff040403020284') // critical, digitalSignature and keyCertSign
  has('30130603551d25040c300a06082b06010505070301') // serverAuth
  has('300f0603551d130101ff040530030101ff') // critical, CA:TRUE
  const names = `8209${hex(Buffer.from('localhost'))}87047f0000018710${'0'.repeat(31)}18200`
  has(`302e0603551d1104273025${names}`)
  assert.equal(list.length, 5)
})

test('every pair is new, and without hosts there is no name at all', () => {
  const [a, b] = [createSelfSigned([], 0), createSelfSigned([], 0)]
  const [one, two] = [new X509Certificate(a.cert), new X509Certificate(b.cert)]
  assert.notEqual(one.serialNumber, two.serialNumber)
  assert.notEqual(one.fingerprint256, two.fingerprint256)
  assert.ok(!one.subjectAltName)
})

test('names that no certificate can hold are refused', () => {
  for (const host of ['münchen.example', 'a\nb', 'x'.repeat(254)]) {
    assert.throws(() => createSelfSigned([host], 0), RangeError)
  }
  assert.throws(() => createSelfSigned(Array(101).fill('a'), 0), RangeError)
})

test('openssl reads and verifies it', (t) => {
  if (lacks(t, 'openssl')) return
  const { cert } = createSelfSigned(['localhost', '192.0.2.1'], Date.now())
  const run = spawnSync('openssl', ['x509', '-noout', '-text'], { input: cert, timeout: 10_000 })
  const text = run.stdout.toString()
  assert.equal(run.status, 0, run.stderr.toString())
  assert.match(text, /X509v3 Key Usage: critical\s+Digital Signature, Certificate Sign/)
  assert.match(text, /X509v3 Basic Constraints: critical\s+CA:TRUE/)
  assert.match(text, /TLS Web Server Authentication/)
  assert.match(text, /DNS:localhost, IP Address:192\.0\.2\.1/)
  assert.match(text, /Signature Algorithm: ecdsa-with-SHA256/)
})

test('a client that trusts it completes a handshake by name and by address', async () => {
  const { cert, key } = createSelfSigned(['localhost', '127.0.0.1'], Date.now())
  const server = createServer({ cert, key }, (socket) => socket.end('hello'))
  server.on('tlsClientError', () => undefined)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  try {
    for (const target of [{ host: '127.0.0.1', servername: 'localhost' }, { host: '127.0.0.1' }]) {
      const socket = connect({ ...target, port, ca: cert })
      const [data] = await once(socket, 'data')
      assert.equal(String(data), 'hello')
      assert.equal(socket.authorized, true)
      socket.destroy()
    }
    const stranger = connect({ host: '127.0.0.1', servername: 'localhost', port })
    await assert.rejects(once(stranger, 'data'))
    stranger.destroy()
  } finally {
    server.close()
  }
})
