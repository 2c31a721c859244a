import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseQuote } from '../src/attest/tdx/quote.ts'
import { TSM_REPORT } from '../src/device/paths.ts'
import { DeviceError } from '../src/device/transport.ts'
import { TsmReports } from '../src/device/tsm.ts'
import { at, stepOf, TdxGuest } from './fakes/tdx-guest.ts'

const DATA = new Uint8Array(64).map((_, i) => i)
const SHARED = 'com.intel.dcap'
const STEPS = ['read provider', 'read generation', 'write inblob', 'read outblob']

function reportsOf(guest: TdxGuest, entry?: string): TsmReports {
  return new TsmReports(guest.transport, { entry })
}

async function expectQuote(reports: TsmReports, message?: string): Promise<void> {
  const { reportData } = parseQuote(await reports.quote(DATA))
  assert.deepEqual(Buffer.from(reportData), Buffer.from(DATA), message)
}

async function failure(guest: TdxGuest, entry?: string): Promise<DeviceError> {
  const error: unknown = await reportsOf(guest, entry)
    .quote(DATA)
    .catch((thrown) => thrown)
  assert.ok(error instanceof DeviceError, String(error))
  assert.deepEqual(guest.entries, entry === undefined ? [] : [entry])
  return error
}

test('tsm: a quote over the data, one private entry, nothing left', async () => {
  const guest = new TdxGuest()
  const reports = reportsOf(guest)
  await expectQuote(reports)
  const [made = '', ...steps] = guest.steps
  const entry = made.slice('mkdir '.length)
  assert.match(entry, new RegExp(`^cvmd-${process.pid}-\\d+$`))
  assert.deepEqual(steps, [
    'read provider',
    'read generation',
    'write inblob',
    'read generation',
    'read outblob',
    'read generation',
    `rmdir ${entry}`,
  ])
  assert.deepEqual(guest.entries, [])
  await expectQuote(reports)
  const again = guest.steps.slice(8)
  assert.equal(again.includes('read provider'), false, 'the provider is looked at once')
  assert.notEqual(again[0], made, 'each request has an entry of its own')
})

test('tsm: another length is refused before any device sees it', async () => {
  for (const length of [0, 1, 32, 63, 65, 128]) {
    const guest = new TdxGuest()
    await assert.rejects(reportsOf(guest).quote(new Uint8Array(length)), {
      code: 'EINVAL',
      message: `Cannot quote "${TSM_REPORT}": EINVAL, report data has ${length} bytes, expected 64`,
    })
    assert.deepEqual(guest.calls, [])
  }
})

test('tsm: no provider, another provider, no tree', async () => {
  assert.equal((await failure(new TdxGuest(at('mkdir', 'ENXIO')))).code, 'ENXIO')
  assert.equal((await failure(new TdxGuest(at('mkdir', 'ENOENT')))).code, 'ENOENT')
  const error = await failure(new TdxGuest(at('read provider', Buffer.from('sev_guest\n'))))
  assert.equal(error.code, 'ENXIO')
  assert.match(error.message, /ENXIO, the provider is "sev_guest", expected "tdx_guest"$/)
})

test('tsm: what the driver reports reaches the caller, and the entry is removed', async () => {
  const errnos = ['EIO', 'EAGAIN', 'ETIMEDOUT', 'EFBIG', 'ENXIO', 'EINVAL', 'ENOMEM'] as const
  for (const step of STEPS) {
    for (const errno of errnos) {
      const guest = new TdxGuest(at(step, errno))
      assert.equal((await failure(guest)).code, errno)
      const tries = guest.steps.filter((found) => found === step).length
      assert.equal(tries, 1, `${errno} at ${step} is not repeated`)
    }
  }
})

test('tsm: EBUSY and EINTR are repeated once', async () => {
  for (const errno of ['EBUSY', 'EINTR'] as const) {
    for (const step of ['mkdir', ...STEPS, 'rmdir']) {
      const guest = new TdxGuest(at(step, errno, 1))
      await expectQuote(reportsOf(guest), `${errno} at ${step}`)
      assert.deepEqual(guest.entries, [], `${errno} at ${step}`)
    }
    const guest = new TdxGuest(at('read outblob', errno))
    assert.equal((await failure(guest)).code, errno)
    assert.equal(guest.steps.filter((step) => step === 'read outblob').length, 2)
  }
})

