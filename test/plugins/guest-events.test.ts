import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { parseEventLog } from '../../src/attest/event-log.ts'
import { accepted, bytesOf, clearUp, type GuestHost, guestOn, replays } from './guest-host.ts'

const RTMR3 = '/rtmr3:sha384'
const SYSTEM = [
  'system-preparing',
  'app-id',
  'compose-hash',
  'init-script-hash',
  'gpu-policy-hash',
  'gpu-attestation',
  'instance-id',
  'boot-mr-done',
  'os-image-hash',
  'key-provider',
  'storage-fs',
  'system-ready',
]

after(clearUp)

/** A quote with its log, both as the legacy call answers them. */
async function evidenceOf(host: GuestHost) {
  const [status, answer] = await host.json('/prpc/Tappd.TdxQuote')
  if (status !== 200) return { status, answer }
  const quote = accepted(bytesOf(answer.quote), host.machine.trust)
  return { status, answer, quote, log: parseEventLog(answer.event_log) }
}

/** Events that applications measured. */
async function measuredBy(host: GuestHost): Promise<string[]> {
  const log = await host.machine.attester.runtimeEvents.list()
  return log.map(({ event }) => event).filter((event) => !SYSTEM.includes(event))
}

test('no event is measured unless that was switched on, by whatever path', async () => {
  const host = await guestOn('tdx')
  const before = await host.machine.attester.tdx?.registers()
  for (const path of ['/EmitEvent', '/v0/EmitEvent']) {
    const byPost = await host.json(path, { event: 'login', payload: '00' })
    const byGet = await host.json(`${path}?event=login`)
    for (const [status, answer] of [byPost, byGet]) {
      assert.deepEqual([status, answer.code], [400, 'EVENTS_OFF'])
      assert.match(answer.error ?? '', /emit_event is off in \[plugins\.guest\]/)
    }
  }
  for (const path of ['/v1/EmitEvent', '/prpc/EmitEvent', '/prpc/Tappd.EmitEvent']) {
    const [status, answer] = await host.json(path, { event: 'login' })
    assert.deepEqual([status, answer.code], [404, 'SERVICE_NOT_FOUND'], path)
  }
  assert.deepEqual(await measuredBy(host), [])
  assert.deepEqual(await host.machine.attester.tdx?.registers(), before)
})

describe('where applications may measure events', () => {
  test('they are in the log, in the register and in the event log of cvmd', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    const { quote: before } = await evidenceOf(host)
    for (const [path, body] of [
      ['/EmitEvent', { event: 'one', payload: '0x01' }],
      ['/v0/EmitEvent', { event: 'two: é' }],
      ['/EmitEvent?event=three&payload=03', undefined],
      ['/v0/EmitEvent?event=four', undefined],
    ] as const) {
      const [status, answer] = await host.json(path, body)
      assert.deepEqual([status, answer], [200, null])
    }
    const { quote, log, answer } = await evidenceOf(host)
    assert.ok(quote && log && before)
    assert.ok(replays(log, quote))
    assert.notDeepEqual(quote.rtmr[3], before.rtmr[3])
    assert.match(answer.event_log ?? '', /"event":"three","event_payload":"03"/)
    assert.deepEqual(await measuredBy(host), ['one', 'two: é', 'three', 'four'])
    assert.deepEqual(host.messages(), [
      'application measured the event "one"',
      'application measured the event "two: é"',
      'application measured the event "three"',
      'application measured the event "four"',
    ])
  })

  test('names of the system, and what hashes like them, are refused', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    for (const event of [...SYSTEM, ...SYSTEM.map((name) => `${name}:x`), 'app-id::']) {
      const [status, answer] = await host.json('/EmitEvent', { event, payload: '00' })
      assert.deepEqual([status, answer.code], [400, 'EVENT_RESERVED'], event)
      assert.ok(answer.error?.includes(event))
    }
    for (const event of ['app-idx', 'App-Id', ':app-id', 'login:app-id']) {
      assert.equal((await host.json('/EmitEvent', { event }))[0], 200, event)
    }
  })

  test('no page of another site and no HEAD measures anything', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    for (const path of ['/EmitEvent?event=x', '/v0/EmitEvent?event=x']) {
      const headers = { origin: 'https://elsewhere.example' }
      assert.equal((await host.request(path, { headers })).status, 403)
      assert.equal((await host.request(path, { method: 'HEAD' })).status, 405)
    }
    assert.deepEqual(await measuredBy(host), [])
  })

  test('names and payloads that could not be verified are refused', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    for (const [body, code] of [
      [{}, 'EVENT_NAME'],
      [{ event: 'x'.repeat(1025) }, 'EVENT_NAME'],
      ['{"event":"\\ud800"}', 'EVENT_NAME'],
      [{ event: 'x', payload: '00'.repeat(65_537) }, 'EVENT_PAYLOAD'],
      [{ event: 'x', payload: '0' }, 'INVALID_REQUEST'],
      [{ event: 1 }, 'INVALID_REQUEST'],
    ] as const) {
      const [status, answer] = await host.json('/EmitEvent', body)
      assert.deepEqual([status, answer.code], [400, code])
    }
    assert.deepEqual(await measuredBy(host), [])
  })

  test('the log never grows beyond what a verifier reads', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    const payload = '00'.repeat(65_536)
    let status = 200
    let answers = 0
    for (; status === 200; answers++) {
      ;[status] = await host.json('/EmitEvent', { event: `${answers}`, payload })
    }
    assert.equal(answers, 16)
    const [, { code }] = await host.json('/EmitEvent', { event: 'more', payload })
    assert.deepEqual([status, code], [409, 'EVENTS_FULL'])
    const { quote, log } = await evidenceOf(host)
    assert.ok(quote && log && replays(log, quote))
    assert.equal((await host.json('/Attest'))[0], 200)
  })

  test('64 at once are all measured, one after the other', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    const names = Array.from({ length: 64 }, (_, i) => `event ${i}`)
    const answers = await Promise.all(names.map((event) => host.json('/EmitEvent', { event })))
    assert.ok(answers.every(([status]) => status === 200))
    assert.deepEqual((await measuredBy(host)).sort(), [...names].sort())
    const { quote, log } = await evidenceOf(host)
    assert.ok(quote && log && replays(log, quote))
  })

  test('evidence made meanwhile replays, or says that it cannot be made now', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    const names = Array.from({ length: 40 }, (_, i) => `event ${i}`)
    const emitted = (async () => {
      for (const event of names) assert.equal((await host.json('/EmitEvent', { event }))[0], 200)
    })()
    let ended = false
    void emitted.then(() => {
      ended = true
    })
    let asked = 0
    do {
      const { status, answer, quote, log } = await evidenceOf(host)
      if (quote) assert.ok(replays(log, quote))
      else assert.deepEqual([status, answer.code], [503, 'EVENTS_UNSTEADY'])
      asked++
    } while (!ended)
    await emitted
    assert.ok(asked > 0)
    const { quote, log } = await evidenceOf(host)
    assert.ok(quote && log && replays(log, quote))
  })
})

