import { errnoOf } from '../errors.ts'
import type { PluginMetrics } from '../metrics.ts'

/**
 * Figures of the evidence one plugin makes: how often that works, and how long ago it last did. How
 * long it takes is measured per device.
 */
export class EvidenceMetrics {
  readonly #count: (outcome: string) => void
  /** When evidence was last made, as `performance.now()`. */
  #madeAt: number | undefined

  /**
   * @param prefix `cvmd_tdx_quote` gives `cvmd_tdx_quotes_total` and `cvmd_tdx_quote_age_seconds`.
   * @param what For the help texts: `quote`.
   */
  constructor(metrics: PluginMetrics, prefix: `cvmd_${string}`, what: string) {
    const total = metrics.counter(`${prefix}s_total`, `Attempts to make a ${what}, by outcome.`)
    this.#count = (outcome) => total.inc({ outcome })
    metrics.gauge(
      `${prefix}_age_seconds`,
      `Time since the last good ${what}; none before it.`,
      () => (this.#madeAt === undefined ? [] : [[{}, (performance.now() - this.#madeAt) / 1000]]),
    )
  }

  /** Counts how an attempt ends: `made`, or the code of the device's error. */
  async observe<T>(attempt: Promise<T>): Promise<T> {
    try {
      const made = await attempt
      this.#madeAt = performance.now()
      this.#count('made')
      return made
    } catch (thrown) {
      this.#count(errnoOf(thrown) ?? 'failed')
      throw thrown
    }
  }
}
