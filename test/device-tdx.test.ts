import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { parseQuote } from '../src/attest/tdx/quote.ts'
import { QueueError } from '../src/device/devices.ts'
import { CCEL_LOG, CCEL_TABLE } from '../src/device/paths.ts'
import type { CallOutcome } from '../src/device/queue.ts'
import { Tdx, type TdxFacts, type TdxOptions } from '../src/device/tdx.ts'
import type { Fault } from '../src/simulate/machine.ts'
import { at, stepOf, TdxGuest } from './fakes/tdx-guest.ts'

const ALL: TdxFacts = { canQuote: true, canReport: true, canExtend: true }

function dataOf(i: number): Uint8Array {
  return new Uint8Array(64).fill(i)
}

function tdxOn(guest: TdxGuest, options: Partial<TdxOptions> = {}): Tdx {
  return new Tdx(guest.transport, { facts: ALL, ...options })
}

/** A guest whose quotes take until the test says so. */
function slowGuest(): { readonly guest: TdxGuest; readonly release: () => void } {
  let release = () => {}
  const released = new Promise<undefined>((resolve) => {
    release = () => resolve(undefined)
  })
  const slow: Fault = (call) => (stepOf(call) === 'read outblob' ? released : undefined)
  return { guest: new TdxGuest(slow), release }
}

function expectData(quote: Uint8Array | undefined, data: Uint8Array): void {
  assert.ok(quote)
  assert.deepEqual(Buffer.from(parseQuote(quote).reportData), Buffer.from(data))
}

function refused(code: QueueError['code']) {
  return (error: unknown) => error instanceof QueueError && error.code === code
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}

test('tdx: 64 callers with data of their own each get their own, one device call at a time', async () => {
  const guest = new TdxGuest()
  const tdx = tdxOn(guest, { waiting: 63 })
  const asked = Array.from({ length: 64 }, (_, i) => dataOf(i))
  const quotes = await Promise.all(asked.map((data, i) => tdx.quote(data, { caller: `${i % 8}` })))
  for (const [i, data] of asked.entries()) expectData(quotes[i], data)
  assert.deepEqual(guest.entries, [])
  // The calls of one quote follow each other: no other quote's are between them.
  const entries = guest.calls.map(({ path }) => /cvmd-\d+-\d+/.exec(path)?.[0])
  const changes = entries.filter((entry, i) => entry !== entries[i - 1])
  assert.equal(changes.length, 64)
})

test('tdx: of 64 callers at once, 17 are served and the others refused at once', async () => {
  const { guest, release } = slowGuest()
  const outcomes: CallOutcome[] = []
  const tdx = tdxOn(guest, { observer: () => ({ call: (outcome) => outcomes.push(outcome) }) })
  const calls = Array.from({ length: 64 }, (_, i) => tdx.quote(dataOf(i)))
  const fates = Promise.allSettled(calls)
  await until(() => outcomes.length === 47)
  assert.ok(outcomes.every((outcome) => outcome === 'full'))
  release()
  let served = 0
  for (const fate of await fates) {
    if (fate.status === 'fulfilled') served++
    else assert.ok(refused('QUEUE_FULL')(fate.reason), fate.reason)
  }
  assert.equal(served, 17)
})

test('tdx: equal requests in flight share one quote, and no memory', async () => {
  const guest = new TdxGuest()
  const tdx = tdxOn(guest)
  const [a, b] = await Promise.all([tdx.quote(dataOf(1)), tdx.quote(dataOf(1))])
  assert.deepEqual(a, b)
  assert.equal(guest.steps.filter((step) => step === 'read outblob').length, 1)
  a?.fill(0)
  assert.notDeepEqual(a, b)
})

test('tdx: the caller may reuse its buffers at once', async () => {
  const tdx = tdxOn(new TdxGuest())
  for (const data of [dataOf(5), Buffer.from(dataOf(5))]) {
    // Something runs already, so that both have to wait.
    const first = Promise.all([tdx.quote(dataOf(1)), tdx.report(dataOf(1))])
    const quote = tdx.quote(data)
    const report = tdx.report(data)
    data.fill(0)
    await first
    expectData(await quote, dataOf(5))
    assert.deepEqual(Uint8Array.from((await report).subarray(128, 192)), dataOf(5))
  }
})

