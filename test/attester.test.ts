import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import guest from '../plugins/guest/index.ts'
import tdx from '../plugins/tdx/index.ts'
import { compareRegisters } from '../src/attest/replay.ts'
import { parseQuote } from '../src/attest/tdx/quote.ts'
import type { Evidence } from '../src/attester/attester.ts'
import { NO_ATTESTER } from '../src/attester/none.ts'
import { serveTest } from './helpers/http-server.ts'
import { rawRequest } from './helpers/raw-http.ts'
import { simulatedMachine } from './helpers/simulated-machine.ts'

const OUTBLOB = '/outblob'
const RTMR3 = '/rtmr3:sha384'
const CCEL = '/sys/firmware/acpi/tables/data/CCEL'

const data = (fill: number) => new Uint8Array(64).fill(fill)

function assertReplays(evidence: Evidence): void {
  assert.ok(evidence.platform === 'tdx')
  const { rtmr } = parseQuote(evidence.quote)
  const results = compareRegisters(evidence.eventLog, rtmr, [0, 1, 2, 3])
  assert.ok(results.every(({ state }) => state === 'match'))
}

test('each of 64 callers gets evidence over data of its own', async () => {
  for (const platform of ['tdx', 'nitro'] as const) {
    const { attester } = await simulatedMachine(platform)
    assert.equal(attester.platform, platform)
    assert.equal(attester.simulated, true)
    const fills = Array.from({ length: 64 }, (_, i) => i)
    const made = await Promise.all(
      fills.map((fill) => attester.evidence(data(fill), { caller: `${fill}` })),
    )
    for (const [fill, evidence] of made.entries()) {
      assert.equal(evidence.platform, platform)
      assert.deepEqual(evidence.reportData, data(fill))
      if (evidence.platform === 'tdx') {
        assert.deepEqual(new Uint8Array(parseQuote(evidence.quote).reportData), data(fill))
      }
    }
  }
})

test('evidence never leaves with a log that an event overtook', async () => {
  const machine = await simulatedMachine('tdx')
  const { attester } = machine
  let events = 0
  // While each quote is made, an event comes in.
  machine.fault = async ({ operation, path }) => {
    if (operation === 'read' && path.endsWith(OUTBLOB) && events < 2) {
      await attester.runtimeEvents.emit(`event ${++events}`, data(events))
    }
    return undefined
  }
  const evidence = await attester.evidence(data(1))
  assert.ok(evidence.platform === 'tdx')
  assert.equal(events, 2)
  assert.equal(evidence.eventLog.filter(({ imr }) => imr === 3).length, 2)
  assertReplays(evidence)
})

test('and where events never end, it says so in place of giving some that does not hold', async () => {
  const machine = await simulatedMachine('tdx')
  const { attester } = machine
  let events = 0
  machine.fault = async ({ operation, path }) => {
    if (operation === 'read' && path.endsWith(OUTBLOB)) {
      await attester.runtimeEvents.emit(`event ${++events}`, data(events))
    }
    return undefined
  }
  await assert.rejects(attester.evidence(data(1)), { code: 'EVENTS_UNSTEADY', status: 503 })
  machine.fault = () => undefined
  assertReplays(await attester.evidence(data(1)))
})

test('a changed configuration keeps the events and the register in step', async () => {
  const machine = await simulatedMachine('tdx')
  await machine.attester.runtimeEvents.emit('before', data(1))
  const next = machine.reconfigured()
  await next.runtimeEvents.emit('after', data(2))
  await machine.attester.runtimeEvents.emit('by a plugin that still runs', data(3))
  for (const attester of [machine.attester, next]) {
    const log = await attester.runtimeEvents.list()
    assert.deepEqual(
      log.map(({ event }) => event),
      ['before', 'after', 'by a plugin that still runs'],
    )
    assertReplays(await attester.evidence(data(4)))
  }
})

