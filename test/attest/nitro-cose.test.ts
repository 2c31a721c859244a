import assert from 'node:assert/strict'
import { createPublicKey, generateKeyPairSync, type JsonWebKey, sign } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { encode } from 'cborg'
import fc from 'fast-check'
import { EvidenceError } from '../../src/attest/evidence-error.ts'
import {
  type CoseAlgorithm,
  checkHeaders,
  isCoseSignedBy,
  parseCoseSign1,
} from '../../src/attest/nitro/cose.ts'
import { readJson, sharedVectors, unhex } from './vectors.ts'

const ES384 = { label: -35, hash: 'sha384', namedCurve: 'P-384' } as const
const ES256 = { label: -7, hash: 'sha256', namedCurve: 'P-256' } as const
const NOTHING = new Uint8Array(0)

/** A message as another program would make it. */
function makeMessage({
  algorithm = ES384 as typeof ES384 | typeof ES256,
  header = encode(new Map([[1, algorithm.label]])),
  unprotected = new Map<unknown, unknown>(),
  payload = Buffer.from('payload') as Uint8Array,
  external = NOTHING,
  dsaEncoding = 'ieee-p1363' as 'ieee-p1363' | 'der',
} = {}) {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: algorithm.namedCurve })
  const signed = encode(['Signature1', header, external, payload])
  const signature = sign(algorithm.hash, signed, { key: privateKey, dsaEncoding })
  return { bytes: encode([header, unprotected, payload, signature]), publicKey, signature }
}

test('messages verify with their key, untagged or behind tag 18', () => {
  for (const [name, algorithm] of Object.entries({ ES384, ES256 })) {
    const { bytes, publicKey } = makeMessage({ algorithm })
    for (const form of [bytes, Buffer.concat([Uint8Array.of(0xd2), bytes])]) {
      const message = parseCoseSign1(form)
      assert.deepEqual(message.payload, new Uint8Array(Buffer.from('payload')))
      checkHeaders(message, name as CoseAlgorithm)
      assert.ok(isCoseSignedBy(message, publicKey, name as CoseAlgorithm))
      assert.ok(!isCoseSignedBy(message, publicKey, name as CoseAlgorithm, Uint8Array.of(1)))
      assert.ok(!isCoseSignedBy(message, makeMessage({ algorithm }).publicKey, 'ES384'))
    }
  }
})

test('external data is signed along', () => {
  const external = Uint8Array.of(1, 2, 3)
  const { bytes, publicKey } = makeMessage({ external })
  const message = parseCoseSign1(bytes)
  assert.ok(isCoseSignedBy(message, publicKey, 'ES384', external))
  assert.ok(!isCoseSignedBy(message, publicKey, 'ES384'))
})

test('signatures count only raw, of the right length, by a key on the right curve', () => {
  const der = makeMessage({ dsaEncoding: 'der' })
  assert.ok(!isCoseSignedBy(parseCoseSign1(der.bytes), der.publicKey, 'ES384'))
  const small = makeMessage({ algorithm: ES256, header: encode(new Map([[1, ES384.label]])) })
  assert.ok(!isCoseSignedBy(parseCoseSign1(small.bytes), small.publicKey, 'ES384'))
  const { publicKey, bytes, signature } = makeMessage()
  const message = parseCoseSign1(bytes)
  for (const forged of [
    NOTHING,
    new Uint8Array(96),
    signature.subarray(0, 95),
    Buffer.concat([signature, Uint8Array.of(0)]),
  ]) {
    assert.ok(!isCoseSignedBy({ ...message, signature: forged }, publicKey, 'ES384'))
  }
  const { publicKey: rsa } = generateKeyPairSync('rsa', { modulusLength: 1024 })
  assert.ok(!isCoseSignedBy(message, rsa, 'ES384'))
})

