import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type EventLogEntry,
  isStripped,
  MAX_EVENTS,
  parseEventLog,
} from '../../src/attest/event-log.ts'
import { hasMoreValues } from '../../src/attest/json-values.ts'
import { compareRegisters, extended, misstatedEntry, replay } from '../../src/attest/replay.ts'
import {
  digestOf,
  preimageOf,
  type RuntimeEvent,
  runtimeEntry,
  runtimeEventOf,
} from '../../src/attest/runtime-event.ts'
import { hex, readJson, registersOf, sharedVectors, unhex } from './vectors.ts'

const BOOT: EventLogEntry = {
  imr: 0,
  event_type: 4,
  digest: hex(createHash('sha384').update('boot').digest()),
  event: '',
  event_payload: '00000000',
}

const event = (name: string, payload = '', version: 1 | 2 = 1): RuntimeEvent => ({
  name,
  payload: unhex(payload),
  version,
})

const runtimeEvents = fc.record(
  {
    name: fc.string({ unit: 'grapheme' }),
    payload: fc.uint8Array({ maxLength: 100 }),
    version: fc.constantFrom<1 | 2>(1, 2),
  },
  { noNullPrototype: true },
)

const anyEntry = fc.record({
  imr: fc.integer({ min: 0, max: 3 }),
  event_type: fc.oneof(fc.constant(0x0800_0001), fc.nat()),
  digest: fc.oneof(fc.constant(''), fc.uint8Array({ minLength: 48, maxLength: 48 }).map(hex)),
  event: fc.string(),
  event_payload: fc.uint8Array({ maxLength: 40 }).map(hex),
})

test('the digest of version 1 joins type, name and payload by colons', () => {
  assert.equal(
    hex(preimageOf(event('app-id', 'deadbeef'))),
    `01000008${hex(Buffer.from(':app-id:'))}deadbeef`,
  )
  // From a real quote's log: an event without payload.
  assert.match(hex(digestOf(event('system-preparing'))), /^f9974020ef507068/)
})

test('the digest of version 2 hashes canonical JSON', () => {
  const cases: [RuntimeEvent, string][] = [
    [event('compose-hash', 'abcd', 2), '{"name":"compose-hash","payload":"abcd","type":134217729}'],
    [event('', '', 2), '{"name":"","payload":"","type":134217729}'],
    [
      event('a"b\\c\n\u0001é🦀', 'FF', 2),
      '{"name":"a\\"b\\\\c\\n\\u0001é🦀","payload":"ff","type":134217729}',
    ],
  ]
  for (const [given, json] of cases) {
    assert.equal(Buffer.from(preimageOf(given)).toString('utf8'), json)
    const entry = runtimeEntry(given)
    assert.equal(entry.digest, hex(createHash('sha384').update(json).digest()))
    assert.equal(entry.preimage, hex(Buffer.from(json)))
  }
  assert.throws(() => digestOf(event('\ud800', '', 2)), { code: 'EVENT_NAME_INVALID' })
})

test('a runtime event survives its entry', () => {
  fc.assert(
    fc.property(runtimeEvents, (given) => {
      const entry = runtimeEntry(given)
      assert.deepEqual(runtimeEventOf(entry), given)
      assert.deepEqual(parseEventLog(JSON.stringify([entry])), [entry])
      assert.equal(misstatedEntry([entry]), undefined)
    }),
  )
})

test('replay trusts no stated digest of a runtime event, and only RTMR3 for its type', () => {
  const entry = runtimeEntry(event('app-id', 'aa'))
  const [, , , rtmr3] = replay([entry])
  assert.deepEqual(rtmr3, extended(new Uint8Array(48), unhex(entry.digest)))
  for (const digest of ['', 'ab'.repeat(48)]) {
    assert.deepEqual(replay([{ ...entry, digest }])[3], rtmr3)
  }
  assert.equal(misstatedEntry([{ ...entry, digest: '' }]), undefined)
  const lie = { ...entry, digest: 'ab'.repeat(48) }
  assert.equal(misstatedEntry([BOOT, lie]), lie)
  const newer = runtimeEntry(event('app-id', 'aa', 2))
  const otherPreimage = { ...newer, preimage: '7b7d' }
  assert.equal(misstatedEntry([newer, otherPreimage]), otherPreimage)
  for (const imr of [0, 1, 2]) {
    assert.throws(() => replay([{ ...entry, imr }]), { code: 'EVENT_REGISTER' })
  }
  assert.throws(() => replay([{ ...BOOT, digest: '' }]), { code: 'EVENT_DIGEST_MISSING' })
  assert.throws(() => replay([{ ...BOOT, imr: 4 }]), { code: 'EVENT_REGISTER' })
})

test('events without action do not count, and a replay can stop at an event', () => {
  const noAction = { ...BOOT, event_type: 3 }
  assert.deepEqual(replay([BOOT, noAction]), replay([BOOT]))
  const [a, b] = [runtimeEntry(event('boot-mr-done')), runtimeEntry(event('system-ready'))]
  assert.deepEqual(replay([a, b], 'boot-mr-done'), replay([a]))
  // A boot entry of that name does not stop it.
  const named = { ...BOOT, event: 'boot-mr-done' }
  assert.deepEqual(replay([named, a, b], 'boot-mr-done'), replay([named, a]))
})

