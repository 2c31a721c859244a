import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode, encode } from '@msgpack/msgpack'
import fc from 'fast-check'
import {
  type Container,
  containerVersion,
  readContainer,
  stripContainer,
  writeContainer,
} from '../../src/attest/container.ts'
import { compareRegisters, replay } from '../../src/attest/replay.ts'
import { runtimeEntry } from '../../src/attest/runtime-event.ts'
import { ScaleReader, ScaleWriter } from '../../src/attest/scale.ts'
import { hex, read, readJson, sharedVectors, unhex } from './vectors.ts'

const bytes = fc.uint8Array({ maxLength: 300 })
const entries = fc.record({
  imr: fc.nat(3),
  event_type: fc.nat(0xffff_ffff),
  digest: fc.oneof(fc.constant(''), fc.uint8Array({ minLength: 48, maxLength: 48 }).map(hex)),
  event: fc.string({ unit: 'grapheme' }),
  event_payload: bytes.map(hex),
})
const events = <Version extends 1 | 2>(...versions: Version[]) =>
  fc.record({
    name: fc.string({ unit: 'grapheme' }),
    payload: bytes,
    version: fc.constantFrom(...versions),
  })
const platforms = fc.oneof(
  fc.record({ kind: fc.constant('tdx' as const), quote: bytes, eventLog: fc.array(entries) }),
  fc.record({ kind: fc.constant('nitro-enclave' as const), document: bytes }),
)
const stack = {
  reportData: fc.uint8Array({ minLength: 64, maxLength: 64 }),
  config: fc.string({ unit: 'grapheme' }),
}
const versionZero = fc.record({
  version: fc.constant(0 as const),
  platform: platforms,
  stack: fc.record({
    ...stack,
    kind: fc.constant('dstack' as const),
    runtimeEvents: fc.array(events(1)),
  }),
})
const versionOne = fc.record({
  version: fc.constant(1 as const),
  platform: platforms,
  stack: fc.oneof(
    fc.record({
      ...stack,
      kind: fc.constant('dstack' as const),
      runtimeEvents: fc.array(events(1, 2)),
    }),
    fc.record({
      ...stack,
      kind: fc.constant('dstack-pod' as const),
      runtimeEvents: fc.array(events(1, 2)),
      reportDataPayload: fc.string({ unit: 'grapheme' }),
    }),
  ),
})
const containers: fc.Arbitrary<Container> = fc.oneof(versionZero, versionOne)

const runtime = (version: 1 | 2) => ({ name: 'app-id', payload: unhex('aabb'), version })

function sample(version: 1 | 2): Container {
  return {
    version: containerVersion([runtime(version)]),
    platform: {
      kind: 'tdx',
      quote: unhex('010203ff'),
      eventLog: [
        { imr: 1, event_type: 4, digest: '11'.repeat(48), event: '', event_payload: '00' },
        {
          imr: 0,
          event_type: 10,
          digest: '22'.repeat(48),
          event: 'acpi-rsdp',
          event_payload: hex(Buffer.from('ACPI DATA')),
        },
        runtimeEntry(runtime(version)),
      ],
    },
    stack: {
      kind: 'dstack',
      reportData: new Uint8Array(64).fill(7),
      runtimeEvents: [runtime(version)],
      config: '{"a":1}',
    },
  }
}

test('what was written is read the same, and written the same again', () => {
  fc.assert(
    fc.property(containers, (container) => {
      const written = writeContainer(container)
      const back = readContainer(written)
      assert.deepEqual(JSON.stringify(back), JSON.stringify(readContainer(writeContainer(back))))
      assert.deepEqual(writeContainer(back), written)
      assert.equal(back.stack.config, container.stack.config)
      assert.equal(back.version, container.version)
    }),
  )
})

test('version 1 is MessagePack as Rust writes it: plain vectors are arrays, the rest binary', () => {
  const decoded = decode(writeContainer(sample(2))) as Record<
    'platform' | 'stack',
    Record<string, unknown>
  >
  assert.deepEqual(Object.keys(decoded), ['version', 'platform', 'stack'])
  const { quote, event_log } = decoded.platform.data as { quote: unknown; event_log: object[] }
  assert.deepEqual(quote, [1, 2, 3, 255])
  const { preimage, digest } = runtimeEntry(runtime(2))
  assert.deepEqual(event_log[2], {
    imr: 3,
    event_type: 0x0800_0001,
    digest: unhex(digest),
    event: 'app-id',
    event_payload: unhex('aabb'),
    version: 2,
    preimage,
  })
  assert.deepEqual(decoded.stack.data, {
    report_data: Array(64).fill(7),
    runtime_events: [{ event: 'app-id', payload: unhex('aabb'), version: 2 }],
    config: '{"a":1}',
  })
})

