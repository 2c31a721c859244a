/** Keys that come later, are overwritten at the end, and are overwritten when they come too late. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AwaitedKeys } from '../../plugins/kms/agent/awaited-keys.ts'
import { Keyring } from '../../plugins/kms/agent/keyring.ts'
import type { Keys } from '../../plugins/kms/agent/keys.ts'
import { p256Key, p256Pkcs8 } from '../../plugins/kms/certificates/p256-key.ts'
import { randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import { DEFAULT_LIMITS, EventLog } from '../../src/events/log.ts'
import { readPem } from '../../src/x509/pem.ts'
import { hex } from './kms-fixtures.ts'

function stand(ask: () => Promise<Keys>) {
  const log = new EventLog(DEFAULT_LIMITS)
  const ending = new AbortController()
  const { signal } = ending
  const events = log.sink('kms')
  const pause = async () => undefined
  const messages = () => log.after(0).map(({ message }) => message)
  return { awaited: new AwaitedKeys({ ask, events, signal, pause }), ending, messages }
}

function keys() {
  const root = new Uint8Array(32).fill(7)
  const keyring = new Keyring({ root, rootSignature: new Uint8Array(65) }, undefined, 10)
  const isGone = () => root.every((byte) => byte === 0)
  return { isGone, given: { keyring, issuer: {}, from: 'here' } as unknown as Keys }
}

test('keys are overwritten at the stop', async () => {
  const { isGone, given } = keys()
  let attempts = 0
  const { awaited, messages } = stand(async () => {
    attempts += 1
    if (attempts < 4) throw new Error(attempts === 3 ? 'other' : 'away')
    return given
  })
  assert.match(awaited.notReady() ?? '', /^no KMS has given them yet$/)
  await awaited.run()
  assert.equal(awaited.current(), given)
  assert.deepEqual(messages(), [
    'there are no keys yet, no KMS gives them: away',
    'there are no keys yet, no KMS gives them: other',
    'keys are derived from here',
  ])
  const { secret } = given.keyring.v0('a', '', 'ed25519')
  awaited.clear()
  assert.ok(isGone() && secret.every((byte) => byte === 0))
})

test('keys that come after the stop are overwritten, and nobody gets them', async () => {
  const { isGone, given } = keys()
  let give: (keys: Keys) => void = () => {}
  const { awaited, ending, messages } = stand(() => new Promise((resolve) => (give = resolve)))
  const over = awaited.run()
  ending.abort()
  awaited.clear()
  give(given)
  await over
  assert.ok(isGone())
  assert.throws(() => awaited.current(), { code: 'KMS_UNAVAILABLE' })
  assert.deepEqual(messages(), [])
})

test('a failure after the stop is no news, and the last', async () => {
  let fail: (error: Error) => void = () => {}
  let asked = 0
  const { awaited, ending, messages } = stand(() => {
    asked += 1
    return new Promise((_, reject) => (fail = reject))
  })
  const over = awaited.run()
  ending.abort()
  fail(new Error('away'))
  await over
  assert.deepEqual([asked, messages()], [1, []])
})

test('the bytes of a P-256 key are those of its PEM', () => {
  const scalar = randomP256Scalar()
  const der = p256Pkcs8(scalar)
  assert.equal(der.length, 138)
  const [inPem = new Uint8Array()] = readPem(p256Key(scalar).pem, 'PRIVATE KEY', 1)
  assert.equal(hex(der), hex(inPem))
  assert.equal(hex(der.subarray(36, 68)), hex(scalar))
  der.fill(0)
  assert.notEqual(hex(p256Pkcs8(scalar)), hex(der), 'it shares no memory with another')
  for (const none of [new Uint8Array(32), new Uint8Array(32).fill(255), new Uint8Array(31)]) {
    assert.throws(() => p256Pkcs8(none))
  }
})