test('a stripped log says nothing about RTMR0 to 2, a whole one does', () => {
  const runtime = runtimeEntry(event('app-id', 'aa'))
  const acpi = {
    ...BOOT,
    digest: '22'.repeat(48),
    event_type: 10,
    event_payload: hex(Buffer.from('ACPI DATA')),
  }
  const other = unhex('11'.repeat(48))
  const states = (log: EventLogEntry[], quoted: Parameters<typeof compareRegisters>[1]) =>
    compareRegisters(log, quoted).map(({ state }) => state)
  const [r0, r1, r2, r3] = replay([BOOT, runtime])
  assert.ok(isStripped([acpi, runtime]) && !isStripped([BOOT, acpi, runtime]))
  assert.deepEqual(states([BOOT, runtime], [r0, r1, r2, r3]), Array(4).fill('match'))
  assert.deepEqual(states([BOOT, runtime], [other, r1, r2, r3])[0], 'mismatch')
  assert.deepEqual(states([acpi, runtime], [r0, other, r2, r3]), [
    'unknown',
    'unknown',
    'match',
    'match',
  ])
  // Taking the runtime events away is a mismatch, not a shorter log.
  assert.equal(states([BOOT], [r0, r1, r2, r3])[3], 'mismatch')
  assert.equal(states([], [r0, r1, r2, r3])[3], 'mismatch')
})

test('a log that is no log is refused with a code', () => {
  const entry = runtimeEntry(event('a'))
  const bad: [unknown, string][] = [
    ['{', 'EVENT_LOG_NOT_JSON'],
    [{}, 'EVENT_LOG_INVALID'],
    ['null', 'EVENT_LOG_INVALID'],
    [[null], 'EVENT_LOG_INVALID'],
    [[{ ...entry, imr: 4 }], 'EVENT_LOG_INVALID'],
    [[{ ...entry, imr: 1.5 }], 'EVENT_LOG_INVALID'],
    [[{ ...entry, event_type: -1 }], 'EVENT_LOG_INVALID'],
    [[{ ...entry, digest: 'ab' }], 'EVENT_LOG_INVALID'],
    [[{ ...entry, digest: 'zz'.repeat(48) }], 'EVENT_LOG_INVALID'],
    [[{ ...entry, event: 7 }], 'EVENT_LOG_INVALID'],
    [[{ ...entry, event_payload: 'abc' }], 'EVENT_LOG_INVALID'],
    [[{ ...entry, version: 3 }], 'EVENT_LOG_INVALID'],
    [[{ ...entry, preimage: 1 }], 'EVENT_LOG_INVALID'],
    [Array(MAX_EVENTS + 1).fill(entry), 'EVENT_LOG_TOO_LONG'],
    // Never parsed: as text of this size it would take seconds.
    [`[${'{},'.repeat(1_000_000)}{}]`, 'EVENT_LOG_TOO_LONG'],
    ['['.repeat(1_000_000), 'EVENT_LOG_TOO_LONG'],
    [`"${' '.repeat(6 * 1024 * 1024)}"`, 'EVENT_LOG_TOO_LONG'],
  ]
  for (const [log, code] of bad)
    assert.throws(() => parseEventLog(log), { name: 'EvidenceError', code })
})

test('values are counted as they are parsed, whatever strings hold', () => {
  const count = (value: unknown): number =>
    typeof value !== 'object' || value === null
      ? 0
      : Object.values(value).reduce((sum: number, item) => sum + count(item), 1) +
        Math.max(0, Object.keys(value).length - 1)
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      for (const json of [JSON.stringify(value), JSON.stringify(value, undefined, 2)]) {
        assert.ok(!hasMoreValues(json, count(value)))
        if (count(value) > 0) assert.ok(hasMoreValues(json, count(value) - 1))
      }
    }),
  )
  assert.ok(!hasMoreValues(String.raw`"\\\"[,{\\"`, 0))
  assert.ok(hasMoreValues(String.raw`"\\",`, 0))
  assert.ok(!hasMoreValues('"[,{', 0))
})

test('any log is read or refused, and replays or is refused', () => {
  fc.assert(
    fc.property(fc.oneof(fc.array(anyEntry), fc.jsonValue()), (log) => {
      try {
        replay(parseEventLog(JSON.stringify(log)))
      } catch (error) {
        assert.equal((error as Error).name, 'EvidenceError')
      }
    }),
  )
})

test('real logs replay to the registers of their quotes', (t) => {
  const dir = sharedVectors(t, 'dstack')
  if (dir === undefined) return
  const { event_logs, quotes } = readJson(dir, 'expected.json')
  for (const file of ['tdx/quote-report.json', 'tdx/tdx-lite-getquote.json']) {
    const log = parseEventLog(readJson(dir, file).event_log)
    const expected = event_logs[file]
    assert.equal(log.length, expected.entries)
    assert.deepEqual(replay(log).map(hex), expected.replayed)
    const states = compareRegisters(log, registersOf(quotes[file]).rtmr).map(({ state }) => state)
    assert.deepEqual(states, Array(4).fill('match'), file)
    assert.equal(misstatedEntry(log), undefined)
  }
})
