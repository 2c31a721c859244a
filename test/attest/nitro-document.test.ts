import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { encode } from 'cborg'
import { parseDocument } from '../../src/attest/nitro/document.ts'
import { genuine, genuineLarge, makeDocument, NOW, signPayload } from './nitro-evidence.ts'
import { hex } from './vectors.ts'

test('a genuine document is read, its payload of indefinite length', () => {
  const document = parseDocument(genuine)
  assert.equal(document.message.payload[0], 0xbf)
  assert.equal(document.moduleId, 'i-0827e799ec9232d44-enc019b55a68bd2ed4b')
  assert.equal(document.digest, 'SHA384')
  assert.equal(new Date(document.timestamp).toISOString(), '2025-12-25T13:15:37.578Z')
  assert.deepEqual(
    [...document.pcrs.keys()],
    Array.from({ length: 16 }, (_, i) => i),
  )
  assert.equal(
    hex(document.pcrs.get(0)),
    '5cb702954321826d7939d6da829a940d787fcf32357beb8eae1ddf33c28c17d3' +
      '6f3ac3ba6828fdf7edeed02889702da6',
  )
  assert.equal(document.certificate.byteLength, 638)
  assert.equal(document.cabundle.length, 4)
  assert.deepEqual(document.userData, new Uint8Array(64))
  assert.equal(document.nonce, undefined)
  assert.equal(document.publicKey, undefined)
})

test('a genuine document has fields of 1024 bytes', () => {
  const { userData, nonce, publicKey } = parseDocument(genuineLarge)
  for (const field of [userData, nonce, publicKey]) assert.equal(field?.byteLength, 1024)
})

const bytes = (length: number) => new Uint8Array(length)
const pcrs = (...entries: [unknown, unknown][]) => new Map(entries)

test('what the rules allow is read', () => {
  const allowed: Record<string, unknown>[] = [
    { user_data: undefined, nonce: undefined, public_key: undefined },
    { user_data: null, nonce: null, public_key: null },
    { user_data: bytes(0), nonce: bytes(0), public_key: bytes(1) },
    { user_data: bytes(1024), nonce: bytes(1024), public_key: bytes(1024) },
    { pcrs: pcrs([0, bytes(32)]) },
    { pcrs: pcrs([31, bytes(64)]) },
    { pcrs: pcrs(...Array.from({ length: 32 }, (_, i): [number, unknown] => [i, bytes(48)])) },
    { certificate: bytes(1024) },
    { cabundle: [bytes(1)] },
    { cabundle: Array(6).fill(bytes(1024)) },
    { module_id: 'x'.repeat(256) },
    { timestamp: 1 },
    { something_new: 'is ignored' },
  ]
  for (const changes of allowed) parseDocument(makeDocument(changes))
  const none = parseDocument(makeDocument({ user_data: null, nonce: undefined }))
  assert.equal(none.userData, undefined)
  assert.equal(none.nonce, undefined)
  assert.deepEqual(parseDocument(makeDocument({ nonce: bytes(0) })).nonce, bytes(0))
  assert.equal(parseDocument(makeDocument()).timestamp, NOW)
})

test('every rule of a field is kept', () => {
  const refused: Record<string, unknown>[] = [
    ...['module_id', 'digest', 'timestamp', 'pcrs', 'certificate', 'cabundle'].flatMap((name) => [
      { [name]: undefined },
      { [name]: null },
      { [name]: true },
      { [name]: [] },
      { [name]: '' },
      { [name]: bytes(0) },
    ]),
    { module_id: 'x'.repeat(257) },
    { module_id: bytes(4) },
    { digest: 'SHA256' },
    { digest: 'sha384' },
    { timestamp: 0 },
    { timestamp: -1 },
    { timestamp: 2 ** 53 - 1 },
    { timestamp: 2n ** 64n - 1n },
    { timestamp: `${NOW}` },
    { pcrs: pcrs() },
    { pcrs: [bytes(48)] },
    { pcrs: pcrs([32, bytes(48)]) },
    { pcrs: pcrs([-1, bytes(48)]) },
    { pcrs: pcrs(['0', bytes(48)]) },
    { pcrs: pcrs([2n ** 60n, bytes(48)]) },
    { pcrs: pcrs([0, bytes(47)]) },
    { pcrs: pcrs([0, bytes(0)]) },
    { pcrs: pcrs([0, null]) },
    { pcrs: pcrs([0, 'x'.repeat(48)]) },
    { pcrs: pcrs(...Array.from({ length: 33 }, (_, i): [number, unknown] => [i, bytes(48)])) },
    { certificate: bytes(1025) },
    { cabundle: [bytes(0)] },
    { cabundle: [bytes(1025)] },
    { cabundle: [null] },
    { cabundle: Array(7).fill(bytes(1)) },
    { user_data: bytes(1025) },
    { user_data: 'text' },
    { user_data: [] },
    { nonce: bytes(1025) },
    { nonce: 0 },
    { public_key: bytes(0) },
    { public_key: bytes(1025) },
  ]
  for (const changes of refused) {
    const [name = ''] = Object.keys(changes)
    const message = new RegExp(name === 'pcrs' ? 'pcr' : name, 'i')
    const document = makeDocument(changes)
    assert.throws(
      () => parseDocument(document),
      { name: 'EvidenceError', code: 'NITRO_MALFORMED', message },
      inspect(changes),
    )
  }
})

test('a payload is one map of bounded length', () => {
  const refused: [code: string, payload: Uint8Array][] = [
    ['CBOR_MALFORMED', bytes(0)],
    ['NITRO_MALFORMED', encode([])],
    ['NITRO_MALFORMED', encode(null)],
    ['NITRO_MALFORMED', encode(new Map())],
    ['NITRO_MALFORMED', bytes(16_385)],
    ['CBOR_TRAILING', Uint8Array.of(0xa0, 0x00)],
    ['CBOR_TOO_DEEP', new Uint8Array(16_000).fill(0x81)],
    ['CBOR_MALFORMED', encode(new Map([['timestamp', 1.5]]))],
  ]
  for (const [code, payload] of refused) {
    assert.throws(() => parseDocument(signPayload(payload)), { name: 'EvidenceError', code })
  }
})
