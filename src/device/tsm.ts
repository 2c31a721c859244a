import { parseQuote } from '../attest/tdx/quote.ts'
import { errnoOf } from '../errors.ts'
import { TSM_REPORT } from './paths.ts'
import { expectBinding, expectReportData, understood } from './report-data.ts'
import { retriedOnce } from './retry.ts'
import { DeviceError, type Transport } from './transport.ts'
import { TsmEntries } from './tsm-entries.ts'

/** What `provider` reads on TDX; `sev_guest` and `arm_cca_guest` are its siblings. */
export const TDX_PROVIDER = 'tdx_guest'

/** The core's own limit in Linux 7.2; 6.12 stops at 32 KiB. */
const MAX_QUOTE_BYTES = 16 * 1024 * 1024

/** Bound of the text attributes; the kernel gives at most a page. */
const MAX_TEXT_BYTES = 4096

/** How quotes are asked for. */
export interface TsmOptions {
  /**
   * Name of one entry shared with other software under the locking protocol of Intel's and
   * dstack's libraries, `com.intel.dcap`. Default: a new private entry for each quote.
   */
  readonly entry?: string | undefined
}

/**
 * Quotes through configfs-tsm (Documentation/ABI/testing/configfs-tsm-report, spec tdx §3). One
 * call at a time: the queue before it sees to that.
 */
export class TsmReports {
  readonly #transport: Transport
  /** Path of the shared entry. */
  readonly #shared: string | undefined
  readonly #entries: TsmEntries
  #providerKnown = false

  constructor(transport: Transport, { entry }: TsmOptions = {}) {
    this.#transport = transport
    this.#shared = entry === undefined ? undefined : `${TSM_REPORT}/${entry}`
    this.#entries = new TsmEntries(transport)
  }

  /**
   * Makes a quote over exactly 64 bytes. What the host's buffer holds behind the quote is kept.
   *
   * @param abandoned Nobody waits any more: the next step is not taken, the entry is removed, and
   *   the promise rejects with the signal's reason.
   * @throws {DeviceError} The kernel's errno; beside it `EINVAL` for another length, `EIO` for an
   *   empty report, `ENXIO` for another provider, and three of our own: `EGENERATION` when somebody
   *   else used the entry meanwhile, `EBADEVIDENCE` for what is no quote, `EREPORTDATA` for a
   *   quote over other data.
   */
  async quote(reportData: Uint8Array, abandoned?: AbortSignal): Promise<Uint8Array> {
    // A write of another length is taken by the kernel, and breaks the entry.
    expectReportData(reportData, 'quote', TSM_REPORT)
    const shared = this.#shared
    const attempt = () =>
      shared === undefined
        ? this.#inOwnEntry(reportData, abandoned)
        : this.#inSharedEntry(shared, reportData, abandoned)
    return await retriedOnce(attempt, abandoned)
  }

  /** See {@link TsmEntries.removeLeftovers}. */
  removeLeftovers(): Promise<readonly string[]> {
    return this.#entries.removeLeftovers()
  }

  async #inOwnEntry(reportData: Uint8Array, abandoned?: AbortSignal): Promise<Uint8Array> {
    const entry = await this.#entries.make()
    try {
      return await this.#report(entry, reportData, abandoned)
    } finally {
      await this.#entries.remove(entry)
    }
  }

  /** The entry is made when it is not there and never removed: others may be using it. */
  async #inSharedEntry(
    entry: string,
    reportData: Uint8Array,
    abandoned?: AbortSignal,
  ): Promise<Uint8Array> {
    await this.#transport.mkdir(entry).catch((error) => {
      if (errnoOf(error) !== 'EEXIST') throw error
    })
    const release = await this.#transport.lock(`${entry}/inblob`)
    try {
      return await this.#report(entry, reportData, abandoned)
    } finally {
      await release()
    }
  }

  async #report(
    entry: string,
    reportData: Uint8Array,
    abandoned?: AbortSignal,
  ): Promise<Uint8Array> {
    await this.#expectProvider(entry)
    const outblob = `${entry}/outblob`
    const generation = (await this.#generation(entry)) + 1n
    abandoned?.throwIfAborted()
    await this.#transport.write(`${entry}/inblob`, reportData)
    await this.#expectGeneration(entry, generation)
    abandoned?.throwIfAborted()
    const quote = await this.#transport.read(outblob, MAX_QUOTE_BYTES)
    await this.#expectGeneration(entry, generation)
    if (quote.length === 0) {
      // Linux 6.12 does not look at the host's status, so a refusal reads as success.
      const detail = 'the report is empty: the quote service of the host refused or does not run'
      throw new DeviceError('EIO', 'read', outblob, { detail })
    }
    const found = understood(() => parseQuote(quote), 'read', outblob)
    expectBinding(found.reportData, reportData, 'read', outblob)
    return quote
  }

  /** A provider comes and goes with its module; what it is does not change under us. */
  async #expectProvider(entry: string): Promise<void> {
    if (this.#providerKnown) return
    const provider = await readProvider(this.#transport, entry)
    if (provider !== TDX_PROVIDER) {
      const detail = `the provider is "${provider}", expected "${TDX_PROVIDER}"`
      throw new DeviceError('ENXIO', 'read', `${entry}/provider`, { detail })
    }
    this.#providerKnown = true
  }

  async #generation(entry: string): Promise<bigint> {
    const path = `${entry}/generation`
    const text = await readText(this.#transport, path)
    if (/^\d{1,20}$/.test(text)) return BigInt(text)
    const detail = `expected a decimal number, it is "${text.slice(0, 32)}"`
    throw new DeviceError('EGENERATION', 'read', path, { detail })
  }

  async #expectGeneration(entry: string, expected: bigint): Promise<void> {
    const found = await this.#generation(entry)
    if (found === expected) return
    const detail = `it is ${found}, expected ${expected}: other software uses this entry`
    throw new DeviceError('EGENERATION', 'read', `${entry}/generation`, { detail })
  }
}

/**
 * Who makes the reports of an entry: `tdx_guest`, `sev_guest`, …
 *
 * @throws {DeviceError}
 */
export function readProvider(transport: Transport, entry: string): Promise<string> {
  return readText(transport, `${entry}/provider`)
}

async function readText(transport: Transport, path: string): Promise<string> {
  return new TextDecoder().decode(await transport.read(path, MAX_TEXT_BYTES)).trim()
}
