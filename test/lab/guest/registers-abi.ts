/** Spec tdx §4: the kernel's own measurement files, on kernels that have them (6.16 or later). */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { release } from 'node:os'
import { parseQuote } from '../../../src/attest/tdx/quote.ts'
import { parseTdReport } from '../../../src/attest/tdx/tdreport.ts'
import { TDX_GUEST, TDX_MEASUREMENTS } from '../../../src/device/paths.ts'
import type { Transport } from '../../../src/device/transport.ts'
import { json, startCvmd, stopCvmd } from './daemon.ts'
import { fails } from './errno.ts'
import { test } from './harness.ts'
import { plug } from './stage.ts'

const FILES = [
  'mrconfigid',
  'mrowner',
  'mrownerconfig',
  'mrtd:sha384',
  'rtmr0:sha384',
  'rtmr1:sha384',
  'rtmr2:sha384',
  'rtmr3:sha384',
]

/** The daemon's own register, and one for trying things out. */
const RTMR3 = `${TDX_MEASUREMENTS}/rtmr3:sha384`
const RTMR2 = `${TDX_MEASUREMENTS}/rtmr2:sha384`

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

const extended = (register: Uint8Array, digest: Uint8Array): string =>
  createHash('sha384').update(register).update(digest).digest('hex')

/** Adds the tests of the measurement files, or of their absence. */
export function registersAbi(transport: Transport): void {
  if (release().startsWith('6.12.')) {
    test('registers: Linux 6.12 has no files for them', async () => {
      plug('tdx')
      await fails('ENOENT', () => transport.stat(TDX_MEASUREMENTS))
    })
    return
  }
  const read = (path: string) => transport.read(path, 48)
  const digest = (length: number) => new Uint8Array(length).fill(0x5c)

  test('registers: the files are those of a TDREPORT', async () => {
    plug('tdx')
    assert.deepEqual(await transport.list(TDX_MEASUREMENTS), FILES)
    const td = parseTdReport(await transport.ioctl(TDX_GUEST, 'tdreport', new Uint8Array(64)))
    const values = [td.mrConfigId, td.mrOwner, td.mrOwnerConfig, td.mrtd, ...td.rtmr]
    for (const [index, file] of FILES.entries()) {
      const found = await read(`${TDX_MEASUREMENTS}/${file}`)
      assert.equal(hex(found), hex(values[index] as Uint8Array), file)
    }
  })
  test('registers: an event that is emitted is in the next quote and its log', async () => {
    const before = await read(RTMR3)
    const daemon = await startCvmd('[plugins.guest]\nemit_event = true\n')
    await json(200, daemon.guest('/EmitEvent?event=lab&payload=0102'))
    const answer = await json<{ quote: string; event_log: string; rtmr3: string }>(
      200,
      daemon.guest('/GetQuote'),
    )
    const [entry] = JSON.parse(answer.event_log).slice(-1)
    assert.deepEqual([entry.imr, entry.event, entry.event_payload], [3, 'lab', '0102'])
    const expected = extended(before, Buffer.from(entry.digest, 'hex'))
    const quote = parseQuote(new Uint8Array(Buffer.from(answer.quote, 'base64')))
    assert.deepEqual([answer.rtmr3, hex(quote.rtmr[3])], [expected, expected])
    await stopCvmd(daemon)
  })
  test('registers: a write of 48 bytes extends, of fewer it does not', async () => {
    const before = await read(RTMR2)
    await fails('EINVAL', () => transport.write(RTMR2, digest(47)))
    assert.equal(hex(await read(RTMR2)), hex(before))
    await transport.write(RTMR2, digest(48))
    assert.equal(hex(await read(RTMR2)), extended(before, digest(48)))
  })
  test('registers: a write of more extends with its start, and is an error', async () => {
    const before = await read(RTMR2)
    await fails('EIO', () => transport.write(RTMR2, digest(49)))
    assert.equal(hex(await read(RTMR2)), extended(before, digest(48)))
  })
  test('registers: MRTD is not for writing', async () => {
    const write = () => transport.write(`${TDX_MEASUREMENTS}/mrtd:sha384`, digest(48))
    await fails('EACCES', write)
  })
}
