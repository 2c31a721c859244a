import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import {
  keccak_256,
  keccak_384,
  keccak_512,
  sha3_256,
  sha3_384,
  sha3_512,
} from '@noble/hashes/sha3'
import {
  accepted,
  bytesOf,
  clearUp,
  type GuestHost,
  guestOn,
  hexOf,
  replays,
} from './guest-host.ts'

let host: GuestHost
before(async () => {
  host = await guestOn('tdx')
})
after(clearUp)

const MEMBERS = ['quote', 'event_log', 'hash_algorithm', 'prefix']
const PATHS = ['/prpc/Tappd.TdxQuote', '/prpc/TdxQuote']
const node = (name: string) => (bytes: Uint8Array) =>
  new Uint8Array(createHash(name).update(bytes).digest())

/** Each is held against a published value first, for all but Node's own are the plugin's too. */
const HASHES: Readonly<Record<string, (bytes: Uint8Array) => Uint8Array>> = {
  sha256: node('sha256'),
  sha384: node('sha384'),
  sha512: node('sha512'),
  'sha3-256': sha3_256,
  'sha3-384': sha3_384,
  'sha3-512': sha3_512,
  keccak256: keccak_256,
  keccak384: keccak_384,
  keccak512: keccak_512,
}

/** Of `abc`: FIPS 180-4, FIPS 202, and Keccak as it was submitted. */
const ABC: Readonly<Record<string, string>> = {
  sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  'sha3-256': '3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532',
  'sha3-384':
    'ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25',
  'sha3-512':
    'b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0',
  keccak384:
    'f7df1165f033337be098e7d288ad6a2f74409d7a60b49c36642218de161b1f99f8c681e4afaf31a34db29fb763e3c28e',
  keccak512:
    '18587dc2ea106b9a1563e32b3312421ca164c7f1f07bc922a9c83d77cea3a1e5d0c69910739025372dc14ac9642629379540c17e2a65b19d77aa511a9d00bb96',
  keccak256: '4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45',
}

test('the hashes here are those of the standards', () => {
  for (const [name, expected] of Object.entries(ABC)) {
    assert.equal(hexOf(HASHES[name]?.(Buffer.from('abc')) ?? new Uint8Array()), expected)
  }
})

test('TdxQuote hashes prefix and data with every algorithm, left-aligned', async () => {
  const data = randomBytes(100)
  for (const [algorithm, hash] of Object.entries(HASHES)) {
    for (const prefix of [undefined, 'app-data', 'mine', 'é:']) {
      const digest = hash(Buffer.concat([Buffer.from(`${prefix ?? 'app-data'}:`), data]))
      const body = { report_data: hexOf(data), hash_algorithm: algorithm, prefix }
      for (const path of PATHS) {
        const [status, answer] = await host.json(path, body)
        assert.equal(status, 200)
        assert.deepEqual(Object.keys(answer), MEMBERS)
        assert.equal(answer.hash_algorithm, algorithm)
        assert.equal(answer.prefix, 'app-data', 'whatever was asked for')
        const quote = accepted(bytesOf(answer.quote), host.machine.trust)
        assert.equal(hexOf(quote.reportData), hexOf(digest).padEnd(128, '0'), algorithm)
        assert.ok(replays(answer.event_log ?? '', quote))
      }
    }
  }
})

test('without an algorithm it is SHA-512, of nothing too', async () => {
  const expected = hexOf(node('sha512')(Buffer.from('app-data:')))
  for (const [path, body] of [
    ['/prpc/TdxQuote'],
    ['/prpc/Tappd.TdxQuote?report_data=&hash_algorithm=&prefix='],
    ['/prpc/TdxQuote', ''],
    ['/prpc/TdxQuote', { report_data: '', prefix: '' }],
  ] as const) {
    const [status, answer] = await host.json(path, body)
    assert.deepEqual([status, answer.hash_algorithm], [200, 'sha512'])
    assert.equal(hexOf(accepted(bytesOf(answer.quote), host.machine.trust).reportData), expected)
  }
})

test('raw data is 64 bytes, here and in RawQuote', async () => {
  const data = hexOf(randomBytes(64))
  for (const [path, body] of [
    [`/prpc/TdxQuote?report_data=${data}&hash_algorithm=raw&prefix=ignored`],
    ['/prpc/Tappd.TdxQuote', { report_data: data, hash_algorithm: 'raw' }],
    [`/prpc/RawQuote?report_data=0x${data}`],
    ['/prpc/Tappd.RawQuote', { report_data: data }],
  ] as const) {
    const [status, answer] = await host.json(path, body)
    assert.equal(status, 200, path)
    assert.deepEqual(Object.keys(answer), MEMBERS)
    assert.deepEqual([answer.hash_algorithm, answer.prefix], ['raw', ''])
    assert.equal(hexOf(accepted(bytesOf(answer.quote), host.machine.trust).reportData), data)
  }
  for (const length of [0, 1, 63, 65, 128]) {
    const report_data = 'ab'.repeat(length)
    for (const [path, body] of [
      ['/prpc/RawQuote', { report_data }],
      ['/prpc/TdxQuote', { report_data, hash_algorithm: 'raw' }],
      [`/prpc/Tappd.RawQuote?report_data=${report_data}`],
    ] as const) {
      const [status, answer] = await host.json(path, body)
      assert.deepEqual([status, answer.code], [400, 'REPORT_DATA_LENGTH'], `${length}`)
      assert.equal(answer.error, 'invalid content length')
    }
  }
})

test('an algorithm nobody knows is refused', async () => {
  for (const hash_algorithm of ['md5', 'SHA512', 'sha-512', 'RAW', 'toString', '__proto__']) {
    const [status, answer] = await host.json('/prpc/TdxQuote', { hash_algorithm })
    assert.deepEqual([status, answer.code], [400, 'HASH_ALGORITHM'], hash_algorithm)
    assert.equal(answer.error, 'invalid hash algorithm')
  }
})
