import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode } from 'cborg'
import fc from 'fast-check'
import { EvidenceError } from '../../src/attest/evidence-error.ts'
import { decodeCbor, MAX_CBOR_BYTES } from '../../src/attest/nitro/cbor.ts'
import { unhex } from './vectors.ts'

const decode = (hex: string) => decodeCbor(unhex(hex), 'test')

test('items are read as what they are', () => {
  const items: [hex: string, value: unknown][] = [
    ['00', 0],
    ['3822', -35],
    ['1b001fffffffffffff', 2 ** 53 - 1],
    ['1b0020000000000000', 2n ** 53n],
    ['1bffffffffffffffff', 2n ** 64n - 1n],
    ['3bffffffffffffffff', -(2n ** 64n)],
    ['f6', null],
    ['f5', true],
    ['40', new Uint8Array(0)],
    ['420102', Uint8Array.of(1, 2)],
    ['63e282ac', '€'],
    ['63efbbbf', '\ufeff'],
    ['80', []],
    ['8201820203', [1, [2, 3]]],
    ['a0', new Map()],
    ['a201026161a0', new Map<unknown, unknown>([[1, 2]]).set('a', new Map())],
    // "0" and 0 are two keys.
    ['a20001613002', new Map<unknown, unknown>([[0, 1]]).set('0', 2)],
  ]
  for (const [hex, value] of items) assert.deepEqual(decode(hex), value, hex)
})

test('lengths may be indefinite', () => {
  const items: [hex: string, value: unknown][] = [
    ['9fff', []],
    ['9f019f02ffff', [1, [2]]],
    ['bfff', new Map()],
    ['bf6161019f02ffff', undefined],
    ['bf6161019f02ff', undefined],
    ['bf61619f02ffff', new Map([['a', [2]]])],
    ['5fff', new Uint8Array(0)],
    ['5f420102404103ff', Uint8Array.of(1, 2, 3)],
    ['7fff', ''],
    ['7f6161606162ff', 'ab'],
    ['a17f6161ff5f4101ff', new Map([['a', Uint8Array.of(1)]])],
  ]
  for (const [hex, value] of items) {
    if (value === undefined) assert.throws(() => decode(hex), EvidenceError, hex)
    else assert.deepEqual(decode(hex), value, hex)
  }
})

test('what is not one well-formed item is refused by name', () => {
  const refused: [hex: string, code: string, why: string][] = [
    ['', 'CBOR_MALFORMED', 'nothing'],
    ['0000', 'CBOR_TRAILING', 'a second item'],
    ['ff', 'CBOR_MALFORMED', 'a break alone'],
    ['81ff', 'CBOR_MALFORMED', 'a break in an array of one'],
    ['a101ff', 'CBOR_MALFORMED', 'a break in place of a value'],
    ['a1ff01', 'CBOR_MALFORMED', 'a break in place of a key'],
    ['bf01ff', 'CBOR_MALFORMED', 'a break in place of a value of an indefinite map'],
    ['8201', 'CBOR_MALFORMED', 'an array too short'],
    ['a2010203', 'CBOR_MALFORMED', 'a map too short'],
    ['9f01', 'CBOR_MALFORMED', 'an array without end'],
    ['5f4101', 'CBOR_MALFORMED', 'a string without end'],
    ['5f6161ff', 'CBOR_MALFORMED', 'text among bytes'],
    ['7f4161ff', 'CBOR_MALFORMED', 'bytes among text'],
    ['5f5f4101ffff', 'CBOR_MALFORMED', 'chunks in chunks'],
    ['5f01ff', 'CBOR_MALFORMED', 'a number among bytes'],
    ['9b7fffffffffffffff', 'CBOR_MALFORMED', 'an array of 2^63 items'],
    ['9affffffff', 'CBOR_MALFORMED', 'an array of 2^32 items'],
    ['bb001fffffffffffff', 'CBOR_MALFORMED', 'a map of 2^53 entries'],
    ['5b7fffffffffffffff', 'CBOR_MALFORMED', '2^63 bytes'],
    ['5affffffff', 'CBOR_MALFORMED', '2^32 bytes'],
    ['7bffffffffffffffff', 'CBOR_MALFORMED', 'a text of 2^64 bytes'],
    ['1800', 'CBOR_MALFORMED', 'a number longer than it needs to be'],
    ['580100', 'CBOR_MALFORMED', 'a length longer than it needs to be'],
    ['1c', 'CBOR_MALFORMED', 'a reserved length'],
    ['c000', 'CBOR_MALFORMED', 'a tag'],
    ['d280', 'CBOR_MALFORMED', 'a tag that COSE has'],
    ['f7', 'CBOR_MALFORMED', 'undefined'],
    ['f0', 'CBOR_MALFORMED', 'a simple value'],
    ['f93c00', 'CBOR_MALFORMED', '1.0'],
    ['fb7ff8000000000000', 'CBOR_MALFORMED', 'NaN'],
    ['61ff', 'CBOR_UTF8', 'no UTF-8'],
    ['63eda080', 'CBOR_UTF8', 'half of a surrogate pair'],
    ['7f61e26282acff', 'CBOR_UTF8', 'a character in two chunks'],
    ['a201000100', 'CBOR_DUPLICATE_KEY', 'equal numbers'],
    ['a2616100616100', 'CBOR_DUPLICATE_KEY', 'equal texts'],
    ['a26161007f6161ff00', 'CBOR_DUPLICATE_KEY', 'equal texts written in two ways'],
    ['bf01000100ff', 'CBOR_DUPLICATE_KEY', 'equal numbers in an indefinite map'],
    ['81a201000100', 'CBOR_DUPLICATE_KEY', 'equal numbers further in'],
    ['a21bffffffffffffffff001bffffffffffffffff00', 'CBOR_DUPLICATE_KEY', 'equal large numbers'],
    ['a1410000', 'CBOR_KEY', 'bytes as a key'],
    ['a18000', 'CBOR_KEY', 'an array as a key'],
    ['a1f500', 'CBOR_KEY', 'true as a key'],
  ]
  for (const [hex, code, why] of refused) {
    assert.throws(() => decode(hex), { name: 'EvidenceError', code }, `${why}: ${hex}`)
  }
})

