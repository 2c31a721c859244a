import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { decrypt, encrypt, encryptionKey, sharedKey } from '../plugins/zos/rmb/encryption.ts'
import {
  type Address,
  decodeEnvelope,
  type Envelope,
  encodeEnvelope,
  type Message,
  type Payload,
} from '../plugins/zos/rmb/envelope.ts'
import { createIdentity, miniSecret } from '../plugins/zos/rmb/identity.ts'
import { challengeBytes, challengeOfEnvelope, isSignedBy } from '../plugins/zos/rmb/signing.ts'
import { relayToken } from '../plugins/zos/rmb/token.ts'
import { vectors } from './helpers/vectors.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const unhex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'))
const utf8 = (text: string) => new TextEncoder().encode(text)

/** Twin 7 of the vectors, and the key it has there. */
const MNEMONIC = 'neck stage box cup core magic produce exercise happy rely vocal then'
const PUBLIC_KEY = '61c243346215f4dfa70d33affc5e568a52fb37859ff21296a28cdb75fcc2fb55'

interface VectorEnvelope {
  readonly uid: string
  readonly tags?: string
  readonly timestamp: number
  readonly expiration: number
  readonly source: Address
  readonly destination: Address
  readonly request?: { readonly command: string }
  readonly response?: object
  readonly error?: { readonly code: number; readonly message: string }
  readonly schema?: string
  readonly federation?: string
  readonly plain?: string
  readonly relays?: readonly string[]
}

interface Vectors {
  readonly envelopes: Readonly<
    Record<
      string,
      {
        readonly envelope: VectorEnvelope
        readonly challenge_hex: string
        readonly challenge_md5: string
        readonly signature_ed25519: string
        readonly signature_sr25519: string
        readonly protobuf_hex: string
      }
    >
  >
  readonly jwt: {
    readonly ed25519: {
      readonly mnemonic: string
      readonly public_key: string
      readonly claims: { readonly sub: number; readonly iat: number; readonly exp: number }
      readonly token: string
    }
  }
  readonly e2e: {
    readonly a: { readonly secret: string; readonly public: string }
    readonly b: { readonly mnemonic: string; readonly secret: string; readonly public: string }
    readonly aes_key: string
    readonly nonce: string
    readonly plain_utf8: string
    readonly cipher: string
  }
}

function shared(): Vectors | undefined {
  const folder = vectors('zos')
  if (folder === undefined) return undefined
  return JSON.parse(readFileSync(join(folder, 'rmb.json'), 'utf8'))
}

/** An envelope with its bytes written by hand, and the digest `md5sum` gives. */
const OWN = {
  envelope: {
    uid: 'a',
    timestamp: 1,
    expiration: 2,
    source: { twin: 3, connection: 's' },
    destination: { twin: 300 },
    error: { code: 255, message: 'no' },
    schema: 'application/json',
    plain: '6e756c6c',
    relays: [],
  },
  challenge: 'a123s300255noapplication/jsonnull',
  md5: 'b02705b1d7f59b0a8ad4b7222671a8e4',
  protobuf:
    '0a0161 1801 2002 2a050803120173 320308ac02 620708ff0112026e6f ' +
    '52106170706c69636174696f6e2f6a736f6e 6a046e756c6c',
}

function messageOf({ request, response, error }: VectorEnvelope): Message | undefined {
  if (request) return { kind: 'request', command: request.command }
  if (error) return { kind: 'error', ...error }
  return response && { kind: 'response' }
}

function envelopeOf(vector: VectorEnvelope): Envelope {
  const { tags, schema, federation, plain, source, destination, uid, relays = [] } = vector
  const message = messageOf(vector)
  return {
    uid,
    timestamp: BigInt(vector.timestamp),
    expiration: BigInt(vector.expiration),
    source,
    destination,
    relays,
    ...(tags !== undefined && { tags }),
    ...(message && { message }),
    ...(schema !== undefined && { schema }),
    ...(federation !== undefined && { federation }),
    ...(plain !== undefined && { payload: { kind: 'plain', bytes: unhex(plain) } as Payload }),
  }
}

