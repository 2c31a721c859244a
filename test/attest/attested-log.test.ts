import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  attestedLogReportData,
  attestLog,
  type LogHead,
  parseAttestedLog,
} from '../../src/attest/attested-log.ts'
import { checkExportedLog, parseExportedLog } from '../../src/attest/exported-log.ts'
import { GENESIS } from '../../src/events/chain.ts'
import { EventLog } from '../../src/events/log.ts'
import { toWire, type WireEvent } from '../../src/events/wire.ts'
import { hex, unhex } from './vectors.ts'

function sampleLog(count: number): EventLog {
  const log = new EventLog()
  for (let i = 1; i <= count; i++) {
    if (i === 3) log.append('fifo', '\ufffd\ufffd', { raw: unhex('fffe'), level: 'warn' })
    else log.append('test', `event ${i} "ü"`)
  }
  return log
}

const wires = (log: EventLog): WireEvent[] => log.after(0).map((event) => toWire(log, event))

const headOf = (log: EventLog): LogHead => ({ seq: log.next - 1, head: log.head })

const lines = (items: readonly unknown[]) =>
  items.map((item) => `${JSON.stringify(item)}\n`).join('')

const check = (items: readonly unknown[], head: LogHead) =>
  checkExportedLog(parseExportedLog(lines(items)), head)

test('the report data joins a tag, the nonce, the number and the head', () => {
  const head = '11'.repeat(32)
  const data = Buffer.concat([
    Buffer.from('cvmd-attested-log:v1:'),
    unhex('abcd'),
    unhex('0000000000000203'),
    unhex(head),
  ])
  assert.equal(
    hex(attestedLogReportData(unhex('abcd'), { seq: 515, head })),
    createHash('sha512').update(data).digest('hex'),
  )
})

test('an answer is bound to the log as it was, and reads back', async () => {
  const log = sampleLog(4)
  const head = headOf(log)
  for (const platform of ['tdx', 'nitro'] as const) {
    let asked: Uint8Array | undefined
    const answer = await attestLog(
      log,
      {
        evidence: (reportData) => {
          asked = reportData
          // What comes while the quote is made is not part of it.
          log.append('test', 'later')
          const bytes = unhex('0102')
          return Promise.resolve(
            platform === 'tdx'
              ? { platform, quote: bytes, eventLog: [], reportData }
              : { platform, document: bytes, reportData },
          )
        },
      },
      unhex('aa'),
    )
    const now = headOf(log)
    assert.deepEqual(
      [answer.seq, answer.report_data],
      [now.seq - 1, hex(attestedLogReportData(unhex('aa'), answer))],
    )
    assert.equal(hex(asked), answer.report_data)
    const { seq, head: at } = answer
    assert.deepEqual(parseAttestedLog({ ...answer }), {
      platform,
      seq,
      head: at,
      nonce: unhex('aa'),
      evidence: unhex('0102'),
    })
  }
  assert.notEqual(head.head, log.head)
})

test('an answer that is none is refused', () => {
  const good = { platform: 'tdx', nonce: 'aa', seq: 1, head: '11'.repeat(32), quote: 'AQI=' }
  parseAttestedLog(good)
  for (const wrong of [
    { platform: 'sev' },
    { seq: -1 },
    { seq: '1' },
    { head: 'zz' },
    { head: 'AA'.repeat(32) },
    { nonce: '' },
    { nonce: 'aa'.repeat(65) },
    { nonce: 5 },
    { quote: '' },
    { platform: 'nitro' },
  ]) {
    assert.throws(() => parseAttestedLog({ ...good, ...wrong }), { code: 'ATTESTED_LOG_INVALID' })
  }
  assert.throws(() => parseAttestedLog({ ...good, nonce: 'xy' }), { code: 'HEX_INVALID' })
})

test('every form of export proves the log, raw bytes included', () => {
  const log = sampleLog(5)
  const events = wires(log)
  const stored = log.after(0).map(({ raw, ...event }) => ({
    ...event,
    raw: raw && Buffer.from(raw).toString('base64'),
    hash: log.hash(event.seq),
  }))
  const exports = [
    JSON.stringify({ events, next: 5, first: 1, dropped: 0 }),
    JSON.stringify(events),
    lines(events),
    lines(events.map((event) => ({ type: 'event', event }))),
    lines([{ journal: 1, first: 1, previous: GENESIS }, ...stored]),
  ]
  for (const text of exports) {
    const { outcome, detail } = checkExportedLog(parseExportedLog(text), headOf(log))
    assert.deepEqual([outcome, detail], ['passed', 'events 1 to 5 are as they were attested'], text)
  }
})

