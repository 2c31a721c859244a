import type { Attester } from '../../src/attester/attester.ts'
import type { EvidenceMetrics } from '../../src/attester/evidence-metrics.ts'
import { deviceProblem } from '../../src/attester/problems.ts'
import { wrongPlatform } from '../../src/attester/wrong-platform.ts'
import type { CallOptions, NsmDevice, NsmFields } from '../../src/device/devices.ts'
import { ApiError, messageOf } from '../../src/errors.ts'
import type { EventSink } from '../../src/events/sink.ts'

/** Documents name registers 0 to 31 and no other (spec nitro §3). */
const MAX_PCRS = 32

/** The security module with what the plugin adds: figures, events, and errors in words of HTTP. */
export class Module {
  readonly #attester: Attester
  readonly #metrics: EvidenceMetrics
  readonly #events: EventSink

  constructor(attester: Attester, metrics: EvidenceMetrics, events: EventSink) {
    this.#attester = attester
    this.#metrics = metrics
    this.#events = events
  }

  /** An attestation document. */
  attest(fields: NsmFields, options: CallOptions): Promise<Uint8Array> {
    return this.ask('make an attestation document', (nsm) =>
      this.#metrics.observe(nsm.attest(fields, options)),
    )
  }

  /** Every register with its index, one call each. */
  async pcrs(options: CallOptions) {
    const { maxPcrs } = await this.ask('describe the module', (nsm) => nsm.describe(options))
    const pcrs = []
    for (let index = 0; index < Math.min(maxPcrs, MAX_PCRS); index++) {
      const state = await this.ask('read a PCR', (nsm) => nsm.describePcr(index, options))
      pcrs.push({ index, state })
    }
    return pcrs
  }

  /**
   * Changes what cannot be changed back, and records it. A failure of the device is recorded, too:
   * a call that outlived its deadline may have done its work.
   *
   * @param what `extend PCR 16`, for errors and events.
   */
  async change<T>(what: string, call: (nsm: NsmDevice) => Promise<T>, done: (result: T) => string) {
    try {
      const result = await this.ask(what, call)
      this.#events.append(done(result))
      return result
    } catch (thrown) {
      if (!(thrown instanceof ApiError) || thrown.status >= 500) {
        const message = `could not ${what}, or did and was not told: ${messageOf(thrown)}`
        this.#events.append(message, { level: 'warn' })
      }
      throw thrown
    }
  }

  /** @throws {ApiError} As `deviceProblem` says; 400 `WRONG_PLATFORM`. */
  async ask<T>(what: string, question: (nsm: NsmDevice) => Promise<T>): Promise<T> {
    if (!this.#attester.nsm) throw wrongPlatform(this.#attester, what)
    try {
      return await question(this.#attester.nsm)
    } catch (thrown) {
      throw deviceProblem(thrown)
    }
  }
}
