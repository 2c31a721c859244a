/** The search for secrets finds what it is there for. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Heard } from './helpers/secret-traces.ts'

const secret = fc.uint8Array({ minLength: 16, maxLength: 48 })
const around = fc.uint8Array({ maxLength: 80 })

const FORMS: Readonly<Record<string, (bytes: Buffer) => string>> = {
  raw: (bytes) => bytes.toString('latin1'),
  hex: (bytes) => bytes.toString('hex'),
  base64: (bytes) => bytes.toString('base64'),
  pem: (bytes) => bytes.toString('base64').replace(/.{64}/g, '$&\n'),
  'pem in JSON': (bytes) => JSON.stringify(bytes.toString('base64').replace(/.{64}/g, '$&\n')),
  base64url: (bytes) => bytes.toString('base64url'),
  numbers: (bytes) => `[${bytes.join(', ')}]`,
}

test('a secret is found in each form, between other bytes, in parts', () => {
  for (const [form, write] of Object.entries(FORMS)) {
    fc.assert(
      fc.property(secret, around, around, fc.nat(), (key, before, after, cut) => {
        const bytes = Buffer.from(write(Buffer.concat([before, key, after])), 'latin1')
        const heard = new Heard()
        const stream = heard.stream()
        const at = cut % (bytes.length + 1)
        stream(bytes.subarray(0, at))
        stream(bytes.subarray(at))
        const [found] = heard.traces({ key })
        assert.equal(found, `key ${form.replace(/^pem.*|base64url/, 'base64')}`)
      }),
      { numRuns: 60 },
    )
  }
})

test('what is not there is not found, and parts of two connections are not one', () => {
  const key = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex')
  const heard = new Heard()
  heard.stream()(key.subarray(0, 8))
  heard.stream()(key.subarray(8))
  heard.text('000102030405060708090a0b0c0d0e')
  assert.deepEqual(heard.traces({ key }), [])
})