describe('a device that hangs', () => {
  const DEADLINE = { deadlineMs: 100 }

  test('when a quote is asked for, holds up neither registers nor events', async () => {
    const machine = await simulatedMachine('tdx', DEADLINE)
    const { attester } = machine
    machine.fault = ({ path }) => (path.endsWith(OUTBLOB) ? 'hang' : undefined)
    await assert.rejects(attester.evidence(data(1)), { name: 'QueueError', code: 'DEADLINE' })
    await assert.rejects(attester.evidence(data(2)), { name: 'QueueError', code: 'QUEUE_FULL' })
    await attester.runtimeEvents.emit('still', data(3))
    assert.equal((await attester.tdx?.registers())?.rtmr.length, 4)
    assert.equal((await attester.cloud()).product, 'NOT A REAL TEE')
  })

  test('when an event is measured, fails that event and those after it', async () => {
    const machine = await simulatedMachine('tdx', DEADLINE)
    const { runtimeEvents } = machine.attester
    await runtimeEvents.emit('before', data(1))
    machine.fault = ({ operation, path }) =>
      operation === 'write' && path.endsWith(RTMR3) ? 'hang' : undefined
    await assert.rejects(runtimeEvents.emit('lost', data(2)), { status: 504 })
    await assert.rejects(runtimeEvents.emit('more', data(3)), { status: 503 })
    assert.equal((await runtimeEvents.list()).length, 1)
  })

  test('when its boot log is read, is asked again later', async () => {
    const machine = await simulatedMachine('tdx', DEADLINE)
    machine.fault = ({ path }) => (path === CCEL ? 'EIO' : undefined)
    await assert.rejects(machine.attester.eventLog(), { name: 'DeviceError', code: 'EIO' })
    machine.fault = () => undefined
    assert.ok((await machine.attester.eventLog()).length > 10)
    assertReplays(await machine.attester.evidence(data(1)))
  })

  test('whose boot log is damaged, says so in place of evidence', async () => {
    const machine = await simulatedMachine('tdx', DEADLINE)
    machine.fault = ({ path }) => (path === CCEL ? new Uint8Array(200).fill(7) : undefined)
    await assert.rejects(machine.attester.evidence(data(1)), {
      name: 'DeviceError',
      code: 'EBADEVIDENCE',
      message: /data\/CCEL": EBADEVIDENCE, Cannot read CCEL/,
    })
  })

  test('when it is asked for its name, has none', async () => {
    const machine = await simulatedMachine('tdx')
    machine.fault = ({ path }) => (path.startsWith('/sys/class/dmi/') ? 'hang' : undefined)
    assert.deepEqual(await machine.attester.cloud(), { vendor: '', product: '' })
  })

  test('of Nitro is no different', async () => {
    const machine = await simulatedMachine('nitro', DEADLINE)
    machine.fault = () => 'hang'
    await assert.rejects(machine.attester.evidence(data(1)), { code: 'DEADLINE' })
    await assert.rejects(machine.attester.evidence(data(2)), { code: 'QUEUE_FULL' })
  })
})

describe('on a socket, a device that hangs', () => {
  const stops: (() => Promise<void>)[] = []
  after(async () => {
    for (const stop of stops) await stop()
  })

  test('is an error for who asks it, and nothing to all others or to the stop', async () => {
    const machine = await simulatedMachine('tdx', { deadlineMs: 300 })
    const server = await serveTest(
      [tdx, guest],
      { core: false, dialect: 'dstack' },
      {
        unix: true,
        services: { attestation: machine.attester },
      },
    )
    stops.push(() => server.stop())
    machine.fault = ({ path }) => (path.endsWith(OUTBLOB) ? 'hang' : undefined)
    const get = async (path: string) => {
      const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
      const answer = await rawRequest(server.target, request, 10_000)
      assert.ok(answer, path)
      return [answer.status, JSON.parse(answer.body).code] as const
    }
    const asked = get('/GetQuote')
    assert.equal((await get('/Version'))[0], 200)
    assert.deepEqual(await asked, [504, 'DEVICE_TIMEOUT'])
    for (const path of ['/GetQuote', '/Attest', '/attestation', '/prpc/Tappd.TdxQuote']) {
      assert.deepEqual(await get(path), [429, 'DEVICE_QUEUE_FULL'], path)
    }
    assert.equal((await get('/Version'))[0], 200)
    await server.stop()
  })
})

test('a machine without devices says so', async () => {
  assert.equal(NO_ATTESTER.platform, undefined)
  await assert.rejects(NO_ATTESTER.evidence(data(1)), { status: 400, code: 'WRONG_PLATFORM' })
  const emit = NO_ATTESTER.runtimeEvents.emit('x', data(1))
  await assert.rejects(emit, { status: 400, code: 'EVENTS_UNSUPPORTED' })
  assert.deepEqual(await NO_ATTESTER.eventLog(), [])
  assert.deepEqual(await NO_ATTESTER.cloud(), { vendor: '', product: '' })
})
