import { parseQuote } from '../attest/tdx/quote.ts'
import { parseTdReport } from '../attest/tdx/tdreport.ts'
import type { CallOptions, TdxDevice, TdxRegisters } from './devices.ts'
import {
  extendRegister,
  readBootLog,
  readRegisters,
  registersOf,
  tdReport,
} from './measurements.ts'
import { TDX_GUEST, TDX_MEASUREMENTS, TSM_REPORT } from './paths.ts'
import { DeviceQueue, type QueueObserver } from './queue.ts'
import { expectReportData, REPORT_DATA_BYTES, understood } from './report-data.ts'
import { DeviceError, type Transport } from './transport.ts'
import { TsmReports } from './tsm.ts'

/** What of TDX a machine offers, as probing proved it. */
export interface TdxFacts {
  /** A report entry's provider is `tdx_guest`. */
  readonly canQuote: boolean
  /** /dev/tdx_guest answers the TDREPORT ioctl. */
  readonly canReport: boolean
  /** The measurement files are there, Linux 6.16 or later. */
  readonly canExtend: boolean
}

/** The two ways to a TDX guest's devices; a slow quote does not hold up a register. */
export type TdxQueue = 'quotes' | 'registers'

/** What a {@link Tdx} is made with; see `[attestation]` in the configuration. */
export interface TdxOptions {
  readonly facts: TdxFacts
  /** See `TsmOptions.entry`. */
  readonly tsmEntry?: string | undefined
  /** See `QueueOptions`. */
  readonly waiting?: number | undefined
  readonly deadlineMs?: number | undefined
  readonly observer?: (queue: TdxQueue) => QueueObserver
}

/** Intel TDX over any transport: every call goes through a queue, and none reaches a device twice. */
export class Tdx implements TdxDevice {
  readonly canQuote: boolean
  readonly canExtend: boolean
  readonly #canReport: boolean
  readonly #transport: Transport
  readonly #reports: TsmReports
  readonly #quotes: DeviceQueue
  readonly #registers: DeviceQueue
  /** Extends so far: a quote begun before one is not shared with who asks after it. */
  #epoch = 0

  constructor(transport: Transport, options: TdxOptions) {
    const { facts, tsmEntry, waiting, deadlineMs, observer } = options
    const queue = (name: TdxQueue) =>
      new DeviceQueue({ device: `TDX ${name}`, waiting, deadlineMs, observer: observer?.(name) })
    this.canQuote = facts.canQuote
    this.canExtend = facts.canExtend
    this.#canReport = facts.canReport
    this.#transport = transport
    this.#reports = new TsmReports(transport, { entry: tsmEntry })
    this.#quotes = queue('quotes')
    this.#registers = queue('registers')
  }

  async quote(reportData: Uint8Array, options: CallOptions = {}): Promise<Uint8Array> {
    expectReportData(reportData, 'quote', TSM_REPORT)
    if (!this.canQuote) {
      const detail = 'there is no quote provider here, see cvmd doctor'
      throw new DeviceError('ENXIO', 'quote', TSM_REPORT, { detail })
    }
    // The caller may use its buffer for something else while this waits.
    const data = new Uint8Array(reportData)
    const key = `${this.#epoch} ${Buffer.from(data).toString('hex')}`
    const work = (abandoned: AbortSignal) => this.#reports.quote(data, abandoned)
    // Others may share it; not slice, which does not copy a Buffer.
    return new Uint8Array(await this.#quotes.run(work, { ...options, key }))
  }

  async report(reportData: Uint8Array, options: CallOptions = {}): Promise<Uint8Array> {
    const data = new Uint8Array(reportData)
    const work = () => tdReport(this.#transport, data)
    return await this.#registers.run(work, options)
  }

  async registers(options: CallOptions = {}): Promise<TdxRegisters> {
    if (this.canExtend) {
      return await this.#registers.run(() => readRegisters(this.#transport), options)
    }
    const nothing = new Uint8Array(REPORT_DATA_BYTES)
    if (this.#canReport) {
      const report = await this.report(nothing, options)
      return registersOf(understood(() => parseTdReport(report), 'ioctl', TDX_GUEST))
    }
    return registersOf(parseQuote(await this.quote(nothing, options)))
  }

  async extend(index: 2 | 3, digest: Uint8Array, options: CallOptions = {}): Promise<void> {
    if (!this.canExtend) {
      const detail = 'registers can be extended on Linux 6.16 or later (CONFIG_TSM_MEASUREMENTS)'
      throw new DeviceError('ENOTSUP', 'extend', TDX_MEASUREMENTS, { detail })
    }
    const bytes = new Uint8Array(digest)
    const work = async () => {
      try {
        await extendRegister(this.#transport, index, bytes)
      } finally {
        this.#epoch++
      }
    }
    await this.#registers.run(work, options)
  }

  async bootLog(): Promise<Uint8Array | undefined> {
    return await this.#registers.run(() => readBootLog(this.#transport))
  }

  /**
   * Removes report entries that a crashed process left behind; to be called once at start.
   *
   * @returns The names removed.
   * @throws {DeviceError | QueueError}
   */
  async removeLeftovers(): Promise<readonly string[]> {
    if (!this.canQuote) return []
    return await this.#quotes.run(() => this.#reports.removeLeftovers())
  }
}