test('tdx: a quote begun before an extend is not given to who asks after it', async () => {
  const { guest, release } = slowGuest()
  const tdx = tdxOn(guest)
  const before = tdx.quote(dataOf(1))
  // The register does not wait behind the quote.
  await tdx.extend(3, new Uint8Array(48))
  const after = tdx.quote(dataOf(1))
  release()
  await Promise.all([before, after])
  assert.equal(guest.steps.filter((step) => step === 'read outblob').length, 2)
  const { rtmr } = await tdx.registers()
  assert.deepEqual(Buffer.from(parseQuote(await after).rtmr[3]), Buffer.from(rtmr[3]))
})

test('tdx: who goes away frees the place and leaves no entry', async () => {
  const { guest, release } = slowGuest()
  const tdx = tdxOn(guest, { waiting: 1 })
  const callers = [0, 1].map(() => new AbortController())
  const [running, waiting] = callers.map(({ signal }, i) => tdx.quote(dataOf(i), { signal }))
  await until(() => guest.entries.length === 1)
  await assert.rejects(tdx.quote(dataOf(2)), refused('QUEUE_FULL'))
  callers[1]?.abort()
  await assert.rejects(waiting as Promise<unknown>, refused('ABORTED'))
  const next = tdx.quote(dataOf(3))
  callers[0]?.abort()
  await assert.rejects(running as Promise<unknown>, refused('ABORTED'))
  release()
  expectData(await next, dataOf(3))
  assert.deepEqual(guest.entries, [])
  const written = guest.calls.flatMap(({ input }) => (input ? [input[0]] : []))
  assert.ok(
    written.every((first) => first === 0 || first === 3),
    'the second was never asked for',
  )
})

test('tdx: a device that hangs: deadline, registers unaffected, recovery', async () => {
  const { guest, release } = slowGuest()
  const tdx = tdxOn(guest, { deadlineMs: 300 })
  await assert.rejects(tdx.quote(dataOf(1)), refused('DEADLINE'))
  await assert.rejects(tdx.quote(dataOf(2)), refused('QUEUE_FULL'))
  release()
  await until(() => guest.entries.length === 0)
  expectData(await tdx.quote(dataOf(3)), dataOf(3))
})

test('tdx: registers do not wait for a quote that hangs', async () => {
  const guest = new TdxGuest(at('read outblob', 'hang'))
  const caller = new AbortController()
  const tdx = tdxOn(guest)
  const stuck = tdx.quote(dataOf(1), { signal: caller.signal })
  assert.equal((await tdx.registers()).rtmr.length, 4)
  assert.equal((await tdx.report(dataOf(1))).length, 1024)
  assert.ok(await tdx.bootLog())
  caller.abort()
  await assert.rejects(stuck, refused('ABORTED'))
})

test('tdx: without a provider there is no quote', async () => {
  const guest = new TdxGuest()
  const tdx = tdxOn(guest, { facts: { ...ALL, canQuote: false } })
  await assert.rejects(tdx.quote(dataOf(1)), { name: 'DeviceError', code: 'ENXIO' })
  assert.deepEqual(await tdx.removeLeftovers(), [])
  assert.deepEqual(guest.calls, [])
})

test('tdx: registers from the measurement files, else a report, else a quote', async () => {
  const ways = [
    [ALL, 'read rtmr3:sha384'],
    [{ ...ALL, canExtend: false }, 'ioctl tdx_guest'],
    [{ canQuote: true, canReport: false, canExtend: false }, 'read outblob'],
  ] as const
  const found = []
  for (const [facts, telling] of ways) {
    const guest = new TdxGuest()
    const { rtmr, ...rest } = await tdxOn(guest, { facts }).registers()
    assert.ok(guest.steps.includes(telling), telling)
    found.push([...Object.entries(rest).sort(), ...rtmr].map((value) => JSON.stringify(value)))
    const others = ways.filter(([, step]) => step !== telling)
    for (const [, step] of others) assert.equal(guest.steps.includes(step), false, step)
  }
  // Whatever way, the same registers: 3 named ones beside MRTD, and 4 RTMRs.
  assert.equal(found[0]?.length, 8)
  assert.deepEqual(found[1], found[0])
  assert.deepEqual(found[2], found[0])
})

test('tdx: a register of another length is not passed on', async () => {
  for (const [length, code] of [
    [0, 'EIO'],
    [47, 'EIO'],
    [49, 'EFBIG'],
  ] as const) {
    const guest = new TdxGuest(at('read rtmr1', new Uint8Array(length)))
    await assert.rejects(tdxOn(guest).registers(), { name: 'DeviceError', code })
  }
})

