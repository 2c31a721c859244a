import type { TdBody } from '../attest/tdx/td-body.ts'
import { TDREPORT_BYTES } from '../attest/tdx/tdreport.ts'
import { errnoOf } from '../errors.ts'
import type { TdxRegisters } from './devices.ts'
import { CCEL_LOG, CCEL_TABLE, TDX_GUEST, TDX_MEASUREMENTS } from './paths.ts'
import { expectBinding, expectReportData, REPORT_DATA_BYTES } from './report-data.ts'
import { retriedOnce } from './retry.ts'
import { DeviceError, type Transport } from './transport.ts'

/** Length of MRTD, of each RTMR and of a digest to extend one with: SHA-384. */
export const REGISTER_BYTES = 48

/** Where a TDREPORT repeats its report data (spec tdx §5). */
const TDREPORT_REPORT_DATA = 128

/** The largest log area firmware is known to give (spec tdx §7). */
const MAX_LOG_BYTES = 1024 * 1024
const MAX_TABLE_BYTES = 4096
/** CC type of the CCEL table: 1 is SEV, 2 is TDX. */
const CC_TYPE_OFFSET = 36
const CC_TYPE_TDX = 2

/**
 * Reads all registers from the measurement files (spec tdx §4, Linux 6.16 or later).
 *
 * @throws {DeviceError} `ENOENT` on older kernels.
 */
export async function readRegisters(transport: Transport): Promise<TdxRegisters> {
  const read = (file: string) => readRegister(transport, file)
  return {
    mrtd: await read('mrtd:sha384'),
    mrConfigId: await read('mrconfigid'),
    mrOwner: await read('mrowner'),
    mrOwnerConfig: await read('mrownerconfig'),
    rtmr: [
      await read('rtmr0:sha384'),
      await read('rtmr1:sha384'),
      await read('rtmr2:sha384'),
      await read('rtmr3:sha384'),
    ],
  }
}

/**
 * Reads one register: `mrtd:sha384`, `rtmr3:sha384`, `mrconfigid`, …
 *
 * @returns 48 bytes.
 */
export async function readRegister(transport: Transport, file: string): Promise<Uint8Array> {
  const path = `${TDX_MEASUREMENTS}/${file}`
  const value = await retriedOnce(() => transport.read(path, REGISTER_BYTES))
  expectLength(value, REGISTER_BYTES, 'read', path)
  return value
}

/**
 * Extends an RTMR by exactly one write of 48 bytes. It is never repeated: whoever gets an error
 * reads the register to learn whether it took effect.
 *
 * @throws {DeviceError} `EINVAL` for another length or register, before the file is opened: the
 *   kernel would extend with the first 48 bytes of more, and only then complain.
 */
export async function extendRegister(
  transport: Transport,
  index: number,
  digest: Uint8Array,
): Promise<void> {
  const path = `${TDX_MEASUREMENTS}/rtmr${index}:sha384`
  if (index !== 2 && index !== 3) {
    const detail = 'RTMR0 and RTMR1 belong to the firmware, expected 2 or 3'
    throw new DeviceError('EINVAL', 'extend', path, { detail })
  }
  expectLength(digest, REGISTER_BYTES, 'extend', path, 'EINVAL')
  await transport.write(path, digest)
}

/**
 * The TDREPORT over exactly 64 bytes, 1024 bytes (spec tdx §2, §5).
 *
 * @throws {DeviceError} `ENOTSUP` where the transport makes no ioctl, `EREPORTDATA` for a report
 *   over other data.
 */
export async function tdReport(transport: Transport, reportData: Uint8Array): Promise<Uint8Array> {
  expectReportData(reportData, 'ioctl', TDX_GUEST)
  const report = await retriedOnce(() => transport.ioctl(TDX_GUEST, 'tdreport', reportData))
  expectLength(report, TDREPORT_BYTES, 'ioctl', TDX_GUEST)
  const end = TDREPORT_REPORT_DATA + REPORT_DATA_BYTES
  const found = report.subarray(TDREPORT_REPORT_DATA, end)
  expectBinding(found, reportData, 'ioctl', TDX_GUEST)
  return report
}

/** The registers of a TDREPORT or a quote, for kernels without measurement files. */
export function registersOf(td: TdBody): TdxRegisters {
  const { mrtd, mrConfigId, mrOwner, mrOwnerConfig, rtmr } = td
  return { mrtd, mrConfigId, mrOwner, mrOwnerConfig, rtmr }
}

/**
 * The boot event log with its padding (spec tdx §7).
 *
 * @returns Undefined where the firmware left none for TDX.
 * @throws {DeviceError} `EFBIG` above 1 MiB.
 */
export async function readBootLog(transport: Transport): Promise<Uint8Array | undefined> {
  try {
    const table = await transport.read(CCEL_TABLE, MAX_TABLE_BYTES)
    const signature = new TextDecoder().decode(table.subarray(0, 4))
    if (signature !== 'CCEL' || table[CC_TYPE_OFFSET] !== CC_TYPE_TDX) return undefined
    return await transport.read(CCEL_LOG, MAX_LOG_BYTES)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

function expectLength(
  bytes: Uint8Array,
  expected: number,
  operation: string,
  path: string,
  code = 'EIO',
): void {
  if (bytes.length === expected) return
  const detail = `${bytes.length} bytes, expected ${expected}`
  throw new DeviceError(code, operation, path, { detail })
}
