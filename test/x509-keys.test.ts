import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { bitString, oid, sequence } from '../src/x509/der-write.ts'
import { curveOf, isRawSignedBy, isSignedBy, readPublicKey } from '../src/x509/signed.ts'

const EC = oid('1.2.840.10045.2.1')
const P256 = sequence(EC, oid('1.2.840.10045.3.1.7'))
const [X, Y] = [
  '6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296',
  '4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5',
]
const ORDER = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551'

/** A key on P-256 whose point is written as these hex digits. */
const keyOf = (point: string) => sequence(P256, bitString(Buffer.from(point, 'hex')))

test('a key that is no point of its curve cannot be used', () => {
  const points = {
    // Node 20 takes these two for keys, and ends the process when they are looked at or used.
    'at infinity': '00',
    'at infinity, padded': '00'.repeat(65),
    empty: '',
    hybrid: `07${X}${Y}`,
    zero: `04${'00'.repeat(64)}`,
    'off the curve': `04${X}${X}`,
    'beyond the field': `04${'ff'.repeat(64)}`,
    'cut short': `04${X}`,
    'of another curve': `04${X}${Y}${X}`,
  }
  for (const [name, point] of Object.entries(points)) {
    assert.throws(() => readPublicKey(keyOf(point), 'key'), { code: 'KEY_UNUSABLE' }, name)
  }
  const good = readPublicKey(keyOf(`04${X}${Y}`), 'key')
  assert.equal(good.asymmetricKeyDetails?.namedCurve, 'prime256v1')
})

test('a curve is named, not described', () => {
  const point = bitString(Buffer.from(`04${X}${Y}`, 'hex'))
  for (const algorithm of [sequence(EC), sequence(EC, sequence()), sequence(EC, sequence(P256))]) {
    const spki = sequence(algorithm, point)
    assert.throws(() => readPublicKey(spki, 'key'), { code: 'KEY_UNUSABLE' })
    assert.equal(curveOf(spki, 'key'), undefined)
  }
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const rsa = publicKey.export({ type: 'spki', format: 'der' })
  assert.equal(readPublicKey(rsa, 'key').asymmetricKeyType, 'rsa')
  assert.equal(curveOf(rsa, 'key'), undefined)
})

test('what surrounds a key must be in order too', () => {
  const whole = keyOf(`04${X}${Y}`)
  for (const spki of [whole.subarray(0, -1), Buffer.concat([whole, whole]), Buffer.alloc(0)]) {
    assert.throws(() => readPublicKey(spki, 'key'), { code: 'DER_MALFORMED' })
  }
})

test('signatures that would fit every message are none', () => {
  const key = readPublicKey(keyOf(`04${X}${Y}`), 'key')
  const data = Buffer.from('anything')
  const [zero, one] = ['00'.repeat(32), `${'00'.repeat(31)}01`]
  const halves = [zero, one, ORDER, 'ff'.repeat(32)]
  for (const r of halves) {
    for (const s of halves) {
      const raw = Buffer.from(r + s, 'hex')
      assert.ok(!isRawSignedBy(data, raw, key, 'sha256'), `${r} ${s}`)
    }
  }
  for (const signature of [
    '',
    '3000',
    '3006020100020100',
    '3006020101020101',
    '300802010102010100',
  ]) {
    const signed = { tbs: data, algorithm: P256, signature: Buffer.from(signature, 'hex') }
    assert.ok(!isSignedBy({ ...signed, hash: 'sha256' }, key), signature)
  }
})
