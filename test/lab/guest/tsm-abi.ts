/** Spec tdx §3, "Exact behaviour": the real configfs-tsm core through the daemon's transport. */
import assert from 'node:assert/strict'
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { release } from 'node:os'
import { parseQuote } from '../../../src/attest/tdx/quote.ts'
import { TSM_REPORT } from '../../../src/device/paths.ts'
import type { Transport } from '../../../src/device/transport.ts'
import { fails } from './errno.ts'
import { test } from './harness.ts'
import { plug, reportEntries, setFault, setParameter } from './stage.ts'

const MAX_QUOTE = 1024 * 1024
/** Report data that can be told apart. */
const data = (octet: number, length = 64): Uint8Array => new Uint8Array(length).fill(octet)

/** Adds the tests of report entries. */
export function tsmAbi(transport: Transport): void {
  const entry = `${TSM_REPORT}/lab`
  const inblob = `${entry}/inblob`
  const outblob = `${entry}/outblob`
  const read = (path: string) => transport.read(path, MAX_QUOTE)
  const write = (octet: number, length = 64) => transport.write(inblob, data(octet, length))
  const generation = async () => Number(Buffer.from(await read(`${entry}/generation`)).toString())
  const reportData = (quote: Uint8Array) => Buffer.from(parseQuote(quote).reportData)

  /** A test with a fresh entry, which is gone afterwards. */
  const row = (name: string, body: () => Promise<void>) =>
    test(`tsm: ${name}`, async () => {
      plug('tdx')
      await transport.mkdir(entry)
      try {
        await body()
      } finally {
        setFault('tdx', undefined)
        setParameter('quote_timeout_s', 30)
        await transport.rmdir(entry).catch(() => undefined)
      }
      assert.deepEqual(reportEntries(), [])
    })

  test('tsm: without a provider no entry can be made', async () => {
    plug()
    assert.equal(await transport.stat(TSM_REPORT), 'directory')
    await fails('ENXIO', () => transport.mkdir(entry))
  })
  row('attributes, modes and sizes are as the kernel documents', async () => {
    const expected = { generation: 0o444, inblob: 0o200, outblob: 0o444, provider: 0o444 }
    assert.deepEqual(await transport.list(entry), Object.keys(expected))
    for (const [name, mode] of Object.entries(expected)) {
      const { mode: found, size, uid } = statSync(`${entry}/${name}`)
      assert.deepEqual(
        [found & 0o777, size, uid],
        [mode, name.endsWith('blob') ? 0 : 4096, 0],
        name,
      )
    }
    assert.equal(Buffer.from(await read(`${entry}/provider`)).toString(), 'tdx_guest\n')
  })
  row('an existing name is EEXIST, a folder inside an entry EPERM', async () => {
    await fails('EEXIST', () => transport.mkdir(entry))
    await fails('EPERM', () => mkdirSync(`${entry}/inner`))
    await fails('EPERM', () => unlinkSync(outblob))
  })
  row('a name of 255 characters is taken', async () => {
    const long = `${TSM_REPORT}/${'x'.repeat(255)}`
    await transport.mkdir(long)
    await transport.rmdir(long)
  })
  row('a quote holds the data, and is made once for each write', async () => {
    assert.equal(await generation(), 0)
    await write(1)
    assert.equal(await generation(), 1)
    const quote = await read(outblob)
    assert.deepEqual(reportData(quote), Buffer.from(data(1)))
    assert.deepEqual(await read(outblob), quote)
    await write(2)
    assert.equal(await generation(), 2)
    assert.deepEqual(reportData(await read(outblob)), Buffer.from(data(2)))
  })
  row('no input, and input of another length, is EINVAL when reading', async () => {
    await fails('EINVAL', () => read(outblob))
    await write(1, 32)
    await fails('EINVAL', () => read(outblob))
  })
  row('a write of more than 64 bytes is EFBIG, and still breaks the entry', async () => {
    await write(1)
    await fails('EFBIG', () => write(2, 65))
    assert.equal(await generation(), 2)
    await fails('EINVAL', () => read(outblob))
  })
  row('a write of nothing is EFAULT, and breaks the entry too', async () => {
    await write(1)
    await fails('EFAULT', () => write(0, 0))
    assert.equal(await generation(), 2)
    await fails('EINVAL', () => read(outblob))
  })
  row('opening and closing without a write does nothing', async () => {
    await write(1)
    closeSync(openSync(inblob, 'w'))
    assert.equal(await generation(), 1)
    assert.deepEqual(reportData(await read(outblob)), Buffer.from(data(1)))
  })
  row('inblob cannot be read', () => fails('EACCES', () => read(inblob)))
  row('what is written counts when it is closed, the last close wins', async () => {
    const [first, second] = [openSync(inblob, 'w'), openSync(inblob, 'w')]
    writeSync(first, data(1, 32))
    writeSync(first, data(3, 32))
    writeSync(second, data(2))
    assert.equal(await generation(), 0)
    closeSync(second)
    closeSync(first)
    assert.equal(await generation(), 2)
    const found = reportData(await read(outblob))
    assert.deepEqual(found, Buffer.concat([data(1, 32), data(3, 32)]))
  })
  row('a descriptor kept open shows the old quote, a new one the new', async () => {
    await write(1)
    const old = openSync(outblob, 'r')
    const start = new Uint8Array(700)
    readSync(old, start, 0, start.length, 0)
    await write(2)
    const again = new Uint8Array(700)
    readSync(old, again, 0, again.length, 0)
    closeSync(old)
    assert.deepEqual(again, start)
    assert.deepEqual(reportData(await read(outblob)), Buffer.from(data(2)))
  })
  row('an entry removed while open reads ENOENT', async () => {
    await write(1)
    const old = openSync(outblob, 'r')
    await transport.rmdir(entry)
    await fails('ENOENT', () => readSync(old, new Uint8Array(10), 0, 10, 0))
    closeSync(old)
  })
  for (const code of ['EIO', 'EBUSY', 'EINTR', 'ETIMEDOUT', 'ENXIO', 'ENOMEM'] as const) {
    row(`${code} of the driver reaches the reader, and the next read tries again`, async () => {
      await write(1)
      setFault('tdx', code)
      await fails(code, () => read(outblob))
      setFault('tdx', undefined)
      assert.deepEqual(reportData(await read(outblob)), Buffer.from(data(1)))
    })
  }
  row('a refused quote reads as success without bytes', async () => {
    setFault('tdx', 'empty')
    await write(1)
    assert.equal((await read(outblob)).length, 0)
  })
  row('Linux 6.12 passes on 32 KiB, later ones more', async () => {
    setFault('tdx', 'huge')
    await write(1)
    if (release().startsWith('6.12.')) await fails('EFBIG', () => read(outblob))
    else assert.ok((await read(outblob)).length > 32 * 1024)
  })
  row('a host that does not answer is ETIMEDOUT, and may answer the next time', async () => {
    setParameter('quote_timeout_s', 1)
    setFault('tdx', 'hang')
    await write(1)
    await fails('ETIMEDOUT', () => read(outblob))
    setFault('tdx', undefined)
    setParameter('quote_timeout_s', 30)
    assert.deepEqual(reportData(await read(outblob)), Buffer.from(data(1)))
  })
  row('a pending quote holds up the tree, but no other device and no timer', async () => {
    setFault('tdx', 'hang')
    await write(1)
    const ended: string[] = []
    const pending = read(outblob).then(() => ended.push('quote'))
    const behind = read(`${entry}/generation`).then(() => ended.push('generation'))
    await transport.ioctl('/dev/tdx_guest', 'tdreport', data(7))
    await new Promise((tick) => setTimeout(tick, 200))
    assert.deepEqual(ended, [])
    setFault('tdx', undefined)
    await Promise.all([pending, behind])
  })
  row('the lock that other software takes is respected both ways', async () => {
    const release = await transport.lock(inblob)
    let taken = false
    const second = transport.lock(inblob).then((done) => {
      taken = true
      return done
    })
    await new Promise((tick) => setTimeout(tick, 100))
    assert.equal(taken, false)
    await release()
    await (await second)()
  })
  test('firmware: the boot log of the kernel is the one in memory', async () => {
    const log = await transport.read('/sys/firmware/acpi/tables/data/CCEL', MAX_QUOTE)
    assert.deepEqual(log, new Uint8Array(readFileSync('/sys/firmware/acpi/tables/data/CCEL')))
    assert.equal((await transport.read('/sys/firmware/acpi/tables/CCEL', 4096)).length, 56)
  })
}
