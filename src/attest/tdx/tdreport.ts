import { EvidenceError } from '../evidence-error.ts'
import type { TdBody } from './td-body.ts'

/**
 * A TDREPORT: what the CPU says of a TD, to software on the same machine only (spec tdx §5). The
 * fields of TDX 1.5 are always there, and zero where the module is older.
 */
export interface CpuReport extends Required<TdBody> {
  /** 0x81 for TDX. */
  readonly type: number
  readonly subtype: number
  /** 0: TDX 1.0, 1: TDX 1.5. */
  readonly version: number
  /** 16 bytes. */
  readonly cpuSvn: Uint8Array
  /** SHA-384 of TEE_TCB_INFO (bytes 256 to 494). */
  readonly teeTcbInfoHash: Uint8Array
  /** SHA-384 of TDINFO (the last 512 bytes). */
  readonly teeInfoHash: Uint8Array
  /** 32 bytes, under a key only the CPU knows. */
  readonly mac: Uint8Array
  /** 8 bytes: which fields of TEE_TCB_INFO count. */
  readonly teeTcbInfoValid: Uint8Array
}

/** Length of a TDREPORT. */
export const TDREPORT_BYTES = 1024

/**
 * Takes a TDREPORT apart. Neither its type nor its MAC is judged: only the CPU can check the MAC.
 *
 * @throws {EvidenceError} `TDREPORT_LENGTH`.
 */
export function parseTdReport(bytes: Uint8Array): CpuReport {
  if (bytes.length !== TDREPORT_BYTES) {
    throw new EvidenceError(
      'TDREPORT_LENGTH',
      `Cannot read TDREPORT: ${bytes.length} bytes, expected ${TDREPORT_BYTES}`,
    )
  }
  const [type = 0, subtype = 0, version = 0] = bytes
  const field = (offset: number, length: number) => bytes.subarray(offset, offset + length)
  return {
    type,
    subtype,
    version,
    cpuSvn: field(16, 16),
    teeTcbInfoHash: field(32, 48),
    teeInfoHash: field(80, 48),
    reportData: field(128, 64),
    mac: field(224, 32),
    teeTcbInfoValid: field(256, 8),
    teeTcbSvn: field(264, 16),
    mrSeam: field(280, 48),
    mrSignerSeam: field(328, 48),
    seamAttributes: field(376, 8),
    teeTcbSvn2: field(384, 16),
    tdAttributes: field(512, 8),
    xfam: field(520, 8),
    mrtd: field(528, 48),
    mrConfigId: field(576, 48),
    mrOwner: field(624, 48),
    mrOwnerConfig: field(672, 48),
    rtmr: [field(720, 48), field(768, 48), field(816, 48), field(864, 48)],
    mrServiceTd: field(912, 48),
  }
}
