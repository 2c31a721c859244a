import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { compactJson } from '../plugins/zos/json/compact.ts'
import { list, mapOf, optional, struct } from '../plugins/zos/json/compound.ts'
import { decodeJson, type Form } from '../plugins/zos/json/form.ts'
import { decodeHex, encodeHex } from '../plugins/zos/json/hex.ts'
import { canonicalAddress, canonicalCidr } from '../plugins/zos/json/ip.ts'
import type { JsonNode, JsonObject } from '../plugins/zos/json/node.ts'
import { printJson, RawJson } from '../plugins/zos/json/print.ts'
import { readJson } from '../plugins/zos/json/read.ts'
import * as scalars from '../plugins/zos/json/scalars.ts'
import { zosVectors } from './helpers/zos-deployment.ts'

const messageOf = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    assert.equal((error as Error).name, 'JsonError', (error as Error).stack)
    return (error as Error).message
  }
  return 'taken'
}
const failure = <T>(text: string, form: Form<T>) => messageOf(() => decodeJson(text, form))

test('zos json: what is not JSON is refused in the words of Go', () => {
  const cases: [string, string][] = [
    ['', 'unexpected end of JSON input'],
    [' [1', 'unexpected end of JSON input'],
    ['{"a"', 'unexpected end of JSON input'],
    ['"a', 'unexpected end of JSON input'],
    ['"\\u12', 'unexpected end of JSON input'],
    ['nul', 'unexpected end of JSON input'],
    ['x', "invalid character 'x' looking for beginning of value"],
    ["'", "invalid character '\\'' looking for beginning of value"],
    ['é', "invalid character 'Ã' looking for beginning of value"],
    ['[1,]', "invalid character ']' looking for beginning of value"],
    ['{,}', "invalid character ',' looking for beginning of object key string"],
    ['{"a":1,}', "invalid character '}' looking for beginning of object key string"],
    ['{"a" 1}', "invalid character '1' after object key"],
    ['{"a":1 "b"}', "invalid character '\"' after object key:value pair"],
    ['[1 2]', "invalid character '2' after array element"],
    ['1 2', "invalid character '2' after top-level value"],
    ['01', "invalid character '1' after top-level value"],
    ['-x', "invalid character 'x' in numeric literal"],
    ['1.x', "invalid character 'x' after decimal point in numeric literal"],
    ['1e+', 'unexpected end of JSON input'],
    ['1ex', "invalid character 'x' in exponent of numeric literal"],
    ['trux', "invalid character 'x' in literal true (expecting 'e')"],
    ['"\n"', "invalid character '\\n' in string literal"],
    ['"\\x"', "invalid character 'x' in string escape code"],
    ['"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"],
  ]
  for (const [text, message] of cases)
    assert.equal(
      messageOf(() => readJson(text)),
      message,
      text,
    )
})

test('zos json: length and depth have a bound', () => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  assert.equal(
    messageOf(() => readJson(nested(100))),
    'taken',
  )
  assert.equal(
    messageOf(() => readJson(nested(101))),
    'exceeded max depth',
  )
  assert.equal(
    messageOf(() => readJson('['.repeat(1_000_000))),
    'exceeded max depth',
  )
  const long = ' '.repeat(1_048_577)
  assert.match(
    messageOf(() => readJson(long)),
    /has 1048577 characters, at most 1048576/,
  )
  assert.equal(
    messageOf(() => readJson('[[1]]', { maxDepth: 1 })),
    'exceeded max depth',
  )
})

test('zos json: agrees with JSON.parse on what is JSON and what it says', () => {
  const value = fc.json({ maxDepth: 6 })
  const mangled = fc
    .tuple(value, fc.nat(), fc.constantFrom('', '"', ',', '\\', '{', ']', '0', '\t', '\u0001', 'e'))
    .map(([text, at, with_]) => {
      const i = at % (text.length + 1)
      return text.slice(0, i) + with_ + text.slice(i + 1)
    })
  fc.assert(
    fc.property(fc.oneof(value, mangled), (text) => {
      let expected: { value: unknown } | undefined
      try {
        expected = { value: JSON.parse(text) }
      } catch {}
      let found: { value: unknown } | undefined
      try {
        found = { value: plain(readJson(text)) }
      } catch (error) {
        assert.equal((error as Error).name, 'JsonError')
      }
      assert.deepEqual(found, expected)
    }),
    { numRuns: 2000 },
  )
})

