import type { ByteReader } from '../byte-reader.ts'

/** A TD's registers and attributes, as a quote's body holds them (spec tdx §6). */
export interface TdBody {
  /** 16 bytes: [0] module ISVSVN, [1] module major version, [2] microcode. */
  readonly teeTcbSvn: Uint8Array
  /** 48 bytes: the TDX module. */
  readonly mrSeam: Uint8Array
  /** 48 bytes: zero for Intel's modules. */
  readonly mrSignerSeam: Uint8Array
  /** 8 bytes. */
  readonly seamAttributes: Uint8Array
  /** 8 bytes; see `decodeTdAttributes`. */
  readonly tdAttributes: Uint8Array
  /** 8 bytes: the extended CPU state the TD may use. */
  readonly xfam: Uint8Array
  /** 48 bytes: the initial content of the TD. */
  readonly mrtd: Uint8Array
  /** 48 bytes each: set by whoever started the TD. */
  readonly mrConfigId: Uint8Array
  readonly mrOwner: Uint8Array
  readonly mrOwnerConfig: Uint8Array
  /** 48 bytes each: RTMR0 to RTMR3. */
  readonly rtmr: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array]
  /** 64 bytes chosen inside the TD. */
  readonly reportData: Uint8Array
  /** TDX 1.5, 16 bytes: SVN of the module now in memory, after an update under a running TD. */
  readonly teeTcbSvn2?: Uint8Array
  /** TDX 1.5, 48 bytes: hash of the service TDs bound to this one; zero for none. */
  readonly mrServiceTd?: Uint8Array
}

/** Length of a body without, and with, what TDX 1.5 adds. */
export const TD_BODY_10_BYTES = 584
export const TD_BODY_15_BYTES = 648

/** Takes a body of one of the two lengths. */
export function readTdBody(reader: ByteReader, is15: boolean): TdBody {
  const report = {
    teeTcbSvn: reader.take(16),
    mrSeam: reader.take(48),
    mrSignerSeam: reader.take(48),
    seamAttributes: reader.take(8),
    tdAttributes: reader.take(8),
    xfam: reader.take(8),
    mrtd: reader.take(48),
    mrConfigId: reader.take(48),
    mrOwner: reader.take(48),
    mrOwnerConfig: reader.take(48),
    rtmr: [reader.take(48), reader.take(48), reader.take(48), reader.take(48)],
    reportData: reader.take(64),
  } as const
  return is15 ? { ...report, teeTcbSvn2: reader.take(16), mrServiceTd: reader.take(48) } : report
}
