import { within } from '../../../src/deadline.ts'
import { messageOf } from '../../../src/errors.ts'
import { WORKLOAD_TYPES, type WorkloadType } from '../model.ts'
import { withoutFolders } from './discreet.ts'
import type { Driver, DriverProbe } from './driver.ts'

export interface DriverBoardOptions {
  /** For each type the drivers that may run it, the one that is liked best first. */
  readonly candidates: Iterable<Driver>
  /** Told of what became able, of a warning, or of why a type is not offered. */
  readonly told: (news: BoardNews) => void
  /** Between two looks for what was missing; default 60 s. */
  readonly againMs?: number
  /** What a driver has to say whether it is able; default 20 s. */
  readonly probeMs?: number
}

export interface BoardNews {
  readonly type: WorkloadType
  readonly driver: string
  readonly probe: DriverProbe
}

const AGAIN_MS = 60_000
const PROBE_MS = 20_000

/**
 * Which driver runs which type of workload on this host: the first of each type that is able (spec
 * §12.2). What is missing is looked for again, such as an engine that comes later; what was chosen
 * stays.
 */
export class DriverBoard {
  readonly #candidates: ReadonlyMap<WorkloadType, readonly Driver[]>
  readonly #options: DriverBoardOptions
  readonly #chosen = new Map<WorkloadType, Driver>()
  /** Driver → reason that was told last. */
  readonly #missing = new Map<Driver, string>()
  readonly #abort = new AbortController()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(options: DriverBoardOptions) {
    this.#options = options
    const all = [...options.candidates]
    this.#candidates = new Map(
      WORKLOAD_TYPES.map((type) => [type, all.filter((driver) => driver.type === type)]),
    )
  }

  /** Grows while it looks. */
  get drivers(): ReadonlyMap<WorkloadType, Driver> {
    return this.#chosen
  }

  /** Types that are offered (§9.7). */
  features(): readonly WorkloadType[] {
    return WORKLOAD_TYPES.filter((type) => this.#chosen.has(type))
  }

  /**
   * What is missing for a type, in words for tenants; undefined when it is offered, or no driver would
   * ever run it.
   */
  lacks(type: WorkloadType): string | undefined {
    const drivers = this.#candidates.get(type) ?? []
    if (drivers.length === 0 || this.#chosen.has(type)) return undefined
    const why = drivers.map((driver) => this.#missing.get(driver) ?? 'not looked for yet')
    return withoutFolders(why.join('; '))
  }

  /** Looks for everything once, then again for what is missing until it is stopped. */
  async start(): Promise<void> {
    await this.#look()
    this.#plan()
  }

  async stop(): Promise<void> {
    this.#abort.abort(new Error('the drivers are stopped'))
    clearTimeout(this.#timer)
    const all = [...this.#candidates.values()].flat()
    await Promise.all(all.map((driver) => driver.stop?.().catch(() => undefined)))
  }

  #plan(): void {
    const complete = [...this.#candidates].every(
      ([type, drivers]) => drivers.length === 0 || this.#chosen.has(type),
    )
    if (complete || this.#abort.signal.aborted) return
    this.#timer = setTimeout(async () => {
      await this.#look()
      this.#plan()
    }, this.#options.againMs ?? AGAIN_MS)
    this.#timer.unref?.()
  }

  async #look(): Promise<void> {
    await Promise.all(
      [...this.#candidates].map(async ([type, drivers]) => {
        if (!this.#chosen.has(type)) await this.#choose(type, drivers)
      }),
    )
  }

  async #choose(type: WorkloadType, drivers: readonly Driver[]): Promise<void> {
    for (const driver of drivers) {
      const probe = await this.#probe(driver)
      if (this.#abort.signal.aborted) return
      const news = { type, driver: driver.name, probe }
      if (probe.able) {
        this.#chosen.set(type, driver)
        this.#options.told(news)
        return
      }
      if (this.#missing.get(driver) !== probe.reason) this.#options.told(news)
      this.#missing.set(driver, probe.reason)
    }
  }

  async #probe(driver: Driver): Promise<DriverProbe> {
    const signal = AbortSignal.any([
      this.#abort.signal,
      AbortSignal.timeout(this.#options.probeMs ?? PROBE_MS),
    ])
    try {
      // Whatever it does with the signal.
      return await within(this.#options.probeMs ?? PROBE_MS, driver.probe(signal), 'answer')
    } catch (error) {
      return { able: false, reason: messageOf(error) }
    }
  }
}
