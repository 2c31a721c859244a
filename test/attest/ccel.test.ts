import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ccelEntries, parseCcel, parseCcelTable } from '../../src/attest/ccel.ts'
import { MAX_EVENTS } from '../../src/attest/event-log.ts'
import { replay } from '../../src/attest/replay.ts'
import { hex, read, readJson, sharedVectors } from './vectors.ts'

const u16 = (value: number) => Buffer.from(Uint16Array.of(value).buffer)
const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer)

function header(algorithms: readonly (readonly [number, number])[] = [[0x0c, 48]]): Buffer {
  const list = algorithms.flatMap(([id, size]) => [u16(id), u16(size)])
  const data = Buffer.concat([
    Buffer.from('Spec ID Event03\0'),
    Buffer.alloc(8),
    u32(algorithms.length),
    ...list,
    Buffer.alloc(1),
  ])
  return Buffer.concat([u32(1), u32(3), Buffer.alloc(20), u32(data.length), data])
}

function record(register: number, type: number, data: Uint8Array | string, digest = 0x11): Buffer {
  const body = Buffer.from(data)
  const head = Buffer.concat([
    u32(register),
    u32(type),
    u32(1),
    u16(0x0c),
    Buffer.alloc(48, digest),
  ])
  return Buffer.concat([head, u32(body.length), body])
}

test('records are read up to each kind of padding', () => {
  const log = Buffer.concat([header(), record(1, 4, 'ab'), record(4, 6, '')])
  for (const tail of [
    Buffer.alloc(0),
    Buffer.alloc(100, 0xff),
    Buffer.alloc(100),
    Buffer.alloc(3),
    Buffer.alloc(3, 0xff),
    Buffer.alloc(11),
  ]) {
    const { events, bytesUsed } = parseCcel(Buffer.concat([log, tail]))
    assert.deepEqual(
      events.map(({ register, type, data }) => [register, type, Buffer.from(data).toString()]),
      [
        [1, 4, 'ab'],
        [4, 6, ''],
      ],
    )
    assert.equal(bytesUsed, log.length)
  }
})

test('entries count registers from zero, name the ACPI tables and leave MRTD out', () => {
  const acpi = [1, 2, 3, 4].map((digest) => record(1, 10, 'ACPI DATA', digest))
  const log = Buffer.concat([header(), record(0, 3, ''), ...acpi, record(2, 10, 'ACPI DATA')])
  const entries = ccelEntries(log)
  assert.deepEqual(
    entries.map(({ imr, event }) => [imr, event]),
    [
      [0, 'acpi-loader'],
      [0, 'acpi-rsdp'],
      [0, 'acpi-tables'],
      [0, ''],
      [1, ''],
    ],
  )
  assert.equal(entries[0]?.digest, '01'.repeat(48))
})

test('a digest of another algorithm beside SHA-384 is passed over', () => {
  const two = [
    u32(1),
    u32(4),
    u32(2),
    u16(0x0b),
    Buffer.alloc(32, 7),
    u16(0x0c),
    Buffer.alloc(48, 9),
  ]
  const both = header([
    [0x0b, 32],
    [0x0c, 48],
  ])
  const { events } = parseCcel(Buffer.concat([both, ...two, u32(0)]))
  assert.equal(hex(events[0]?.digest), '09'.repeat(48))
})