/** The value as `JSON.parse` gives it. */
function plain(node: JsonNode): unknown {
  if (node.kind === 'null') return null
  if (node.kind === 'number') return Number(node.text)
  if (node.kind === 'array') return node.items.map(plain)
  if (node.kind !== 'object') return node.value
  const value: Record<string, unknown> = {}
  for (const member of node.members) {
    // As JSON.parse does it, also for __proto__.
    Object.defineProperty(value, member.name, {
      value: plain(member.value),
      enumerable: true,
      configurable: true,
      writable: true,
    })
  }
  return value
}

test('zos json: half a surrogate pair becomes U+FFFD, a pair one character', () => {
  const read = (text: string) => decodeJson(text, scalars.string())
  assert.equal(read('"\\ud83d\\ude80"'), '🚀')
  assert.equal(read('"\\ud83dx"'), '\ufffdx')
  assert.equal(read('"\\ude80\\ud83d\\u0041"'), '\ufffd\ufffdA')
  assert.equal(read('"\\ud83d\\ud83d\\ude80"'), '\ufffd🚀')
})

test('zos json: white space goes from between tokens only', () => {
  assert.equal(compactJson(' { "a b" : [ 1 , "\\" \\\\" ] }\r\n\t'), '{"a b":[1,"\\" \\\\"]}')
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(' ', '\n', '\t \r\n'), (value, space) => {
      const text = JSON.stringify(value)
      assert.equal(compactJson(text), text)
      const spaced = ` ${JSON.stringify(value, null, 2).replaceAll('\n', `${space}\n`)} `
      assert.equal(compactJson(spaced), text)
    }),
  )
})

test('zos json: numbers keep their value, and others are refused with it', () => {
  const into = (type: string) =>
    `json: cannot unmarshal number`.concat(` %s into Go value of type ${type}`)
  const cases: [Form<unknown>, string, unknown][] = [
    [scalars.u8, '255', 255],
    [scalars.u16, '65535', 65_535],
    [scalars.u32, '4294967295', 4_294_967_295],
    [scalars.u64(), '18446744073709551615', 18_446_744_073_709_551_615n],
    [scalars.u64(), '9007199254740993', 9_007_199_254_740_993n],
    [scalars.timestamp, '-9223372036854775808', -9_223_372_036_854_775_808n],
    [scalars.u32, 'null', 0],
    [scalars.bool, 'true', true],
  ]
  for (const [form, text, value] of cases) assert.equal(decodeJson(text, form), value, text)
  const wrong: [Form<unknown>, string, string][] = [
    [scalars.u8, '256', into('uint8')],
    [scalars.u16, '-1', into('uint16')],
    [scalars.u32, '1.0', into('uint32')],
    [scalars.u32, '1e3', into('uint32')],
    [scalars.u32, '-0', into('uint32')],
    [scalars.u64('uint'), '18446744073709551616', into('uint')],
  ]
  for (const [form, text, message] of wrong) {
    assert.equal(failure(text, form), message.replace('%s', text))
  }
  assert.equal(
    failure('"1"', scalars.u64('gridtypes.Unit')),
    'json: cannot unmarshal string into Go value of type gridtypes.Unit',
  )
  assert.equal(
    failure('1', scalars.bool),
    'json: cannot unmarshal number into Go value of type bool',
  )
  const digits = '9'.repeat(500_000)
  assert.ok(failure(digits, scalars.u64()).length < 200)
})