describe('when the device fails', () => {
  for (const [errno, status, code] of [
    ['EIO', 502, 'DEVICE_FAILED'],
    ['EBUSY', 503, 'DEVICE_BUSY'],
    ['ETIMEDOUT', 504, 'DEVICE_TIMEOUT'],
  ] as const) {
    test(`with ${errno} before it extends, all stays as it was`, async () => {
      const host = await guestOn('tdx', { emit_event: true })
      host.machine.fault = ({ operation, path }) =>
        operation === 'write' && path.endsWith(RTMR3) ? errno : undefined
      const [found, answer] = await host.json('/EmitEvent', { event: 'lost' })
      assert.deepEqual([found, answer.code], [status, code])
      host.machine.fault = () => undefined
      assert.equal((await host.json('/EmitEvent', { event: 'kept' }))[0], 200)
      assert.deepEqual(await measuredBy(host), ['kept'])
      const { quote, log } = await evidenceOf(host)
      assert.ok(quote && log && replays(log, quote))
    })
  }

  test('and nobody knows whether it extended, no further event is taken', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    const failing = () => {
      // It fails at the write; after that the register cannot be read either.
      let written = false
      return ({ operation, path }: { operation: string; path: string }) => {
        if (!path.endsWith(RTMR3)) return undefined
        written ||= operation === 'write'
        return written ? 'EIO' : undefined
      }
    }
    host.machine.fault = failing()
    const [status, answer] = await host.json('/EmitEvent', { event: 'half' })
    assert.deepEqual([status, answer.code], [502, 'DEVICE_FAILED'])
    host.machine.fault = () => undefined
    for (const event of ['more', 'and more']) {
      const [again, { code, error }] = await host.json('/EmitEvent', { event })
      assert.deepEqual([again, code], [503, 'EVENTS_OUT_OF_STEP'])
      assert.match(error ?? '', /its value is not known/)
    }
    assert.deepEqual(await measuredBy(host), [])
    // Quotes are still made, and their log still replays: the register never moved.
    const { quote, log } = await evidenceOf(host)
    assert.ok(quote && log && replays(log, quote))
  })

  test('to read the register, no event is measured, and the next one is', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    host.machine.fault = ({ path }) => (path.endsWith(RTMR3) ? 'EBUSY' : undefined)
    const [status, { code }] = await host.json('/EmitEvent', { event: 'lost' })
    assert.deepEqual([status, code], [503, 'DEVICE_BUSY'])
    host.machine.fault = () => undefined
    assert.equal((await host.json('/EmitEvent', { event: 'kept' }))[0], 200)
    assert.deepEqual(await measuredBy(host), ['kept'])
  })

  test('other software that extends the register is noticed before the next event', async () => {
    const host = await guestOn('tdx', { emit_event: true })
    assert.equal((await host.json('/EmitEvent', { event: 'ours' }))[0], 200)
    await host.machine.attester.tdx?.extend(3, new Uint8Array(48).fill(1))
    const before = await host.machine.attester.tdx?.registers()
    const [status, { code, error }] = await host.json('/EmitEvent', { event: 'late' })
    assert.deepEqual([status, code], [503, 'EVENTS_OUT_OF_STEP'])
    assert.match(error ?? '', /something else extends it/)
    assert.deepEqual(await host.machine.attester.tdx?.registers(), before)
  })
})