test('a log that is none is refused with a code', () => {
  const good = header()
  const oversized = Buffer.concat([
    good,
    u32(1),
    u32(4),
    u32(1),
    u16(0x0c),
    Buffer.alloc(48),
    u32(0xffff_ffff),
  ])
  const cases: [Uint8Array, string][] = [
    [new Uint8Array(0), 'TRUNCATED'],
    [good.subarray(0, 40), 'TRUNCATED'],
    [Buffer.concat([good, record(1, 4, 'abc')]).subarray(0, -1), 'TRUNCATED'],
    [oversized, 'TRUNCATED'],
    [Buffer.concat([good, record(5, 4, '')]), 'CCEL_RECORD'],
    [Buffer.concat([good, u32(1), u32(4), u32(2)]), 'CCEL_RECORD'],
    [Buffer.concat([good, u32(1), u32(4), u32(0), u32(0)]), 'CCEL_RECORD'],
    [Buffer.concat([good, u32(1), u32(4), u32(1), u16(0x0b)]), 'CCEL_RECORD'],
    [header([[0x0b, 32]]), 'CCEL_HEADER'],
    [header([[0x0c, 32]]), 'CCEL_HEADER'],
    [header(Array(17).fill([0x0c, 48])), 'CCEL_HEADER'],
    [Buffer.concat([u32(1), u32(4), good.subarray(8)]), 'CCEL_HEADER'],
    [Buffer.concat([good, ...Array(MAX_EVENTS + 1).fill(record(1, 4, ''))]), 'CCEL_TOO_LONG'],
    [new Uint8Array(1024 * 1024 + 1), 'CCEL_TOO_LONG'],
  ]
  for (const [bytes, code] of cases) {
    assert.throws(() => parseCcel(bytes), { name: 'EvidenceError', code })
  }
})

test('any bytes after a header are read or refused', () => {
  const some = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.tuple(fc.nat(5), fc.nat(12), fc.uint8Array()).map((given) => record(...given)),
  )
  fc.assert(
    fc.property(fc.array(some), fc.boolean(), (parts, withHeader) => {
      try {
        const bytes = Buffer.concat(withHeader ? [header(), ...parts] : parts)
        assert.ok(parseCcel(bytes).bytesUsed <= bytes.length)
      } catch (error) {
        assert.equal((error as Error).name, 'EvidenceError')
      }
    }),
  )
})

test('the ACPI table gives type, size and place of the log', (t) => {
  assert.throws(() => parseCcelTable(Buffer.from('CCEL')), { code: 'TRUNCATED' })
  assert.throws(() => parseCcelTable(Buffer.alloc(56)), { code: 'CCEL_TABLE_INVALID' })
  const dir = sharedVectors(t, 'tdx')
  if (dir === undefined) return
  assert.deepEqual(parseCcelTable(read(dir, 'real/cos113-ccel-table.dat')), {
    ccType: 2,
    ccSubtype: 0,
    logLength: 262_144n,
    logAddress: 0xbedb_f000n,
  })
})

test('logs of real machines are read whole and replay as known', (t) => {
  const dir = sharedVectors(t, 'tdx')
  if (dir === undefined) return
  const { vectors } = readJson(dir, 'manifest.json')
  const logs = vectors.filter(({ kind }: { kind: string }) => kind === 'ccel')
  assert.equal(logs.length, 4)
  for (const { name, file, expect } of logs) {
    const bytes = read(dir, file)
    const { events, bytesUsed } = parseCcel(bytes)
    // The manifest counts the record that describes the format.
    assert.equal(events.length + 1, expect.events, name)
    assert.equal(bytesUsed, expect.bytes_used, name)
    assert.deepEqual(
      events.map(({ type }) => `0x${type.toString(16)}`),
      expect.event_types.slice(1),
    )
    const replayed = replay(ccelEntries(bytes))
    for (const [register, value] of Object.entries(expect.replay_sha384)) {
      assert.equal(hex(replayed[Number(register.at(-1)) as 0]), value, `${name} ${register}`)
    }
  }
})

test("dstack's own sample lists as dstack lists it", (t) => {
  const dir = sharedVectors(t, 'dstack')
  if (dir === undefined) return
  const expected = readJson(dir, 'expected.json').event_logs['eventlog/ccel.bin']
  const entries = ccelEntries(read(dir, 'eventlog/ccel.bin'))
  assert.deepEqual(
    entries.map(({ event: _, ...rest }) => rest),
    expected.events,
  )
  assert.deepEqual(replay(entries).map(hex), expected.replayed_rtmr)
})