test('envelopes have the bytes, challenges and signatures of the vectors, both ways', async (t) => {
  const given = shared()
  const twin = createIdentity(MNEMONIC, 'ed25519')
  for (const [name, vector] of Object.entries(given?.envelopes ?? {})) {
    const envelope = envelopeOf(vector.envelope)
    assert.equal(hex(challengeBytes(envelope)), vector.challenge_hex, name)
    const challenge = challengeOfEnvelope(envelope)
    assert.equal(hex(challenge), vector.challenge_md5, name)
    assert.equal(hex(twin.sign(challenge)), vector.signature_ed25519, name)
    const signed = { ...envelope, signature: unhex(vector.signature_ed25519) }
    assert.equal(hex(encodeEnvelope(signed)), vector.protobuf_hex, name)
    assert.deepEqual(plainly(decodeEnvelope(unhex(vector.protobuf_hex))), plainly(signed), name)
    assert.ok(await isSignedBy(twin.publicKey, challenge, unhex(vector.signature_ed25519)), name)
  }
  if (!given) t.diagnostic('without the shared vectors')
  const own = envelopeOf(OWN.envelope)
  assert.equal(new TextDecoder().decode(challengeBytes(own)), OWN.challenge)
  assert.equal(hex(challengeOfEnvelope(own)), OWN.md5)
  const bytes = OWN.protobuf.replaceAll(' ', '')
  assert.equal(hex(encodeEnvelope(own)), bytes)
  assert.deepEqual(plainly(decodeEnvelope(unhex(bytes))), plainly(own))
})

/** Bytes as hex, so that Buffers and arrays compare alike on every runtime. */
function plainly(envelope: Envelope): unknown {
  const show = (_: string, value: unknown) =>
    typeof value === 'bigint' ? `${value}` : value instanceof Uint8Array ? hex(value) : value
  return JSON.parse(JSON.stringify(envelope, show))
}

test('signatures of both kinds by the twin of the vectors, and nobody else', async (t) => {
  const folder = vectors('zos')
  if (folder === undefined) return t.skip('needs the shared vectors')
  const { twins } = JSON.parse(readFileSync(join(folder, 'signatures.json'), 'utf8')) as {
    twins: Record<
      string,
      { type: 'ed25519' | 'sr25519'; mnemonic?: string; seed?: string; public_key: string }
    >
  }
  for (const { type, mnemonic, seed, public_key } of Object.values(twins)) {
    assert.equal(hex(createIdentity(mnemonic ?? seed ?? '', type).publicKey), public_key)
  }
  const key = unhex(twins['1171']?.public_key ?? '')
  for (const vector of Object.values(shared()?.envelopes ?? {})) {
    const challenge = unhex(vector.challenge_md5)
    const signature = unhex(vector.signature_sr25519)
    assert.ok(await isSignedBy(key, challenge, signature))
    assert.ok(await isSignedBy(key, challenge, signature, 'sr25519'))
    assert.ok(!(await isSignedBy(key, challenge, signature, 'ed25519')))
    assert.ok(!(await isSignedBy(unhex(PUBLIC_KEY), challenge, signature)))
    assert.ok(!(await isSignedBy(key, utf8('another'), signature)))
  }
})

test('a twin signs with its type byte, and any change is noticed', async () => {
  for (const keyType of ['ed25519', 'sr25519'] as const) {
    const twin = createIdentity(`0x${'5a'.repeat(32)}`, keyType)
    assert.deepEqual([twin.publicKey.length, twin.pk.length], [32, 33])
    const message = utf8('to be signed')
    const signature = twin.sign(message)
    assert.equal(String.fromCharCode(signature[0] ?? 0), keyType[0])
    assert.equal(signature.length, 65)
    assert.ok(await isSignedBy(twin.publicKey, message, signature, keyType))
    for (const at of [0, 1, 40, 64]) {
      const changed = signature.slice()
      changed[at] = (changed[at] as number) ^ 1
      assert.ok(!(await isSignedBy(twin.publicKey, message, changed)), `byte ${at}`)
    }
    assert.ok(!(await isSignedBy(twin.publicKey, message, signature.slice(0, 64))))
    assert.ok(!(await isSignedBy(new Uint8Array(32).fill(255), message, signature)))
    assert.ok(!(await isSignedBy(new Uint8Array(3), message, signature)))
  }
})

