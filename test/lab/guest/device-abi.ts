/** Spec tdx §2 and nitro §1: the device nodes and their ioctls through the daemon's transport. */
import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs'
import { decode } from 'cborg'
import { NSM, TDX_GUEST } from '../../../src/device/paths.ts'
import type { Transport } from '../../../src/device/transport.ts'
import { fails } from './errno.ts'
import { test } from './harness.ts'
import { plug, setFault, setParameter } from './stage.ts'

const text = (bytes: Uint8Array): Uint8Array => Buffer.from(bytes)
const DESCRIBE = Buffer.from('6b44657363726962654e534d', 'hex')

/** Adds the tests of /dev/tdx_guest and /dev/nsm. */
export function deviceAbi(transport: Transport): void {
  const tdReport = (data: Uint8Array) => transport.ioctl(TDX_GUEST, 'tdreport', data)
  const nsm = (request: Uint8Array) => transport.ioctl(NSM, 'nsm', request)

  test('tdx_guest: there with a TD only, for root alone', async () => {
    plug()
    await fails('ENOENT', () => transport.stat(TDX_GUEST))
    await fails('ENOENT', () => tdReport(new Uint8Array(64)))
    plug('tdx')
    assert.equal(await transport.stat(TDX_GUEST), 'character-device')
    const { mode, uid } = statSync(TDX_GUEST)
    assert.deepEqual([mode & 0o777, uid], [0o600, 0])
  })
  test('tdx_guest: a TDREPORT holds the data', async () => {
    plug('tdx')
    const data = Uint8Array.from({ length: 64 }, (_, index) => index)
    const report = await tdReport(data)
    assert.equal(report.length, 1024)
    assert.equal(report[0], 0x81)
    assert.deepEqual(text(report.subarray(128, 192)), text(data))
  })
  for (const [code, errno] of Object.entries({ EIO: 5, EBUSY: 16, ENXIO: 6, EINVAL: 22 })) {
    test(`tdx_guest: ${code} of the ioctl arrives as such`, async () => {
      plug('tdx')
      setParameter('report_errno', errno)
      try {
        await fails(code, () => tdReport(new Uint8Array(64)))
      } finally {
        setParameter('report_errno', 0)
      }
    })
  }
  test('nsm: there in an enclave only, for everybody, and a source of randomness', async () => {
    plug()
    await fails('ENOENT', () => transport.stat(NSM))
    plug('nsm')
    assert.equal(await transport.stat(NSM), 'character-device')
    const { mode, uid } = statSync(NSM)
    assert.deepEqual([mode & 0o777, uid], [0o666, 0])
    const source = readFileSync('/sys/class/misc/hw_random/rng_current', 'utf8')
    assert.equal(source.trim(), 'nsm-hwrng')
  })
  test('nsm: answers a request through the ioctl, not through read and write', async () => {
    plug('nsm')
    const { DescribeNSM } = decode(await nsm(DESCRIBE))
    assert.equal(DescribeNSM.max_pcrs, 32)
    assert.equal(DescribeNSM.digest, 'SHA384')
    const file = openSync(NSM, 'r+')
    await fails('EINVAL', () => readSync(file, new Uint8Array(10), 0, 10, null))
    await fails('EINVAL', () => writeSync(file, DESCRIBE))
    closeSync(file)
  })
  test('nsm: 4096 bytes reach the module, more or none are refused before', async () => {
    plug('nsm')
    const junk = new Uint8Array(4097).fill(0x41)
    assert.deepEqual(decode(await nsm(junk.subarray(1))), { Error: 'InvalidOperation' })
    await fails('EINVAL', () => nsm(junk))
    await fails('EINVAL', () => nsm(new Uint8Array()))
  })
  test('nsm: the longest response arrives whole, the shortest too', async () => {
    plug('nsm')
    try {
      setFault('nsm', 'huge')
      assert.equal((await nsm(DESCRIBE)).length, 12_288)
      setFault('nsm', 'empty')
      assert.equal((await nsm(DESCRIBE)).length, 0)
    } finally {
      setFault('nsm', undefined)
    }
  })
}