test('tsm: an empty report with success is an error', async () => {
  const error = await failure(new TdxGuest(at('read outblob', new Uint8Array())))
  assert.equal(error.code, 'EIO')
  assert.match(error.message, /: EIO, the report is empty: the quote service of the host refused/)
})

test('tsm: what is no quote, or a quote over other data, is an error', async () => {
  const foreign = await reportsOf(new TdxGuest()).quote(new Uint8Array(64).fill(7))
  const other = await failure(new TdxGuest(at('read outblob', foreign)))
  assert.equal(other.code, 'EREPORTDATA')
  for (const junk of [Uint8Array.of(4), foreign.subarray(0, 1000), new Uint8Array(100_000)]) {
    const error = await failure(new TdxGuest(at('read outblob', junk)))
    assert.equal(error.code, 'EBADEVIDENCE')
  }
})

test('tsm: padding of the host after the quote is kept', async () => {
  const padded = new Uint8Array(8000)
  padded.set(await reportsOf(new TdxGuest()).quote(DATA))
  const guest = new TdxGuest(at('read outblob', padded))
  assert.deepEqual(await reportsOf(guest).quote(DATA), padded)
})

test('tsm: the generation must move by one with the write, and not again', async () => {
  for (const entry of [undefined, SHARED]) {
    for (const step of ['write inblob', 'read outblob']) {
      const guest = new TdxGuest((call) => void (stepOf(call) === step && guest.meddle()))
      const error = await failure(guest, entry)
      assert.equal(error.code, 'EGENERATION')
      assert.match(error.message, /it is 2, expected 1: other software uses this entry$/)
    }
    // The commit of a write happens on close and its errors are lost: it then stays what it was.
    const guest = new TdxGuest(at('read generation', Buffer.from('5\n')))
    assert.match((await failure(guest, entry)).message, /EGENERATION, it is 5, expected 6/)
  }
})

test('tsm: a generation is a decimal number, up to what the kernel counts', async () => {
  for (const text of ['', '-1\n', '1e3\n', '9'.repeat(21), 'x'.repeat(4096)]) {
    const guest = new TdxGuest(at('read generation', Buffer.from(text)))
    assert.equal((await failure(guest)).code, 'EGENERATION', text)
  }
  let now = 2n ** 64n - 2n
  const guest = new TdxGuest((call) => {
    if (stepOf(call) === 'write inblob') now++
    return stepOf(call) === 'read generation' ? Buffer.from(`${now}\n`) : undefined
  })
  await expectQuote(reportsOf(guest))
})

test('tsm: nothing more is asked once nobody waits, and the entry goes', async () => {
  for (const step of ['mkdir', 'read provider', 'read generation', 'write inblob']) {
    const caller = new AbortController()
    const guest = new TdxGuest((call) => void (stepOf(call).startsWith(step) && caller.abort()))
    await assert.rejects(reportsOf(guest).quote(DATA, caller.signal))
    assert.equal(guest.steps.includes('read outblob'), false, step)
    assert.deepEqual(guest.entries, [], step)
  }
  // Nor is a passing failure repeated for nobody.
  const caller = new AbortController()
  const guest = new TdxGuest((call) => {
    if (stepOf(call) !== 'read outblob') return undefined
    caller.abort()
    return 'EINTR'
  })
  await assert.rejects(reportsOf(guest).quote(DATA, caller.signal), { code: 'EINTR' })
  assert.equal(guest.steps.filter((step) => step.startsWith('mkdir')).length, 1)
})

test('tsm: an entry that cannot be removed is used again, not added to', async () => {
  const guest = new TdxGuest(at('rmdir', 'EPERM', 2))
  const reports = reportsOf(guest)
  for (const left of [1, 1, 0]) {
    await expectQuote(reports)
    assert.equal(guest.entries.length, left)
  }
  assert.equal(guest.steps.filter((step) => step.startsWith('mkdir')).length, 1)
})

