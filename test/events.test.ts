import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { chainHash, GENESIS } from '../src/events/chain.ts'
import { escapeText, formatEvent } from '../src/events/format.ts'
import { DEFAULT_LIMITS, EventLog } from '../src/events/log.ts'
import type { Event } from '../src/events/sink.ts'
import { CUT_MARK, cutBytes, decodeText } from '../src/events/text.ts'

const SMALL = { maxEntries: 10, maxBytes: 1024 * 1024 }
const OWN = 256

function fill(log: EventLog, count: number): void {
  for (let i = 0; i < count; i++) log.append('test', `event ${log.next}`)
}

/** The chain over all events, computed apart from the log. */
function hashes(events: readonly Event[], head = GENESIS): string[] {
  return events.map((event) => {
    head = chainHash(head, event)
    return head
  })
}

test('events are numbered from 1 and keep what the appender says', () => {
  const log = new EventLog()
  const sink = log.sink('unit')
  const first = sink.append('a')
  const second = sink.append('b', { level: 'warn', time: 1000.7 })
  assert.deepEqual([first.seq, first.source, first.level], [1, 'unit', 'info'])
  assert.deepEqual(second, { seq: 2, time: 1000, source: 'unit', level: 'warn', message: 'b' })
  assert.equal(log.next, 3)
  assert.equal(log.get(2), second)
  assert.equal(log.get(3), undefined)
  assert.ok(log.reserved('unit') && log.reserved('cvmd') && !log.reserved('other'))
})

test('a time that RFC 3339 cannot say becomes now', () => {
  const log = new EventLog()
  for (const time of [Number.NaN, -1, 1e15, Number.POSITIVE_INFINITY]) {
    assert.ok(Math.abs(log.append('t', 'x', { time }).time - Date.now()) < 60_000)
  }
})

test('the ring drops the oldest events by count', () => {
  const log = new EventLog(SMALL)
  fill(log, 10 * (SMALL.maxEntries + OWN))
  assert.equal(log.next - log.first, SMALL.maxEntries + OWN)
  assert.equal(log.dropped, 9 * (SMALL.maxEntries + OWN))
  assert.equal(log.get(log.first - 1), undefined)
  assert.equal(log.hash(log.first - 1), undefined)
  assert.deepEqual(
    log.after(log.next - 3).map(({ seq }) => seq),
    [log.next - 2, log.next - 1],
  )
})

test('the ring drops the oldest events by size, but never the newest', () => {
  const log = new EventLog({ maxEntries: 100, maxBytes: 100 })
  fill(log, 5)
  log.append('t', 'x'.repeat(60))
  log.append('t', 'y'.repeat(60))
  assert.equal(log.first, log.next - 1)
  log.append('t', 'z'.repeat(1000))
  assert.deepEqual(
    log.after(0).map(({ message }) => message.length),
    [1000],
  )
})

test('the chain is the same however it is read, and covers dropped events', async () => {
  const all: Event[] = []
  const eager = new EventLog(SMALL)
  const lazy = new EventLog(SMALL)
  for (let i = 0; i < 1000; i++) {
    const event = lazy.append('t', `m${i}`, { time: i })
    all.push(event)
    eager.append('t', `m${i}`, { time: i })
    assert.ok(eager.head)
    if (i % 300 === 0) await new Promise((resolve) => setTimeout(resolve, 3))
  }
  const expected = hashes(all)
  for (let seq = lazy.first; seq < lazy.next; seq++) {
    assert.equal(lazy.hash(seq), expected[seq - 1])
    assert.equal(eager.hash(seq), expected[seq - 1])
  }
  assert.equal(lazy.head, expected.at(-1))
})

test('a flood beyond the backlog keeps the chain whole', () => {
  const log = new EventLog(SMALL)
  const all: Event[] = []
  for (let i = 0; i < 70_000; i++) all.push(log.append('t', 'm', { time: 0 }))
  assert.equal(log.head, hashes(all).at(-1))
})

test('the hash covers bytes that text cannot hold', () => {
  const event = { seq: 1, time: 0, source: 's', level: 'info', message: '\uFFFD' } as const
  const a = chainHash(GENESIS, { ...event, raw: Uint8Array.of(0xff) })
  assert.notEqual(a, chainHash(GENESIS, { ...event, raw: Uint8Array.of(0xfe) }))
  assert.notEqual(a, chainHash(GENESIS, event))
})

test('resize keeps the newest events and their hashes', () => {
  const log = new EventLog()
  fill(log, 600)
  const before = log.hash(600)
  log.resize({ maxEntries: 4, maxBytes: 1e6 })
  assert.equal(log.next - log.first, 4 + OWN)
  assert.equal(log.dropped, 600 - 4 - OWN)
  assert.equal(log.hash(600), before)
  log.resize({ maxEntries: 5000, maxBytes: 1e6 })
  fill(log, 1000)
  assert.equal(log.next - log.first, 1000 + 4 + OWN)
  assert.equal(log.get(1600)?.message, 'event 1600')
  assert.equal(log.hash(600), before)
  log.resize({ maxEntries: 0, maxBytes: 20 })
  assert.deepEqual(
    log.after(0).map(({ seq }) => seq),
    [1599, 1600],
  )
})

