import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseCcel, parseCcelTable } from '../src/attest/ccel.ts'
import { type Fault, SimulatedTransport } from '../src/simulate/machine.ts'
import { tdxMachine } from '../src/simulate/tdx-machine.ts'

const REPORTS = '/sys/kernel/config/tsm/report'
const REGISTERS = '/sys/devices/virtual/misc/tdx_guest/measurements'
const TABLES = '/sys/firmware/acpi/tables'
const sha384 = (...parts: Uint8Array[]) =>
  parts.reduce((sum, part) => sum.update(part), createHash('sha384')).digest()

/** A machine whose quotes are the TDREPORT and a count, so that each is seen to be made. */
function machine(fault?: Fault) {
  let made = 0
  const quote = (report: Uint8Array) => Buffer.concat([report, Uint8Array.of(++made)])
  const at = new SimulatedTransport(tdxMachine(quote), fault)
  const read = (path: string) => at.read(path, 100_000)
  const text = async (path: string) => Buffer.from(await read(path)).toString()
  return { at, read, text }
}

/** The report data in what the machine above gives for a quote. */
const reportDataOf = (quote: Uint8Array) => Buffer.from(quote.subarray(128, 192))

function fails(call: Promise<unknown>, code: string, what?: string): Promise<void> {
  return assert.rejects(call, { name: 'DeviceError', code }, what)
}

test('paths are what a kernel with everything shows', async () => {
  const { at } = machine()
  assert.equal(await at.stat('/dev/tdx_guest'), 'character-device')
  assert.equal(await at.stat(REPORTS), 'directory')
  assert.equal(await at.stat(`${REGISTERS}/rtmr3:sha384`), 'file')
  assert.deepEqual(await at.list(TABLES), ['CCEL', 'data'])
  assert.deepEqual(await at.list(REPORTS), [])
  assert.equal((await at.list(REGISTERS)).length, 8)
  await fails(at.stat('/dev/nsm'), 'ENOENT')
  await fails(at.stat('/dev/tdx_guest/x'), 'ENOTDIR')
  await fails(at.list('/dev/tdx_guest'), 'ENOTDIR')
  await fails(at.read('/sys', 10), 'EISDIR')
  await fails(at.read('/dev/tdx_guest', 10), 'EINVAL')
  await fails(at.stat(`/dev/${'x'.repeat(256)}`), 'ENAMETOOLONG')
  await fails(at.mkdir(`${REGISTERS}/x`), 'EPERM')
  await fails(at.rmdir('/sys/kernel'), 'EPERM')
})

test('an entry behaves as configfs-tsm does', async () => {
  const { at, read, text } = machine()
  const entry = `${REPORTS}/${'e'.repeat(255)}`
  const [inblob, outblob] = [`${entry}/inblob`, `${entry}/outblob`]
  const generation = () => text(`${entry}/generation`)
  await at.mkdir(entry)
  await fails(at.mkdir(entry), 'EEXIST')
  await fails(at.mkdir(`${entry}/inside`), 'EPERM')
  await fails(at.mkdir(`${REPORTS}/none/inside`), 'ENOENT')
  assert.deepEqual(await at.list(REPORTS), ['e'.repeat(255)])
  assert.deepEqual(await at.list(entry), ['generation', 'inblob', 'outblob', 'provider'])
  assert.equal(await text(`${entry}/provider`), 'tdx_guest\n')
  assert.equal(await generation(), '0\n')
  await fails(read(outblob), 'EINVAL', 'before any write')
  await fails(read(inblob), 'EACCES')
  await fails(at.write(outblob, new Uint8Array(1)), 'EACCES')
  await fails(at.write(`${entry}/auxblob`, new Uint8Array(1)), 'ENOENT')

  const first = randomBytes(64)
  await at.write(inblob, first)
  assert.equal(await generation(), '1\n')
  const quote = await read(outblob)
  assert.deepEqual(reportDataOf(quote), first)
  assert.deepEqual(await read(outblob), quote, 'cached until the next write')
  await fails(at.read(outblob, quote.byteLength - 1), 'EFBIG')

  await at.write(inblob, first)
  assert.notDeepEqual(await read(outblob), quote, 'the same data written again is a new quote')

  for (const length of [1, 32, 63]) {
    await at.write(inblob, new Uint8Array(length))
    await fails(read(outblob), 'EINVAL', `${length} bytes are refused by the read`)
  }
  for (const [length, code] of [
    [65, 'EFBIG'],
    [0, 'EFAULT'],
  ] as const) {
    await at.write(inblob, first)
    const before = Number(await generation())
    await fails(at.write(inblob, new Uint8Array(length)), code)
    assert.equal(Number(await generation()), before + 1, 'the refused write was committed')
    await fails(read(outblob), 'EINVAL', 'and left nothing to make a quote of')
  }

  await fails(at.rmdir(inblob), 'ENOTDIR')
  await at.rmdir(entry)
  await fails(at.rmdir(entry), 'ENOENT')
  await fails(read(outblob), 'ENOENT')
})