test('zos json: members are found in any case, the last counts, null leaves what was there', () => {
  const inner = struct<{ a: number; b: string }>('x.Inner', {
    a: ['a', scalars.u32],
    b: ['kiss', scalars.string()],
  })
  const outer = struct<{
    inner: { a: number; b: string }
    items: readonly number[]
    env: ReadonlyMap<string, string>
    maybe: { a: number; b: string } | undefined
  }>('x.Outer', {
    inner: ['inner', inner],
    items: ['items', list(scalars.u32)],
    env: ['env', mapOf(scalars.string())],
    maybe: ['maybe', optional(inner)],
  })
  const read = (text: string) => decodeJson(text, outer)
  assert.deepEqual(read('{}'), {
    inner: { a: 0, b: '' },
    items: [],
    env: new Map(),
    maybe: undefined,
  })
  // The Kelvin sign and the long s fold to letters of ASCII.
  assert.equal(read('{"INNER":{"\u212aI\u017fS":"x"}}').inner.b, 'x')
  const merged = read('{"inner":{"a":1,"kiss":"x"},"Inner":{"a":2},"inner":null}')
  assert.deepEqual(merged.inner, { a: 2, b: 'x' })
  assert.deepEqual(read('{"inner":{"a":1,"a":null}}').inner.a, 1)
  assert.deepEqual(read('{"items":[1,2],"items":null,"env":{"b":"1","a":"2","b":"3"}}'), {
    ...read('{}'),
    env: new Map([
      ['b', '3'],
      ['a', '2'],
    ]),
  })
  assert.equal(read('{"maybe":{"a":1},"maybe":null}').maybe, undefined)
  assert.deepEqual(read('{"maybe":{}}').maybe, { a: 0, b: '' })
  assert.equal(read('{"__proto__":{"a":1},"constructor":1}').inner.a, 0)
  assert.equal(
    failure('{"maybe":{"a":"x"},"items":["y"]}', outer),
    'json: cannot unmarshal string into Go struct field Inner.maybe.a of type uint32',
  )
  assert.equal(
    failure('{"items":{},"inner":[]}', outer),
    'json: cannot unmarshal object into Go struct field Outer.items of type []uint32',
  )
  assert.equal(failure('[]', outer), 'json: cannot unmarshal array into Go value of type x.Outer')
  const nameless = struct<{ id: bigint }>('struct', { id: ['contract_id', scalars.u64()] })
  assert.equal(
    failure('{"contract_id":"1"}', nameless),
    'json: cannot unmarshal string into Go struct field .contract_id of type uint64',
  )
})

test('zos json: text that cannot be taken is told before a value of the wrong kind', () => {
  const form = struct<{ n: number; net: string }>('x.S', {
    n: ['n', scalars.u8],
    net: ['net', scalars.cidr],
  })
  assert.equal(failure('{"n":"x","net":"10.0.0.0/33"}', form), 'invalid CIDR address: 10.0.0.0/33')
})

test('zos json: addresses become canonical, networks keep their host part', () => {
  const addresses: [string, string | undefined][] = [
    ['10.1.2.3', '10.1.2.3'],
    ['2001:0DB8::0001', '2001:db8::1'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['::ffff:a01:203', '10.1.2.3'],
    ['::10.1.2.3', '::a01:203'],
    ['::', '::'],
    ['1::', '1::'],
    ['0:0:1:0:0:0:1:0', '0:0:1::1:0'],
    ['1:0:2:0:3:0:4:0', '1:0:2:0:3:0:4:0'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ...[
      '',
      '1',
      '1.2.3',
      '1.2.3.4.5',
      '1.2.3.256',
      '1.2.3.04',
      '1.2.3.4 ',
      '+1.2.3.4',
      '1..2.3',
    ].map((text) => [text, undefined] as [string, undefined]),
    ...[':', ':::', '1:::2', '1::2::3', ':1', '1:', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9'].map(
      (text) => [text, undefined] as [string, undefined],
    ),
    ...['12345::', 'g::', 'fe80::1%eth0', '1:2:3:4:5:6:7:8::', '1.2.3.4::', '::1.2.3.4:5'].map(
      (text) => [text, undefined] as [string, undefined],
    ),
  ]
  for (const [text, canonical] of addresses) assert.equal(canonicalAddress(text), canonical, text)
  const networks: [string, string | undefined][] = [
    ['10.1.2.7/24', '10.1.2.7/24'],
    ['2001:DB8::1/064', '2001:db8::1/64'],
    ['::ffff:10.1.2.3/120', '10.1.2.3/24'],
    ['::ffff:10.1.2.3/64', '10.1.2.3/0'],
    ...['10.1.2.0/33', '::/129', '10.1.2.0', '10.1.2.0/', '/24', '10.1.2.0/-1', '1.2.3.4/24/1'].map(
      (text) => [text, undefined] as [string, undefined],
    ),
  ]
  for (const [text, canonical] of networks) assert.equal(canonicalCidr(text), canonical, text)
  assert.equal(decodeJson('""', scalars.ip), '')
  assert.equal(decodeJson('null', scalars.cidr), '')
  assert.equal(failure('"x"', scalars.ip), 'invalid IP address: x')
  assert.equal(
    failure('5', scalars.ip),
    'json: cannot unmarshal number into Go value of type net.IP',
  )
  const group = fc.oneof(fc.constant(0), fc.nat(0xffff))
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const text = groups.map((each) => each.toString(16)).join(':')
      const canonical = canonicalAddress(text)
      if (canonical?.includes('.')) return
      // The web's rules for URLs print the same.
      assert.equal(canonical, new URL(`http://[${text}]/`).hostname.slice(1, -1))
    }),
  )
})