test('subscribers are told once per turn, and no more after they leave', async () => {
  const log = new EventLog()
  let told = 0
  const end = log.subscribe(() => told++)
  fill(log, 3)
  assert.equal(told, 0)
  await Promise.resolve()
  assert.equal(told, 1)
  end()
  fill(log, 1)
  await Promise.resolve()
  assert.equal(told, 1)
})

test('a history comes before what boot appended', () => {
  const old = new EventLog()
  fill(old, 5)
  const records = old.after(2).map((event) => ({ event, hash: old.hash(event.seq) as string }))
  const log = new EventLog()
  log.append('cvmd', 'booting')
  assert.ok(log.head)
  log.append('cvmd', 'booted')
  assert.equal(log.settle({ records, next: 6, head: old.head }), true)
  assert.deepEqual(
    log.after(0).map(({ seq, message }) => [seq, message]),
    [
      [3, 'event 3'],
      [4, 'event 4'],
      [5, 'event 5'],
      [6, 'booting'],
      [7, 'booted'],
    ],
  )
  assert.equal(log.hash(5), old.head)
  assert.equal(log.hash(7), hashes(log.after(5), old.head).at(-1))
  assert.equal(log.appended, 2)
  assert.equal(log.settle({ records: [], next: 50, head: GENESIS }), false)
  assert.equal(log.append('t', 'x').seq, 8)
})

test('settle without a history fixes the numbers', () => {
  const log = new EventLog()
  fill(log, 2)
  assert.equal(log.settle(), true)
  assert.equal(log.settle({ records: [], next: 9, head: GENESIS }), false)
  assert.equal(log.next, 3)
})

test('the tap gets each event with its hash', () => {
  const log = new EventLog(SMALL)
  const got: [Event, string][] = []
  fill(log, 3)
  log.tap((event, hash) => got.push([event, hash]))
  fill(log, 400)
  log.tap(undefined)
  fill(log, 1)
  assert.equal(got.length, 400)
  const [last, hash] = got.at(-1) as [Event, string]
  assert.equal(last.seq, 403)
  assert.equal(log.hash(403), hash)
})

test('the ring holds what was appended, whatever the sizes', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -2, max: 40 }),
      fc.integer({ min: 1, max: 3000 }),
      fc.array(fc.string({ maxLength: 30 }), { maxLength: 600 }),
      (maxEntries, maxBytes, messages) => {
        const log = new EventLog({ maxEntries, maxBytes })
        for (const message of messages) log.append('p', message)
        const kept = log.after(0)
        assert.deepEqual(
          kept.map(({ message }) => message),
          messages.slice(messages.length - kept.length),
        )
        const size = kept.reduce((sum, { message }) => sum + message.length, 0)
        assert.ok(size <= maxBytes || kept.length === 1)
        assert.equal(log.dropped + kept.length, messages.length)
      },
    ),
    { numRuns: 60 },
  )
})

test('valid UTF-8 is text alone; anything else keeps its bytes', () => {
  const encoder = new TextEncoder()
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.deepEqual(decodeText(encoder.encode(text)), { message: text })
    }),
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const { message, raw } = decodeText(bytes)
      assert.deepEqual(Uint8Array.from(raw ?? encoder.encode(message)), Uint8Array.from(bytes))
    }),
  )
  // Go replaces each byte of an unfinished character.
  assert.equal(decodeText(Uint8Array.of(0xe2, 0x82, 0x41)).message, '\uFFFD\uFFFDA')
  assert.equal(decodeText(Uint8Array.of(0xed, 0xa0, 0x80)).message, '\uFFFD\uFFFD\uFFFD')
  assert.deepEqual(decodeText(encoder.encode('\uFFFD')), { message: '\uFFFD' })
  assert.equal(decodeText(encoder.encode('\uFEFFx')).message, '\uFEFFx')
})

test('a cut never splits a character and is marked', () => {
  const encoder = new TextEncoder()
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.integer({ min: 0, max: 20 }), (text, limit) => {
      const bytes = encoder.encode(text)
      const { message, raw } = decodeText(cutBytes(bytes, limit))
      assert.equal(raw, undefined)
      if (bytes.length <= limit) return assert.equal(message, text)
      const kept = message.slice(0, -CUT_MARK.length)
      assert.ok(message.endsWith(CUT_MARK) && text.startsWith(kept))
      assert.ok(encoder.encode(kept).length <= limit && encoder.encode(kept).length > limit - 4)
    }),
  )
})

test('an event is one harmless line of text (F3)', () => {
  const event = {
    seq: 1,
    time: '2026-01-02T03:04:05.678Z',
    source: 'fifo',
    level: 'warn',
    message: 'a\nb\u001b[31m\u202eevil\u2028\u0085 100% {} ok ü 😀',
    hash: GENESIS,
  } as const
  assert.equal(
    formatEvent(event),
    '2026-01-02T03:04:05.678Z warn  fifo: a\\nb\\x1b[31m\\u202eevil\\u2028\\x85 100% {} ok ü 😀',
  )
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.match(escapeText(text), /^[^\p{Cc}\p{Zl}\p{Zp}]*$/u)
    }),
  )
  assert.equal(escapeText('\ud800'), '\\ud800')
  assert.equal(DEFAULT_LIMITS.maxEntries, 1000)
})