test('a version 1 container of another encoder is read: binary for arrays, unknown keys', () => {
  const unknown = [null, true, -1, 2 ** 40, 1.5, 'x'.repeat(300), new Uint8Array(3), { a: [[]] }]
  const other = {
    extra: unknown,
    version: 1,
    platform: { kind: 'nitro-enclave', data: { more: {}, nsm_quote: unhex('d284') } },
    stack: {
      kind: 'dstack',
      data: { report_data: new Uint8Array(64), runtime_events: [], config: '', later: unknown },
    },
  }
  const { platform } = readContainer(encode(other))
  assert.deepEqual(platform, { kind: 'nitro-enclave', document: unhex('d284') })
})

test('version 0 cannot hold what it has no place for', () => {
  assert.equal(containerVersion([runtime(1)]), 0)
  assert.equal(containerVersion([runtime(1), runtime(2)]), 1)
  const newer = { ...sample(2), version: 0 as const }
  assert.throws(() => writeContainer(newer), { code: 'ATTESTATION_VERSION' })
  const plain = sample(1)
  const pod = { ...plain, stack: { ...plain.stack, kind: 'dstack-pod' as const } }
  assert.throws(() => writeContainer({ ...pod, version: 0 }), { code: 'ATTESTATION_VERSION' })
})

test('stripping leaves RTMR3 and the ACPI entries, and RTMR3 still replays', () => {
  for (const version of [1, 2] as const) {
    const whole = sample(version)
    const { platform } = readContainer(writeContainer(stripContainer(whole)))
    assert.ok(platform.kind === 'tdx' && whole.platform.kind === 'tdx')
    assert.deepEqual(
      platform.eventLog.map(({ event, digest }) => [event, digest.length]),
      [
        ['acpi-rsdp', 96],
        ['app-id', version === 2 ? 96 : 0],
      ],
    )
    assert.deepEqual(replay(platform.eventLog)[3], replay(whole.platform.eventLog)[3])
  }
  const nitro: Container = {
    ...sample(1),
    platform: { kind: 'nitro-enclave', document: unhex('00') },
  }
  assert.equal(stripContainer(nitro), nitro)
})