test('the caller may reuse its buffer, and change what it was given', async () => {
  const { at, read } = machine()
  await at.mkdir(`${REPORTS}/x`)
  const data = new Uint8Array(64).fill(1)
  await at.write(`${REPORTS}/x/inblob`, data)
  data.fill(2)
  const quote = await read(`${REPORTS}/x/outblob`)
  assert.deepEqual(reportDataOf(quote), Buffer.alloc(64, 1))
  quote.fill(0)
  assert.deepEqual(reportDataOf(await read(`${REPORTS}/x/outblob`)), Buffer.alloc(64, 1))
})

test('registers extend by one write of 48 bytes', async () => {
  const { at, read } = machine()
  const path = `${REGISTERS}/rtmr3:sha384`
  const digest = randomBytes(48)
  assert.deepEqual(Buffer.from(await read(path)), Buffer.alloc(48))
  await at.write(path, digest)
  const once = sha384(Buffer.alloc(48), digest)
  assert.deepEqual(Buffer.from(await read(path)), once)
  await fails(at.write(path, digest.subarray(1)), 'EINVAL')
  await at.write(path, new Uint8Array(0))
  assert.deepEqual(Buffer.from(await read(path)), once, 'unchanged')
  await fails(at.write(path, Buffer.concat([digest, digest])), 'EFBIG')
  const twice = sha384(once, digest)
  assert.deepEqual(Buffer.from(await read(path)), twice, 'extended with the first 48 all the same')
  await fails(at.write(`${REGISTERS}/mrtd:sha384`, digest), 'EACCES')
  const report = await at.ioctl('/dev/tdx_guest', 'tdreport', new Uint8Array(64))
  assert.deepEqual(Buffer.from(report.subarray(864, 912)), twice, 'in reports as well')
  const mrtd = await read(`${REGISTERS}/mrtd:sha384`)
  assert.deepEqual(Buffer.from(report.subarray(528, 576)), Buffer.from(mrtd))
})

test('the boot log replays to RTMR0, RTMR1 and RTMR2', async () => {
  const { read } = machine()
  const table = await read(`${TABLES}/CCEL`)
  const log = await read(`${TABLES}/data/CCEL`)
  assert.equal(table.reduce((sum, octet) => sum + octet, 0) % 256, 0, 'ACPI checksum')
  const { ccType, logLength } = parseCcelTable(table)
  assert.deepEqual([ccType, Number(logLength)], [2, log.byteLength])

  const { events, bytesUsed } = parseCcel(log)
  assert.ok(log.subarray(bytesUsed).every((octet) => octet === 0xff))
  const registers = [0, 1, 2, 3].map(() => Buffer.alloc(48))
  for (const { register, digest } of events) {
    const value = registers[register - 1] as Buffer
    registers[register - 1] = sha384(value, digest)
  }
  for (const [index, value] of registers.entries()) {
    assert.deepEqual(Buffer.from(await read(`${REGISTERS}/rtmr${index}:sha384`)), value)
  }
  assert.ok(registers.slice(0, 3).every((value) => value.some((octet) => octet !== 0)))
  // Digests that real firmware logs for the same content (vectors: dstack-ccel.dat).
  const digests = new Set(events.map(({ digest }) => Buffer.from(digest).toString('hex', 0, 8)))
  for (const known of ['394341b7182cd227', '214b0bef13797560', '0a2e01c85deae718']) {
    assert.ok(digests.has(known), known)
  }
  const acpi = events.filter(({ type }) => type === 10).map(({ data }) => Buffer.from(data))
  assert.deepEqual(acpi.map(String), ['ACPI DATA', 'ACPI DATA', 'ACPI DATA'])
})

test('ioctls other than the device has are refused', async () => {
  const { at } = machine()
  await fails(at.ioctl('/dev/tdx_guest', 'nsm', new Uint8Array(64)), 'ENOTTY')
  await fails(at.ioctl('/dev/tdx_guest', 'tdreport', new Uint8Array(63)), 'EINVAL')
  await fails(at.ioctl(`${REGISTERS}/rtmr3:sha384`, 'tdreport', new Uint8Array(64)), 'ENOTTY')
  await fails(at.ioctl('/dev/nsm', 'nsm', new Uint8Array(64)), 'ENOENT')
})

