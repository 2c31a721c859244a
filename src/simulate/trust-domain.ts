import { createHash, createHmac, randomBytes } from 'node:crypto'
import { markedHash } from './marks.ts'
import { PLATFORM } from './tdx-platform.ts'

/** Software-defined registers, 48 bytes each; zero unless given. */
export interface TrustDomainOptions {
  readonly mrConfigId?: Uint8Array | undefined
  readonly mrOwner?: Uint8Array | undefined
  readonly mrOwnerConfig?: Uint8Array | undefined
}

/** REPORTTYPE (spec tdx §5): TDX, subtype 0, version 1 for TDX 1.5, reserved. */
const REPORT_TYPE = Uint8Array.of(0x81, 0, 1, 0)
/** Which fields of TEE_TCB_INFO hold something, as a TDX 1.5 module reports it. */
const VALID = Uint8Array.of(0xff, 1, 3, 0, 0, 0, 0, 0)
/** SEPT_VE_DISABLE alone: no debug. */
const ATTRIBUTES = Uint8Array.of(0, 0, 0, 0x10, 0, 0, 0, 0)
const XFAM = Buffer.from('e742060000000000', 'hex')

/** A trust domain that was just started: its measurements, and reports over them. */
export class TrustDomain {
  readonly mrtd = markedHash('sha384', 'mrtd')
  readonly mrConfigId: Uint8Array
  readonly mrOwner: Uint8Array
  readonly mrOwnerConfig: Uint8Array
  /** The four run-time registers, 48 bytes each, zero at start. */
  readonly #rtmr = [zeros(48), zeros(48), zeros(48), zeros(48)]
  /** What only the processor knows. */
  readonly #macKey = randomBytes(32)

  /** @throws {RangeError} For a register of another length. */
  constructor(options: TrustDomainOptions = {}) {
    this.mrConfigId = register('MRCONFIGID', options.mrConfigId)
    this.mrOwner = register('MROWNER', options.mrOwner)
    this.mrOwnerConfig = register('MROWNERCONFIG', options.mrOwnerConfig)
  }

  /** The value of a run-time register, 48 bytes. */
  rtmr(index: RtmrIndex): Uint8Array {
    return this.#rtmr[index] as Uint8Array
  }

  /** `RTMR := SHA384(RTMR || digest)`. */
  extend(index: RtmrIndex, digest: Uint8Array): void {
    this.#rtmr[index] = createHash('sha384').update(this.rtmr(index)).update(digest).digest()
  }

  /** A TDREPORT (spec tdx §5), 1024 bytes, over 64 bytes of report data. */
  report(reportData: Uint8Array): Uint8Array {
    const tcbInfo = this.#tcbInfo()
    const tdInfo = this.#tdInfo()
    const report = Buffer.alloc(1024)
    report.set(REPORT_TYPE, 0)
    report.set(PLATFORM.componentSvns, 16) // CPUSVN
    report.set(sha384(tcbInfo), 32)
    report.set(sha384(tdInfo), 80)
    report.set(reportData, 128)
    report.set(createHmac('sha256', this.#macKey).update(report.subarray(0, 224)).digest(), 224)
    report.set(tcbInfo, 256)
    report.set(tdInfo, 512)
    return report
  }

  /** TEE_TCB_INFO, 239 bytes; the signer and attributes of the module stay zero. */
  #tcbInfo(): Uint8Array {
    const info = Buffer.alloc(239)
    info.set(VALID, 0)
    info.set(PLATFORM.teeTcbSvn, 8)
    info.set(PLATFORM.mrSeam, 24)
    info.set(PLATFORM.teeTcbSvn, 128) // TEE_TCB_SVN2: not updated since launch
    return info
  }

  /** TDINFO, 512 bytes. */
  #tdInfo(): Uint8Array {
    const registers = [this.mrtd, this.mrConfigId, this.mrOwner, this.mrOwnerConfig, ...this.#rtmr]
    const info = Buffer.alloc(512)
    info.set(Buffer.concat([ATTRIBUTES, XFAM, ...registers]))
    return info
  }
}

export type RtmrIndex = 0 | 1 | 2 | 3

function register(name: string, value: Uint8Array = zeros(48)): Uint8Array {
  if (value.byteLength === 48) return value
  throw new RangeError(`Cannot set ${name}: ${value.byteLength} bytes, expected 48`)
}

const zeros = (length: number): Uint8Array => new Uint8Array(length)
const sha384 = (bytes: Uint8Array): Uint8Array => createHash('sha384').update(bytes).digest()