test('depth, items and length have a limit that is exact', () => {
  const nested = (depth: number) => decode(`${'81'.repeat(depth)}00`)
  nested(16)
  for (const depth of [17, 30_000]) assert.throws(() => nested(depth), { code: 'CBOR_TOO_DEEP' })
  const maps = `${'a100'.repeat(17)}00`
  assert.throws(() => decode(maps), { code: 'CBOR_TOO_DEEP' })
  // Containers that are complete leave their place to others.
  assert.deepEqual(decode('8418188080a0'), [24, [], [], new Map()])
  assert.deepEqual(decode(`9820${'8180'.repeat(32)}`), Array(32).fill([[]]))
  const list = (items: number) => decodeCbor(encode(Array(items).fill(0)), 'test')
  list(4095)
  assert.throws(() => list(4096), { code: 'CBOR_TOO_MANY_ITEMS' })
  assert.throws(() => decode(`5f${'40'.repeat(5000)}ff`), { code: 'CBOR_TOO_MANY_ITEMS' })
  const long = (bytes: number) => decodeCbor(encode(new Uint8Array(bytes - 3)), 'test')
  long(MAX_CBOR_BYTES)
  assert.throws(() => long(MAX_CBOR_BYTES + 1), { code: 'CBOR_TOO_LONG' })
})

test('the bytes read are copies, also of a Buffer', () => {
  const input = Buffer.from('420102', 'hex')
  const output = decodeCbor(input, 'test')
  input.fill(9)
  assert.deepEqual(output, Uint8Array.of(1, 2))
})

const { item } = fc.letrec<{ item: unknown }>((tie) => ({
  item: fc.oneof(
    { maxDepth: 8, withCrossShrink: true },
    fc.maxSafeInteger(),
    fc.string({ unit: 'grapheme' }),
    fc.uint8Array(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('item'), { maxLength: 4 }),
    fc
      .array(fc.tuple(fc.oneof(fc.integer(), fc.string()), tie('item')), { maxLength: 4 })
      .map((entries) => new Map(entries)),
  ),
}))

test('what is written is read again', () => {
  fc.assert(
    fc.property(item, (value) => {
      assert.deepEqual(decodeCbor(encode(value), 'test'), value)
    }),
  )
})

test('whatever the bytes, there is an item or a typed error', () => {
  const damaged = fc
    .tuple(item, fc.nat(), fc.nat(255))
    .map(([value, at, octet]) =>
      encode(value).map((old, i, all) => (i === at % all.length ? octet : old)),
    )
  const bytes = fc.oneof(fc.uint8Array({ maxLength: 200 }), damaged)
  fc.assert(
    fc.property(bytes, (input) => {
      try {
        decodeCbor(input, 'test')
      } catch (error) {
        assert.ok(
          error instanceof EvidenceError && /^CBOR_[A-Z0-9_]+$/.test(error.code),
          `${error}`,
        )
      }
    }),
    { numRuns: 2000 },
  )
})
