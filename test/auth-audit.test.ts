import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createAudit } from '../src/auth/audit.ts'
import { EventLog } from '../src/events/log.ts'
import { Exchange } from '../src/http/exchange.ts'

function rig() {
  const clock = { now: 1_000_000 }
  const log = new EventLog()
  const audit = createAudit(log.sink('cvmd'), () => clock.now)
  const from = (address: string) =>
    new Exchange('test', {
      peer: () => ({ address, port: 50000 }),
      hold: () => undefined,
      header: () => undefined,
    })
  return { clock, log, audit, from, texts: () => log.after(0).map(({ message }) => message) }
}

test('the first refusal of a peer and reason is recorded at once', () => {
  const { log, audit, from, texts } = rig()
  audit.refused(from('203.0.113.9'), 'GET', '/logs', 'Unauthorized')
  audit.refused(from('203.0.113.9'), 'POST', '/x', 'Unauthorized')
  audit.refused(from('203.0.113.9'), 'GET', '/x', 'Caller "ci" lacks the scope "events:read"')
  audit.refused(from('unix'), 'GET', '/x', 'Unauthorized')
  assert.deepEqual(texts(), [
    'refused GET /logs from 203.0.113.9: Unauthorized',
    'refused GET /x from 203.0.113.9: Caller "ci" lacks the scope "events:read"',
    'refused GET /x from unix: Unauthorized',
  ])
  assert.equal(log.get(1)?.level, 'warn')
})

test('the next ones are counted, one event a minute while they last', () => {
  const { clock, audit, from, texts } = rig()
  const peer = from('203.0.113.9')
  for (let second = 0; second < 180; second++) {
    audit.refused(peer, 'GET', '/logs', 'Unauthorized')
    clock.now += 1000
  }
  assert.deepEqual(texts(), [
    'refused GET /logs from 203.0.113.9: Unauthorized',
    'refused 59 more requests from 203.0.113.9: Unauthorized',
    'refused 60 more requests from 203.0.113.9: Unauthorized',
  ])
  audit.flush()
  assert.equal(texts().at(-1), 'refused 60 more requests from 203.0.113.9: Unauthorized')
  audit.flush()
  assert.equal(texts().length, 4)
  // After a quiet minute it is a first refusal again.
  clock.now += 60_000
  audit.refused(peer, 'GET', '/', 'Unauthorized')
  assert.equal(texts().at(-1), 'refused GET / from 203.0.113.9: Unauthorized')
})

test("many addresses and reasons of the caller's making cannot flood the log", () => {
  const { clock, audit, from, texts } = rig()
  for (let i = 0; i < 5000; i++) {
    audit.refused(from(`10.0.${i >> 8}.${i & 255}`), 'GET', '/', 'Unauthorized')
    audit.refused(from('10.0.0.0'), 'GET', '/', `Cannot serve host "h${i}" here`)
  }
  assert.equal(texts().length, 32)
  clock.now += 60_000
  audit.refused(from('10.0.0.0'), 'GET', '/', 'Unauthorized')
  // Two counts, and the first refusal of the new minute.
  assert.equal(texts().length, 35)
  assert.ok(
    texts().includes('refused 4999 more requests from 10.0.0.0: Cannot serve host "h0" here'),
  )
  assert.ok(texts().includes('refused 4969 more requests from other addresses'))
})

test('addresses of one IPv6 network are one peer', () => {
  const { audit, from, texts } = rig()
  audit.refused(from('2001:db8::1'), 'GET', '/', 'Unauthorized')
  audit.refused(from('2001:db8::2'), 'GET', '/', 'Unauthorized')
  audit.refused(from('2001:db8:0:1::2'), 'GET', '/', 'Unauthorized')
  assert.equal(texts().length, 2)
})

test('an event is one short printable line without the query, whatever is asked for', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.string({ unit: 'binary', maxLength: 600 }),
      (why, path) => {
        const { audit, from, texts } = rig()
        audit.refused(from('unix'), 'GET', `/${path}?token=canary`, why)
        const [text = ''] = texts()
        assert.doesNotMatch(text, /[\p{Cc}\u2028\u2029\u202a-\u202e]/u)
        assert.ok(!text.includes('canary'))
        assert.ok(text.length < 6 * 420 + 50)
      },
    ),
  )
  const { audit, from, texts } = rig()
  audit.refused(from('unix'), 'GET', `/${'a'.repeat(300)}`, '\u001b[31mred\n')
  assert.equal(texts()[0], `refused GET /${'a'.repeat(199)}… from unix: \\u001b[31mred\\u000a`)
})