test('a container that is none is refused with a code', () => {
  const zero = writeContainer(sample(1))
  const one = writeContainer(sample(2))
  const altered = (change: (map: Record<string, Record<string, unknown>>) => void) => {
    const map = decode(one) as Record<string, Record<string, unknown>>
    change(map)
    return encode(map)
  }
  const data = (map: Record<string, Record<string, unknown>>, part: string) =>
    map[part]?.data as Record<string, unknown>
  const cases: [Uint8Array, string][] = [
    [new Uint8Array(0), 'ATTESTATION_VERSION'],
    [unhex('01'), 'ATTESTATION_VERSION'],
    [new Uint8Array(4 * 1024 * 1024 + 1), 'ATTESTATION_TOO_LONG'],
    [new Uint8Array(4 * 1024 * 1024 + 1).fill(0x83), 'ATTESTATION_TOO_LONG'],
    [unhex('0001'), 'ATTESTATION_PLATFORM'],
    [unhex('0009'), 'ATTESTATION_PLATFORM'],
    [zero.subarray(0, -1), 'TRUNCATED'],
    [Buffer.concat([zero, unhex('00')]), 'TRAILING_BYTES'],
    // A document longer than the file, a length in a longer form than needed, one of 2^30 and more.
    [unhex('0002feffffff'), 'TRUNCATED'],
    [unhex('000201000000'), 'SCALE_COMPACT'],
    [unhex('000203ffffffff'), 'SCALE_COMPACT'],
    // No document, and more events than can be.
    [unhex('000200feffffff'), 'SCALE_COUNT'],
    // No document, and an event whose name is not UTF-8.
    [unhex('0002000404ff'), 'SCALE_TEXT'],
    [one.subarray(0, -1), 'MESSAGE_PACK_TRUNCATED'],
    [Buffer.concat([one, unhex('c0')]), 'TRAILING_BYTES'],
    [altered((map) => Object.assign(map, { version: 2 })), 'ATTESTATION_VERSION'],
    [altered((map) => Object.assign(map, { version: '1' })), 'MESSAGE_PACK_TYPE'],
    [altered((map) => delete map.stack), 'ATTESTATION_INVALID'],
    [
      altered((map) => Object.assign(map.platform as object, { kind: 'sev-snp' })),
      'ATTESTATION_PLATFORM',
    ],
    [
      altered((map) => Object.assign(map.stack as object, { kind: 'other' })),
      'ATTESTATION_INVALID',
    ],
    [altered((map) => Object.assign(data(map, 'platform'), { quote: [256] })), 'MESSAGE_PACK_TYPE'],
    [
      altered((map) => Object.assign(data(map, 'stack'), { report_data: [1] })),
      'ATTESTATION_INVALID',
    ],
    [
      altered((map) =>
        Object.assign(data(map, 'stack'), {
          runtime_events: [{ event: 'a', payload: [], version: 3 }],
        }),
      ),
      'ATTESTATION_INVALID',
    ],
    // Two keys "a".
    [unhex('82a16100a16100'), 'MESSAGE_PACK_KEY'],
    [unhex('81a1ff00'), 'MESSAGE_PACK_TEXT'],
    [unhex('81a2c3a900'), 'ATTESTATION_VERSION'],
    // Integers that are no bytes, and fewer bytes than the array has elements.
    [
      altered((map) => Object.assign(data(map, 'stack'), { report_data: [-1] })),
      'MESSAGE_PACK_TYPE',
    ],
    [unhex('81a776657273696f6e'), 'MESSAGE_PACK_TRUNCATED'],
    // An extension type, and a type nobody assigned.
    [unhex('81a161d40000'), 'MESSAGE_PACK_TYPE'],
    [unhex('81a161c1'), 'MESSAGE_PACK_TYPE'],
  ]
  for (const [given, code] of cases) {
    assert.throws(
      () => readContainer(given),
      { name: 'EvidenceError', code },
      hex(given.subarray(0, 20)),
    )
  }
})

test('small input cannot ask for much: claimed sizes and nesting end at once', () => {
  const cases: [Uint8Array, string][] = [
    // Under an unknown key: an array of 2^32 - 1, a map of as many, a text of 4 GB, deep nesting.
    [unhex('81a161ddffffffff'), 'MESSAGE_PACK_TRUNCATED'],
    [unhex('81a161dfffffffff'), 'MESSAGE_PACK_TRUNCATED'],
    [unhex('81a161dbffffffff'), 'MESSAGE_PACK_LIMIT'],
    [Buffer.concat([unhex('81a161'), Buffer.alloc(1_000_000, 0x91)]), 'MESSAGE_PACK_LIMIT'],
    [Buffer.concat([unhex('81a161'), Buffer.alloc(1_000_000, 0x81)]), 'MESSAGE_PACK_LIMIT'],
    // A map with 65535 keys.
    [Buffer.concat([unhex('81a161deffff'), Buffer.alloc(200_000)]), 'MESSAGE_PACK_LIMIT'],
    [
      Buffer.concat([unhex('81a161dd00200000'), Buffer.alloc(0x20_0000, 0xc0)]),
      'MESSAGE_PACK_LIMIT',
    ],
    [Buffer.concat([unhex('8f'), Buffer.alloc(200_000, 0xa0)]), 'MESSAGE_PACK_KEY'],
  ]
  for (const [given, code] of cases) {
    assert.throws(() => readContainer(given), { name: 'EvidenceError', code })
  }
})

test('any bytes are read or refused, and so is every one-byte change of a real form', () => {
  const starts = fc.constantFrom(0x00, 0x80, 0x81, 0x83, 0x8f)
  const random = fc.tuple(starts, fc.uint8Array({ maxLength: 200 }))
  const check = (given: Uint8Array) => {
    try {
      readContainer(given)
    } catch (error) {
      assert.equal((error as Error).name, 'EvidenceError')
    }
  }
  fc.assert(fc.property(random, ([first, rest]) => check(Uint8Array.of(first, ...rest))))
  fc.assert(
    fc.property(fc.constantFrom(1, 2), fc.nat(), fc.nat(255), (version, at, byte) => {
      const given = writeContainer(sample(version as 1 | 2)).slice()
      given[at % given.length] = byte
      check(given)
    }),
  )
})