test('tdx: extending is one write of 48 bytes into RTMR2 or RTMR3', async () => {
  const guest = new TdxGuest()
  const tdx = tdxOn(guest)
  const digest = new Uint8Array(48).fill(9)
  for (const index of [2, 3] as const) {
    const before = (await tdx.registers()).rtmr[index]
    await tdx.extend(index, digest)
    const expected = createHash('sha384').update(before).update(digest).digest()
    assert.deepEqual(Buffer.from((await tdx.registers()).rtmr[index]), expected)
  }
  const writes = guest.steps.filter((step) => step.startsWith('write'))
  assert.deepEqual(writes, ['write rtmr2:sha384', 'write rtmr3:sha384'])
})

test('tdx: anything else never reaches a register', async () => {
  const guest = new TdxGuest()
  const tdx = tdxOn(guest)
  for (const length of [0, 32, 47, 49, 96]) {
    await assert.rejects(tdx.extend(3, new Uint8Array(length)), {
      code: 'EINVAL',
      message: new RegExp(`EINVAL, ${length} bytes, expected 48$`),
    })
  }
  for (const index of [0, 1, 4, -1, 2.5, Number.NaN]) {
    await assert.rejects(tdx.extend(index as 2, new Uint8Array(48)), { code: 'EINVAL' })
  }
  assert.deepEqual(guest.calls, [])
})

test('tdx: an extend that failed is not repeated', async () => {
  for (const errno of ['EBUSY', 'EINTR', 'EIO'] as const) {
    const guest = new TdxGuest(at('write', errno))
    await assert.rejects(tdxOn(guest).extend(3, new Uint8Array(48)), { code: errno })
    assert.equal(guest.calls.length, 1)
  }
})

test('tdx: where registers cannot be extended, the error says what can', async () => {
  const guest = new TdxGuest()
  const tdx = tdxOn(guest, { facts: { ...ALL, canExtend: false } })
  await assert.rejects(tdx.extend(3, new Uint8Array(48)), {
    name: 'DeviceError',
    code: 'ENOTSUP',
    message: /ENOTSUP, registers can be extended on Linux 6\.16 or later/,
  })
  assert.deepEqual(guest.calls, [])
})

test('tdx: a report is 1024 bytes over 64 bytes, repeated once when the device is busy', async () => {
  const guest = new TdxGuest()
  const tdx = tdxOn(guest)
  const report = await tdx.report(dataOf(7))
  assert.equal(report.length, 1024)
  assert.deepEqual(Uint8Array.from(report.subarray(128, 192)), dataOf(7))
  await assert.rejects(tdx.report(new Uint8Array(63)), { code: 'EINVAL' })
  for (const [answer, code] of [
    [new Uint8Array(1023), 'EIO'],
    [new Uint8Array(1024), 'EREPORTDATA'],
    ['ENOTTY', 'ENOTTY'],
    ['EBUSY', 'EBUSY'],
  ] as const) {
    guest.fault = at('ioctl', answer)
    await assert.rejects(tdx.report(dataOf(7)), { name: 'DeviceError', code })
  }
  guest.fault = at('ioctl', 'EBUSY', 1)
  assert.equal((await tdx.report(dataOf(7))).length, 1024)
})

test('tdx: the boot log, where there is one for TDX', async () => {
  const guest = new TdxGuest()
  const tdx = tdxOn(guest)
  const log = await tdx.bootLog()
  assert.ok(log && log.length >= 65_536)
  guest.fault = ({ path }) => (path === CCEL_LOG ? new Uint8Array(1024 * 1024 + 1) : undefined)
  await assert.rejects(tdx.bootLog(), { name: 'DeviceError', code: 'EFBIG' })
  // A log of SEV is none of ours.
  const table = await guest.transport.read(CCEL_TABLE, 4096)
  guest.fault = ({ path }) => (path === CCEL_TABLE ? Uint8Array.from(table).with(36, 1) : undefined)
  assert.equal(await tdx.bootLog(), undefined)
  for (const missing of [CCEL_TABLE, CCEL_LOG]) {
    guest.fault = ({ path }) => (path === missing ? 'ENOENT' : undefined)
    assert.equal(await tdx.bootLog(), undefined)
  }
  guest.fault = () => 'EACCES'
  await assert.rejects(tdx.bootLog(), { name: 'DeviceError', code: 'EACCES' })
})

test('tdx: leftovers of a crash are removed through the queue', async () => {
  const guest = new TdxGuest()
  guest.makeEntry(`cvmd-${process.pid}-1`)
  assert.deepEqual(await tdxOn(guest).removeLeftovers(), [`cvmd-${process.pid}-1`])
  assert.deepEqual(guest.entries, [])
})
