import { EvidenceError } from '../attest/evidence-error.ts'
import { sameBytes } from '../attest/hex.ts'
import { DeviceError } from './transport.ts'

/** Length of the report data of a TDREPORT and of a quote. */
export const REPORT_DATA_BYTES = 64

/**
 * Refuses report data before any device sees it.
 *
 * @throws {DeviceError} `EINVAL` for anything but 64 bytes.
 */
export function expectReportData(bytes: Uint8Array, operation: string, path: string): void {
  if (bytes.length === REPORT_DATA_BYTES) return
  const detail = `report data has ${bytes.length} bytes, expected ${REPORT_DATA_BYTES}`
  throw new DeviceError('EINVAL', operation, path, { detail })
}

/**
 * Refuses evidence that is not over the data asked for.
 *
 * @throws {DeviceError} `EREPORTDATA`, a code of our own.
 */
export function expectBinding(
  found: Uint8Array,
  asked: Uint8Array,
  operation: string,
  path: string,
): void {
  if (sameBytes(found, asked)) return
  const detail = 'it is over other report data than was asked for'
  throw new DeviceError('EREPORTDATA', operation, path, { detail })
}

/**
 * Reads what a device made.
 *
 * @throws {DeviceError} `EBADEVIDENCE`, a code of our own, when it cannot be read.
 */
export function understood<T>(parse: () => T, operation: string, path: string): T {
  try {
    return parse()
  } catch (cause) {
    if (!(cause instanceof EvidenceError)) throw cause
    throw new DeviceError('EBADEVIDENCE', operation, path, { cause, detail: cause.message })
  }
}