test('tsm: a name that is taken is passed over', async () => {
  await expectQuote(reportsOf(new TdxGuest(at('mkdir', 'EEXIST', 3))))
  assert.equal((await failure(new TdxGuest(at('mkdir', 'EEXIST')))).code, 'EEXIST')
})

test('tsm: the device disappears between two steps, and comes back', async () => {
  for (const gone of STEPS) {
    const guest = new TdxGuest((call) => {
      if (stepOf(call) !== gone) return undefined
      // The module is unloaded: its entries go with it.
      guest.fault = (after) => (after.operation === 'rmdir' ? 'ENOENT' : 'ENXIO')
      return 'ENXIO'
    })
    const reports = reportsOf(guest)
    await assert.rejects(reports.quote(DATA), { code: 'ENXIO' })
    await assert.rejects(reports.quote(DATA), { code: 'ENXIO' })
    guest.fault = () => undefined
    await expectQuote(reports, gone)
  }
})

test('tsm: the shared entry is locked and kept', async () => {
  const guest = new TdxGuest()
  const reports = reportsOf(guest, SHARED)
  await expectQuote(reports)
  await expectQuote(reports)
  assert.deepEqual(guest.entries, [SHARED])
  assert.deepEqual(guest.steps.slice(0, 3), [`mkdir ${SHARED}`, 'lock inblob', 'read provider'])
})

test('tsm: users of the shared entry do not disturb each other', async () => {
  const guest = new TdxGuest()
  const asked = [1, 2, 3].map((i) => new Uint8Array(64).fill(i))
  const quotes = await Promise.all(asked.map((data) => reportsOf(guest, SHARED).quote(data)))
  const found = quotes.map((quote) => parseQuote(quote).reportData[0])
  assert.deepEqual(found, [1, 2, 3])
})

test('tsm: the lock of the shared entry is released after a failure', async () => {
  const reports = reportsOf(new TdxGuest(at('read outblob', 'EIO', 1)), SHARED)
  await assert.rejects(reports.quote(DATA), { code: 'EIO' })
  await expectQuote(reports)
  const unlockable = await failure(new TdxGuest(at('lock', 'ENOTSUP')), SHARED)
  assert.equal(unlockable.code, 'ENOTSUP')
})

test('tsm: entries of processes that are gone are removed, no others', async () => {
  // A process that has ended, and is reaped: its number is free.
  const { pid } = spawnSync('true')
  const started = Math.floor(performance.timeOrigin)
  const gone = [`cvmd-${pid}-5`, `cvmd-${process.pid}-${started - 1}`]
  const kept = [
    `cvmd-${process.pid}-${started}`,
    `cvmd-${process.ppid}-5`,
    'cvmd-1-5x',
    'cvmd--5',
    SHARED,
  ]
  const guest = new TdxGuest()
  for (const name of [...gone, ...kept]) guest.makeEntry(name)
  assert.deepEqual([...(await reportsOf(guest).removeLeftovers())].sort(), gone.sort())
  assert.deepEqual(guest.entries, kept)
  const stubborn = new TdxGuest(at('rmdir', 'EPERM'))
  stubborn.makeEntry(`cvmd-${pid}-5`)
  assert.deepEqual(await reportsOf(stubborn).removeLeftovers(), [])
})

test('tsm: whatever a step answers, the failure is typed and no entry is left', async () => {
  const errno = fc.constantFrom('EIO', 'EINTR', 'ENXIO', 'ENOENT', 'EEXIST' as const)
  const answer = fc.oneof(errno, fc.uint8Array({ maxLength: 700 }))
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...STEPS), answer, fc.nat(3), async (step, value, times) => {
      const guest = new TdxGuest(at(step, value, times + 1))
      const result = await reportsOf(guest)
        .quote(DATA)
        .catch((error) => error)
      if (result instanceof Uint8Array) {
        assert.deepEqual(Buffer.from(parseQuote(result).reportData), Buffer.from(DATA))
      } else assert.ok(result instanceof DeviceError, String(result))
      assert.deepEqual(guest.entries, [])
    }),
    { numRuns: 60 },
  )
})