test('the algorithm counts only where it is protected, and nothing else may be critical', () => {
  const check = (protectedHeader: [unknown, unknown][], unprotected: [unknown, unknown][] = []) => {
    const header = protectedHeader.length === 0 ? NOTHING : encode(new Map(protectedHeader))
    const { bytes } = makeMessage({ header, unprotected: new Map(unprotected) })
    checkHeaders(parseCoseSign1(bytes), 'ES384')
  }
  check([[1, -35]])
  check([[1, -35]], [[4, Buffer.from('kid')]])
  const refused: [string, [unknown, unknown][], [unknown, unknown][]?][] = [
    ['COSE_ALGORITHM', []],
    ['COSE_ALGORITHM', [], [[1, -35]]],
    ['COSE_ALGORITHM', [[1, -7]]],
    ['COSE_ALGORITHM', [[1, -1]]],
    ['COSE_ALGORITHM', [[1, 'ES384']]],
    ['COSE_ALGORITHM', [['1', -35]]],
    ['COSE_ALGORITHM', [[1, [-35]]]],
    ['COSE_ALGORITHM', [[1, new Map()]]],
    [
      'COSE_CRITICAL',
      [
        [1, -35],
        [2, [99]],
        [99, 0],
      ],
    ],
    [
      'COSE_CRITICAL',
      [
        [1, -35],
        [2, []],
      ],
    ],
    ['COSE_CRITICAL', [[1, -35]], [[2, [99]]]],
    [
      'COSE_CRITICAL',
      [
        [1, -35],
        [2, [[[]], new Map()]],
      ],
    ],
    ['COSE_MALFORMED', [[1, -35]], [[1, -35]]],
  ]
  for (const [code, ...headers] of refused) {
    assert.throws(() => check(...headers), { name: 'EvidenceError', code }, JSON.stringify(headers))
  }
})

test('what is no COSE_Sign1 is refused', () => {
  const header = unhex('a1013822')
  const refused: [code: string, bytes: Uint8Array][] = [
    ['CBOR_MALFORMED', NOTHING],
    ['CBOR_MALFORMED', Uint8Array.of(0xd2)],
    ['CBOR_MALFORMED', Uint8Array.of(0xd2, 0xd2, 0x80)],
    ['CBOR_MALFORMED', Uint8Array.of(0xd8, 0x12, 0x80)],
    ['CBOR_MALFORMED', Uint8Array.of(0xd3, 0x80)],
    ['COSE_MALFORMED', encode('text')],
    ['COSE_MALFORMED', encode({ length: 4 })],
    ['COSE_MALFORMED', encode([header, {}, header])],
    ['COSE_MALFORMED', encode([header, {}, header, header, header])],
    ['COSE_MALFORMED', encode([new Map([[1, -35]]), {}, header, header])],
    ['COSE_MALFORMED', encode([header, null, header, header])],
    ['COSE_MALFORMED', encode([header, {}, null, header])],
    ['COSE_MALFORMED', encode([header, {}, header, 'text'])],
    ['COSE_MALFORMED', encode([unhex('820126'), {}, header, header])],
    ['CBOR_DUPLICATE_KEY', encode([unhex('a201260126'), {}, header, header])],
    ['CBOR_TRAILING', encode([unhex('a1012600'), {}, header, header])],
    ['CBOR_MALFORMED', encode([unhex('a101'), {}, header, header])],
    ['CBOR_DUPLICATE_KEY', unhex('84 43a10126 a2044004 40 40 40'.replaceAll(' ', ''))],
  ]
  for (const [code, bytes] of refused) {
    const hex = Buffer.from(bytes).toString('hex')
    assert.throws(() => parseCoseSign1(bytes), { name: 'EvidenceError', code }, hex)
  }
})

test('any change to a message is refused or noticed', () => {
  const { bytes, publicKey } = makeMessage()
  const noticed = (input: Uint8Array) => {
    try {
      const message = parseCoseSign1(input)
      checkHeaders(message, 'ES384')
      return !isCoseSignedBy(message, publicKey, 'ES384')
    } catch (error) {
      return error instanceof EvidenceError
    }
  }
  assert.ok(!noticed(bytes))
  for (let length = 0; length < bytes.length; length++)
    assert.ok(noticed(bytes.subarray(0, length)))
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) =>
      noticed(bytes.map((octet, i) => (i === at ? octet ^ change : octet))),
    ),
    { numRuns: 300 },
  )
})

test('the conformance cases of other implementations come out as they say', (t) => {
  const folder = sharedVectors(t, 'nitro')
  if (folder === undefined) return
  const names = readdirSync(join(folder, 'real')).filter((name) => name.startsWith('cose-'))
  assert.equal(names.length, 7)
  for (const name of names) {
    const { title, key, alg, 'sign1::verify': verify } = readJson(folder, 'real', name)
    const publicKey = createPublicKey({ key: key as JsonWebKey, format: 'jwk' })
    const external = unhex(verify.external ?? '')
    const judge = () => {
      const message = parseCoseSign1(unhex(verify.taggedCOSESign1.cborHex))
      checkHeaders(message, alg)
      return isCoseSignedBy(message, publicKey, alg, external)
    }
    if (verify.shouldVerify) assert.ok(judge(), title)
    else assert.throws(judge, EvidenceError, title)
  }
})
