import { parseQuote } from '../../src/attest/tdx/quote.ts'
import type { TdBody } from '../../src/attest/tdx/td-body.ts'
import type { Attester } from '../../src/attester/attester.ts'
import type { EvidenceMetrics } from '../../src/attester/evidence-metrics.ts'
import { deviceProblem } from '../../src/attester/problems.ts'
import { wrongPlatform } from '../../src/attester/wrong-platform.ts'
import { quoteEventLog } from '../../src/compat/prpc/event-log.ts'
import type { CallOptions } from '../../src/device/devices.ts'
import { ApiError } from '../../src/errors.ts'

/** A quote with what its answers tell beside it. */
export interface MadeQuote {
  readonly quote: Uint8Array
  /** What the quote itself says of the machine. */
  readonly td: TdBody
  /** JSON text. */
  readonly eventLog: string
}

/** Makes quotes, and trusts none that it cannot read or that is about something else. */
export class Quotes {
  readonly #attester: Attester
  readonly #metrics: EvidenceMetrics

  constructor(attester: Attester, metrics: EvidenceMetrics) {
    this.#attester = attester
    this.#metrics = metrics
  }

  /**
   * A quote over exactly 64 bytes.
   *
   * @throws {ApiError} As `deviceProblem` says; 502 `QUOTE_UNUSABLE`.
   */
  async make(reportData: Uint8Array, options: CallOptions): Promise<MadeQuote> {
    try {
      return await this.#metrics.observe(this.#made(reportData, options))
    } catch (thrown) {
      throw deviceProblem(thrown)
    }
  }

  async #made(reportData: Uint8Array, options: CallOptions): Promise<MadeQuote> {
    const isTdx = this.#attester.platform === 'tdx'
    const evidence = isTdx ? await this.#attester.evidence(reportData, options) : undefined
    if (evidence?.platform !== 'tdx') throw wrongPlatform(this.#attester, 'make a TDX quote')
    const { quote, eventLog } = evidence
    const td = readTd(quote)
    if (Buffer.compare(td.reportData, reportData) !== 0) {
      throw unusable('it is about other report data than was asked for')
    }
    return { quote, td, eventLog: quoteEventLog(eventLog) }
  }
}

function readTd(quote: Uint8Array): TdBody {
  try {
    return parseQuote(quote)
  } catch (cause) {
    throw unusable((cause as Error).message, cause)
  }
}

function unusable(why: string, cause?: unknown): ApiError {
  return new ApiError(502, 'QUOTE_UNUSABLE', `Cannot use the quote of this machine: ${why}`, {
    cause,
  })
}