test('any sequence of calls gives answers or errno, and generations only rise', async () => {
  const names = fc.constantFrom('a', 'b', 'inblob', 'outblob', 'generation', 'provider', '..', '')
  const path = fc.array(names, { maxLength: 3 }).map((parts) => [REPORTS, ...parts].join('/'))
  const bytes = fc.uint8Array({ minLength: 60, maxLength: 68 })
  const call = fc.record({ what: fc.nat(6), path, bytes })
  await fc.assert(
    fc.asyncProperty(fc.array(call, { maxLength: 40 }), async (calls) => {
      const { at, read, text } = machine()
      await at.mkdir(`${REPORTS}/kept`)
      let generation = 0
      for (const { what, path: where, bytes: data } of calls) {
        const step = [
          () => at.stat(where),
          () => at.list(where),
          () => read(where),
          () => at.write(where, data),
          () => at.mkdir(where),
          () => (where === `${REPORTS}/kept` ? at.stat(where) : at.rmdir(where)),
          () => at.write(`${REPORTS}/kept/inblob`, data),
        ][what]
        await step?.().catch((error) => {
          assert.equal(error.name, 'DeviceError')
          assert.match(error.code, /^E[A-Z]+$/)
        })
        const found = Number(await text(`${REPORTS}/kept/generation`))
        assert.equal(found, what === 6 ? generation + 1 : generation)
        generation = found
      }
    }),
    { numRuns: 50 },
  )
})

test('faults come before the call they are for', async () => {
  const seen: string[] = []
  const { at, read } = machine(({ operation, path, input }) => {
    seen.push(`${operation} ${path.split('/').at(-1)} ${input?.byteLength ?? '-'}`)
    if (operation === 'write') return 'EBUSY'
    if (path.endsWith('outblob')) return new Uint8Array(0)
    return undefined
  })
  await at.mkdir(`${REPORTS}/x`)
  await fails(at.write(`${REPORTS}/x/inblob`, new Uint8Array(64)), 'EBUSY')
  assert.equal((await read(`${REPORTS}/x/outblob`)).byteLength, 0)
  assert.equal(Buffer.from(await read(`${REPORTS}/x/generation`)).toString(), '0\n')
  const expected = ['mkdir x -', 'write inblob 64', 'read outblob -', 'read generation -']
  assert.deepEqual(seen, expected)
})

test('a pending quote holds up all other entries, and nothing else', async () => {
  let finish = () => {}
  const pending = new Promise<undefined>((resolve) => {
    finish = () => resolve(undefined)
  })
  const { at, read, text } = machine(({ path }) =>
    path.endsWith('slow/outblob') ? pending : undefined,
  )
  for (const name of ['slow', 'other']) {
    await at.mkdir(`${REPORTS}/${name}`)
    await at.write(`${REPORTS}/${name}/inblob`, new Uint8Array(64))
  }
  const order: string[] = []
  const slow = read(`${REPORTS}/slow/outblob`).then(() => order.push('quote'))
  const other = text(`${REPORTS}/other/generation`).then(() => order.push('generation'))
  await read(`${REGISTERS}/rtmr3:sha384`).then(() => order.push('register'))
  await at.ioctl('/dev/tdx_guest', 'tdreport', new Uint8Array(64))
  await at.rmdir(`${REPORTS}/other`).then(() => order.push('rmdir'))
  finish()
  await Promise.allSettled([slow, other])
  assert.deepEqual(order.slice(0, 3), ['register', 'rmdir', 'quote'])
  await fails(other, 'ENOENT', 'it was removed while it waited')
})

test('a call that hangs stays, and its lock with it', async () => {
  const { at, read } = machine(({ path }) => (path.endsWith('outblob') ? 'hang' : undefined))
  await at.mkdir(`${REPORTS}/x`)
  let ended = 0
  for (const name of ['outblob', 'generation']) {
    void read(`${REPORTS}/x/${name}`).finally(() => ended++)
  }
  await read(`${REGISTERS}/rtmr0:sha384`)
  await at.rmdir(`${REPORTS}/x`)
  assert.equal(ended, 0)
})

test('flock is held by one at a time', async () => {
  const { at } = machine()
  const inblob = `${REPORTS}/com.intel.dcap/inblob`
  await fails(at.lock(inblob), 'ENOENT')
  await at.mkdir(`${REPORTS}/com.intel.dcap`)
  await fails(at.lock(`${REPORTS}/com.intel.dcap/outblob`), 'EACCES')
  const order: number[] = []
  const holder = async (n: number) => {
    const release = await at.lock(inblob)
    order.push(n)
    await at.stat(inblob)
    order.push(n)
    await release()
    await release()
  }
  await Promise.all([holder(1), holder(2), holder(3)])
  assert.deepEqual(order, [1, 1, 2, 2, 3, 3])
})