test('a secret is words or a seed; it shows in no error and in no print', () => {
  assert.equal(hex(createIdentity(MNEMONIC, 'ed25519').publicKey), PUBLIC_KEY)
  assert.equal(
    hex(createIdentity(`  ${MNEMONIC.replaceAll(' ', '\n ')}`, 'ed25519').publicKey),
    PUBLIC_KEY,
  )
  const seed = hex(miniSecret(MNEMONIC))
  for (const secret of [seed, `0x${seed}`, `${seed.toUpperCase()}\n`]) {
    assert.equal(hex(createIdentity(secret, 'ed25519').publicKey), PUBLIC_KEY)
  }
  const words = MNEMONIC.split(' ')
  for (const secret of [
    '',
    seed.slice(2),
    words.slice(0, 11).join(' '),
    [...words.slice(0, 11), 'stage'].join(' '),
    [...words.slice(0, 11), 'secretword'].join(' '),
    `${MNEMONIC}//path`,
  ]) {
    assert.throws(
      () => createIdentity(secret, 'sr25519'),
      (error) => {
        assert.ok(error instanceof TypeError)
        const shown = inspect(error)
        for (const word of ['neck', 'secretword', seed.slice(2)]) {
          assert.ok(!shown.includes(word), shown)
        }
        return true
      },
    )
  }
  const twin = createIdentity(MNEMONIC, 'sr25519')
  assert.ok(!inspect(twin, { showHidden: true, depth: 9 }).includes(seed))
  assert.ok(!JSON.stringify(twin).includes(seed))
})

test('two twins share a key, and only they read what is encrypted', (t) => {
  const a = createIdentity('11'.repeat(32), 'ed25519')
  const b = createIdentity('22'.repeat(32), 'sr25519')
  const key = a.sharedKey(b.pk)
  assert.equal(hex(key), hex(b.sharedKey(a.pk)))
  const sealed = encrypt(key, utf8('hello'))
  assert.equal(sealed.length, 12 + 5 + 16)
  assert.notEqual(hex(sealed), hex(encrypt(key, utf8('hello'))))
  assert.equal(new TextDecoder().decode(decrypt(key, sealed)), 'hello')
  assert.equal(decrypt(key, encrypt(key, new Uint8Array())).length, 0)
  for (const at of [0, 13, sealed.length - 1]) {
    const changed = sealed.slice()
    changed[at] = (changed[at] as number) ^ 1
    assert.throws(() => decrypt(key, changed), RangeError)
  }
  assert.throws(() => decrypt(new Uint8Array(32), sealed), RangeError)
  for (const length of [0, 12, 27]) {
    assert.throws(() => decrypt(key, sealed.subarray(0, length)), RangeError)
  }
  const beyond = Uint8Array.from([2, ...new Uint8Array(32).fill(255)])
  for (const pk of [new Uint8Array(33), new Uint8Array(0), beyond]) {
    assert.throws(() => sharedKey(miniSecret('33'.repeat(32)), pk), TypeError)
  }
  const given = shared()?.e2e
  if (!given) return t.diagnostic('without the shared vectors')
  assert.equal(hex(miniSecret(given.b.mnemonic)), given.b.secret)
  for (const { secret, public: pk } of [given.a, given.b]) {
    assert.equal(hex(encryptionKey(unhex(secret))), pk)
  }
  const agreed = sharedKey(unhex(given.a.secret), unhex(given.b.public))
  assert.equal(hex(agreed), given.aes_key)
  assert.equal(hex(sharedKey(unhex(given.b.secret), unhex(given.a.public))), given.aes_key)
  assert.equal(hex(encrypt(agreed, utf8(given.plain_utf8), unhex(given.nonce))), given.cipher)
  assert.equal(new TextDecoder().decode(decrypt(agreed, unhex(given.cipher))), given.plain_utf8)
})