test('compact integers have one form each', () => {
  fc.assert(
    fc.property(fc.oneof(fc.nat(70), fc.nat(20_000), fc.nat(2 ** 30 - 1)), (value) => {
      const written = new ScaleWriter().compact(value).finish()
      const reader = new ScaleReader(written, 'number')
      assert.equal(reader.compact(), value)
      reader.end()
    }),
  )
  for (const [value, written] of [
    [0, '00'],
    [63, 'fc'],
    [64, '0101'],
    [16383, 'fdff'],
    [16384, '02000100'],
    [2 ** 30 - 1, 'feffffff'],
  ] as const) {
    assert.equal(hex(new ScaleWriter().compact(value).finish()), written)
  }
  assert.throws(() => new ScaleWriter().compact(2 ** 30), RangeError)
})

test('real containers are read, written back byte for byte, and replay', (t) => {
  const dir = sharedVectors(t, 'dstack')
  if (dir === undefined) return
  const expected = readJson(dir, 'expected.json')
  const files: Record<string, Uint8Array> = {
    'simulator/attestation.bin': read(dir, 'simulator/attestation.bin'),
    'tdx/tdx-lite-attestation.json': unhex(
      readJson(dir, 'tdx/tdx-lite-attestation.json').attestation,
    ),
  }
  for (const [file, given] of Object.entries(files)) {
    const known = expected.versioned_attestations[file]
    const container = readContainer(given)
    assert.deepEqual(writeContainer(container), given)
    const { platform, stack: said } = container
    assert.ok(platform.kind === 'tdx')
    assert.equal(given.length, known.bytes)
    assert.equal(platform.quote.length, known.quote.quote_len_with_padding)
    assert.equal(platform.eventLog.length, known.event_log_entries)
    assert.deepEqual(replay(platform.eventLog).map(hex), known.replayed_from_event_log)
    assert.equal(hex(said.reportData), known.report_data)
    assert.equal(said.config, known.config)
    const ran = said.runtimeEvents.map(runtimeEntry)
    assert.deepEqual(
      ran.map(({ event, event_payload, digest }) => [event, event_payload, digest]),
      known.runtime_events.map((e: Record<string, string>) => [
        e.event,
        e.payload_hex,
        e.v1_sha384_digest,
      ]),
    )
    assert.equal(hex(replay(ran)[3]), known.rtmr3_from_runtime_events)
    // As version 1 it says the same.
    const newer = readContainer(writeContainer({ ...container, version: 1 }))
    assert.deepEqual(JSON.stringify(newer), JSON.stringify({ ...container, version: 1 }))
  }
  const lite = readContainer(files['tdx/tdx-lite-attestation.json'] as Uint8Array).platform
  assert.ok(lite.kind === 'tdx')
  const { quote } = expected.versioned_attestations['tdx/tdx-lite-attestation.json']
  const quoted = [quote.rt_mr0, quote.rt_mr1, quote.rt_mr2, quote.rt_mr3].map(unhex)
  const states = compareRegisters(lite.eventLog, quoted as never).map(({ state }) => state)
  assert.deepEqual(states, ['unknown', 'unknown', 'unknown', 'match'])
})

test('real Nitro containers are read and written back byte for byte', (t) => {
  const dir = sharedVectors(t, 'dstack')
  if (dir === undefined) return
  const { nsm } = readJson(dir, 'expected.json')
  for (const file of ['nitro_versioned_attestation.bin', 'nitro_versioned_attestation_debug.bin']) {
    const known = nsm[`nsm/${file}`]
    const given = read(dir, 'nsm', file)
    const container = readContainer(given)
    assert.deepEqual(writeContainer(container), given)
    assert.ok(container.platform.kind === 'nitro-enclave')
    assert.equal(container.platform.document.length, known.document.cose_len)
    assert.equal(hex(container.stack.reportData), known.report_data)
    assert.equal(container.stack.config, known.config)
    assert.deepEqual(
      container.stack.runtimeEvents.map(({ name, payload }) => [name, hex(payload)]),
      known.runtime_events.map((e: Record<string, string>) => [e.event, e.payload_hex]),
    )
  }
  const framed = readContainer(read(dir, 'nsm/nitro_attestation_framed.bin')).platform
  assert.ok(framed.kind === 'nitro-enclave')
  assert.equal(framed.document.length, nsm['nsm/nitro_attestation_framed.bin'].cose_len)
})