test('zos json: hex in either case', () => {
  const form = scalars.hex('zos.Bytes')
  assert.equal(decodeJson('"00FfaB"', form), '00ffab')
  assert.equal(failure('"0g"', form), "encoding/hex: invalid byte: U+0067 'g'")
  assert.equal(failure('"000"', form), 'encoding/hex: odd length hex string')
  assert.equal(failure('"0x"', form), "encoding/hex: invalid byte: U+0078 'x'")
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      assert.deepEqual(decodeHex(encodeHex(bytes)), bytes)
    }),
  )
})

test('zos json: times are seconds or dates', () => {
  const wrong = 'unknown timestamp format, expecting a timestamp or an ISO-8601 date'
  const cases: [string, bigint | string][] = [
    ['-0', 0n],
    ['"1969-12-31T23:59:59.5Z"', -1n],
    ['"0001-01-01T00:00:00Z"', -62_135_596_800n],
    ['"2024-02-29T00:00:00-00:30"', 1_709_166_600n],
    ['9223372036854775808', wrong],
    ['true', wrong],
    ['"1234"', wrong],
    ['"2023-02-29T00:00:00Z"', wrong],
    ['"2024-01-01T24:00:00Z"', wrong],
    ['"2024-01-01T00:00:60Z"', wrong],
    ['"2024-01-01 00:00:00Z"', wrong],
    ['"2024-01-01T00:00:00"', wrong],
    ['"2024-01-01T00:00:00,5Z"', wrong],
    // Escapes are not looked at.
    ['"2024-01-01T00:00:00\\u005a"', wrong],
  ]
  for (const [text, expected] of cases) {
    if (typeof expected === 'string') assert.equal(failure(text, scalars.timestamp), expected, text)
    else assert.equal(decodeJson(text, scalars.timestamp), expected, text)
  }
  fc.assert(
    fc.property(
      fc.date({ noInvalidDate: true, min: new Date(0), max: new Date('9999-12-31') }),
      (date) => {
        const seconds = BigInt(Math.floor(date.getTime() / 1000))
        assert.equal(decodeJson(JSON.stringify(date), scalars.timestamp), seconds)
      },
    ),
  )
})

test('zos json: the shared timestamps', (t) => {
  const cases = zosVectors<{ json: string; value: number; error: string | null }[]>(t, 'timestamps')
  for (const { json, value, error } of cases ?? []) {
    if (error !== null) assert.equal(failure(json, scalars.timestamp), error, json)
    else assert.equal(decodeJson(json, scalars.timestamp), BigInt(value), json)
  }
})

test('zos json: printing and reading give the same', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.bigInt(), (value, integer) => {
      const text = printJson({ value, integer, raw: new RawJson('{"a" : 1}') })
      const [first, second, third] = (readJson(text) as JsonObject).members
      assert.ok(first && second && third)
      assert.deepEqual(plain(first.value), JSON.parse(JSON.stringify(value)))
      assert.equal(second.value.kind === 'number' && second.value.text, String(integer))
      assert.equal(text.slice(third.value.start, third.value.end), '{"a" : 1}')
    }),
  )
})