test('a token for a relay says who connects until when', async (t) => {
  const twin = createIdentity(MNEMONIC, 'ed25519')
  const token = relayToken(twin, { twinId: 7, session: 'one', issued: 1_700_000_000 })
  const [head = '', body = '', signature = ''] = token.split('.')
  const read = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString())
  assert.deepEqual(read(head), { alg: 'RS512', typ: 'JWT' })
  const claims = { sub: 7, iat: 1_700_000_000, exp: 1_700_000_120, sid: 'one' }
  assert.deepEqual(read(body), claims)
  const bytes = new Uint8Array(Buffer.from(signature, 'base64url'))
  assert.ok(await isSignedBy(twin.publicKey, utf8(`${head}.${body}`), bytes))
  const given = shared()?.jwt.ed25519
  if (!given) return t.diagnostic('without the shared vectors')
  const { sub, iat, exp } = given.claims
  const own = createIdentity(given.mnemonic, 'ed25519')
  assert.equal(hex(own.publicKey), given.public_key)
  assert.equal(relayToken(own, { twinId: sub, issued: iat, ttl: exp - iat }), given.token)
})

const addresses = fc.record(
  { twin: fc.nat(2 ** 32 - 1), connection: fc.string({ unit: 'binary' }) },
  { requiredKeys: ['twin'] },
)
const texts = fc.string({ unit: 'binary' })
const envelopes: fc.Arbitrary<Envelope> = fc.record(
  {
    uid: texts,
    tags: texts,
    timestamp: fc.bigInt(0n, 2n ** 64n - 1n),
    expiration: fc.bigInt(0n, 2n ** 64n - 1n),
    source: addresses,
    destination: addresses,
    message: fc.oneof(
      fc.record({ kind: fc.constant('request' as const), command: texts }),
      fc.record({ kind: fc.constantFrom('response' as const, 'ping' as const, 'pong' as const) }),
      fc.record({
        kind: fc.constant('error' as const),
        code: fc.nat(2 ** 32 - 1),
        message: texts,
      }),
    ),
    signature: fc.uint8Array(),
    schema: texts,
    federation: texts,
    payload: fc.record({
      kind: fc.constantFrom('plain' as const, 'cipher' as const),
      bytes: fc.uint8Array(),
    }),
    relays: fc.array(texts, { maxLength: 64 }),
  },
  { requiredKeys: ['uid', 'timestamp', 'expiration', 'relays'] },
)

test('property: what is written is read again', () => {
  fc.assert(
    fc.property(envelopes, (envelope) => {
      assert.deepEqual(plainly(decodeEnvelope(encodeEnvelope(envelope))), plainly(envelope))
    }),
  )
})

test('property: any bytes are an envelope or a ProtobufError', () => {
  const changed = fc
    .tuple(envelopes, fc.nat(), fc.nat(255), fc.nat(20))
    .map(([envelope, at, byte, cut]) => {
      const bytes = encodeEnvelope(envelope)
      if (bytes.length > 0) bytes[at % bytes.length] = byte
      return bytes.subarray(0, Math.max(0, bytes.length - cut))
    })
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), changed), (bytes) => {
      try {
        const read = decodeEnvelope(bytes)
        assert.deepEqual(plainly(decodeEnvelope(encodeEnvelope(read))), plainly(read))
      } catch (error) {
        assert.equal((error as Error).name, 'ProtobufError')
      }
    }),
  )
})

test('unknown fields are passed over, parts are merged, the last value counts', () => {
  const unknown = 'a00105' + '9901' + '0102030405060708' + '9d01' + '01020304' + 'a20103414243'
  const read = decodeEnvelope(unhex(`${unknown}0a01610a0162${'2a020801'}2a03120173${'2a020802'}`))
  assert.equal(read.uid, 'b')
  assert.deepEqual(read.source, { twin: 2, connection: 's' })
  // Bits above the lower 32 of a twin do not count, as in every reader of protocol buffers.
  assert.equal(decodeEnvelope(unhex('2a06088180808010')).source?.twin, 1)
})

test('what no envelope can be is refused with a reason', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['0a', /a number is cut off/],
    ['0a0561', /a field of 5 bytes has 1/],
    ['0affffffffffffffffff01', /a field of 18446744073709551615 bytes/],
    ['18ffffffffffffffffffff01', /more than ten bytes/],
    ['0a01ff', /not UTF-8/],
    ['0b', /field 1 has wire type 3/],
    ['0208', /there is no field 0/],
    [`${'8a010161'.repeat(65)}`, /more than 64 relays/],
  ]
  for (const [bytes, reason] of cases) {
    assert.throws(() => decodeEnvelope(unhex(bytes)), reason, bytes)
  }
})