test('the first event altered, removed, moved or repeated is named', () => {
  const log = sampleLog(6)
  const [e1, e2, e3, e4, e5, e6] = wires(log) as [
    WireEvent,
    WireEvent,
    WireEvent,
    WireEvent,
    WireEvent,
    WireEvent,
  ]
  const head = headOf(log)
  const cases: [readonly WireEvent[], string, RegExp][] = [
    [[{ ...e1, message: 'x' }, e2, e3, e4, e5, e6], 'EVENT_ALTERED', /event 1 was altered/],
    [[e1, e2, { ...e3, raw: 'AAA=' }, e4, e5, e6], 'EVENT_ALTERED', /event 3 was altered/],
    [[e1, e2, e3, { ...e4, time: '2020-01-01T00:00:00.000Z' }, e5, e6], 'EVENT_ALTERED', /event 4/],
    [[e1, e2, e3, { ...e4, source: 'cvmd' }, e5, e6], 'EVENT_ALTERED', /event 4/],
    [[e1, e2, e3, e4, { ...e5, level: 'error' }, e6], 'EVENT_ALTERED', /event 5/],
    [[e1, e2, e3, e4, e5, { ...e6, hash: e5.hash }], 'EVENT_ALTERED', /event 6/],
    [[e1, e3, e4, e5, e6], 'EVENT_REMOVED', /event 2 is missing: event 3 stands/],
    [[e1, e2, e3, e4, e5], 'EVENT_REMOVED', /event 6 is missing: the log ends/],
    [[], 'EVENT_REMOVED', /event 1 is missing/],
    // Removed and the rest renumbered.
    [[e1, { ...e3, seq: 2 }, { ...e4, seq: 3 }, e5, e6], 'EVENT_ALTERED', /event 2/],
    [[e1, e2, e4, e3, e5, e6], 'EVENT_REORDERED', /event 3 was moved: event 4 stands/],
    [[e1, e2, e2, e3, e4, e5, e6], 'EVENT_REORDERED', /event 2 comes again/],
  ]
  for (const [events, code, detail] of cases) {
    const step = check(events, head)
    assert.deepEqual([step.outcome, step.code], ['failed', code], detail.source)
    assert.match(step.detail, detail)
  }
})

test('a log written anew is seen by its head', () => {
  const forged = new EventLog()
  for (let i = 1; i <= 5; i++) forged.append('test', i === 2 ? 'forged' : `event ${i}`)
  const step = check(wires(forged), headOf(sampleLog(5)))
  assert.equal(step.code, 'LOG_REWRITTEN')
})

test('a log that begins late proves what follows, and says so', () => {
  const log = sampleLog(6)
  const events = wires(log)
  const head = headOf(log)
  const late = check(events.slice(2), head)
  assert.equal(late.outcome, 'passed')
  assert.match(late.detail, /events 4 to 6 are .*; those before 4 are not proven/)
  // A journal says the hash before its first event, which proves that event as well.
  const previous = events[1]?.hash
  const journal = check([{ journal: 1, first: 3, previous }, ...events.slice(2)], head)
  assert.match(journal.detail, /events 3 to 6/)
  assert.equal(check(events.slice(5), head).code, 'LOG_TOO_LATE')
  // So does a page.
  const page = (events: readonly WireEvent[]) =>
    JSON.stringify({ events, next: 6, first: 1, dropped: 0, previous })
  const paged = (events: readonly WireEvent[]) =>
    checkExportedLog(parseExportedLog(page(events)), head)
  assert.match(paged(events.slice(2)).detail, /^events 3 to 6/)
  assert.match(paged(events.slice(3)).detail, /event 4 was altered.*, or events before it/)
  // Its own word is all that stands for the first event.
  const [, , third, ...rest] = events
  assert.equal(check([{ ...third, message: 'x' }, ...rest], head).outcome, 'passed')
  const forged = check([{ journal: 1, previous }, { ...third, message: 'x' }, ...rest], head)
  assert.match(forged.detail, /event 3 was altered/)
})

test('events after the attested one are not judged', () => {
  const log = sampleLog(3)
  const head = headOf(log)
  log.append('test', 'later')
  const [e1, e2, e3, e4] = wires(log)
  const step = check([e1, e2, e3, { ...e4, message: 'x' }], head)
  assert.equal(step.outcome, 'passed')
  assert.match(step.detail, /1 later ones are not covered/)
})

test('an empty log has a head of zeros', () => {
  assert.equal(check([], { seq: 0, head: GENESIS }).outcome, 'passed')
  assert.equal(check([], { seq: 0, head: '11'.repeat(32) }).outcome, 'failed')
})

test('an export without a chain, and what is none, is refused', () => {
  const event = wires(sampleLog(1))[0] as WireEvent
  assert.throws(() => parseExportedLog('[{"received_at":"2026-01-01","message":"a"}]'), {
    code: 'LOG_WITHOUT_CHAIN',
  })
  for (const wrong of [
    '{"a":',
    'null',
    '5',
    '{}',
    JSON.stringify({ ...event, seq: 0 }),
    JSON.stringify({ ...event, time: 'yesterday' }),
    JSON.stringify({ ...event, level: 'fatal' }),
    JSON.stringify({ ...event, hash: undefined }),
    JSON.stringify({ ...event, raw: 5 }),
    `${JSON.stringify(event)}\nnot json`,
  ]) {
    assert.throws(
      () => parseExportedLog(wrong),
      { name: 'EvidenceError', code: 'LOG_INVALID' },
      wrong,
    )
  }
})

test('any change of an export that still parses is found, or changes nothing covered', () => {
  const log = sampleLog(8)
  const text = lines(wires(log))
  const head = headOf(log)
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.string({ minLength: 1, maxLength: 1 }), (at, char) => {
      const changed = text.slice(0, at) + char + text.slice(at + 1)
      try {
        const read = parseExportedLog(changed)
        const same = JSON.stringify(read) === JSON.stringify(parseExportedLog(text))
        assert.equal(checkExportedLog(read, head).outcome, same ? 'passed' : 'failed')
      } catch (error) {
        if ((error as Error).name !== 'EvidenceError') throw error
      }
    }),
    { numRuns: 500 },
  )
})

test('any text is read or refused', () => {
  const texts = fc.oneof(
    fc.string(),
    fc.json(),
    fc.array(fc.json()).map((all) => all.join('\n')),
  )
  fc.assert(
    fc.property(texts, (text) => {
      try {
        checkExportedLog(parseExportedLog(text), { seq: 3, head: GENESIS })
      } catch (error) {
        assert.equal((error as Error).name, 'EvidenceError')
      }
    }),
  )
})
