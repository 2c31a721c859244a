import { histogramText, type Labels, LatencySeries } from './histogram.ts'

export type { Labels } from './histogram.ts'

/** A number that only grows. */
export interface Counter {
  inc(labels?: Labels, by?: number): void
}

/** How long something takes, counted by length. */
export interface Histogram {
  observe(seconds: number, labels?: Labels): void
}

/** What a plugin may measure; names follow Prometheus' rules and start with `cvmd_`. */
export interface PluginMetrics {
  counter(name: string, help: string): Counter
  /** `read` is called at each scrape and gives one value, or one per label set. */
  gauge(name: string, help: string, read: () => GaugeReading): void
  /** Times in seconds; `name` ends in `_seconds`. */
  histogram(name: string, help: string): Histogram
}

/** One value, or one per label set. */
export type GaugeReading = number | readonly (readonly [Labels, number])[]

/** {@link PluginMetrics} with the core's switch for its gauges. */
export interface OwnedMetrics extends PluginMetrics {
  publish(): void
  withdraw(): void
}

interface Series {
  readonly labels: Labels
  value: number
}

interface CounterFamily {
  readonly help: string
  readonly series: Map<string, Series>
}

interface GaugeFamily {
  readonly owner: string
  readonly help: string
  readonly read: () => GaugeReading
}

interface HistogramFamily {
  readonly help: string
  readonly series: Map<string, LatencySeries>
}

const NAME = /^cvmd_[a-z0-9_]+$/

/** Requests of one route, method and status, as counted on the hot path. */
interface RouteSeries {
  readonly method: string
  readonly status: number
  readonly latency: LatencySeries
}

/**
 * All figures of one daemon. Counting is plain arithmetic on plain objects, because it is on every
 * request's path; prom-client turns them into text, and is loaded at the first scrape.
 */
export class Metrics {
  readonly #counters = new Map<string, CounterFamily>()
  readonly #gauges = new Map<string, GaugeFamily>()
  readonly #histograms = new Map<string, HistogramFamily>()
  readonly #routes = new Map<string, RouteSeries[]>()
  #processMetrics: { metrics(): Promise<string> } | undefined

  /**
   * The figures of one plugin instance. Its gauges show from `publish` to `withdraw`, so that an
   * instance that was set up but never started does not stand in for the one that runs. A name
   * that breaks Prometheus' rules throws a TypeError at once, another plugin's gauge at `publish`.
   */
  of(owner: string): OwnedMetrics {
    const gauges = new Map<string, GaugeFamily>()
    const check = (name: string) => {
      if (!NAME.test(name)) throw new TypeError(`Cannot measure "${name}": expected ${NAME.source}`)
    }
    return {
      counter: (name, help) => {
        check(name)
        return this.counter(name, help)
      },
      gauge: (name, help, read) => {
        check(name)
        gauges.set(name, { owner, help, read })
      },
      histogram: (name, help) => {
        check(name)
        return this.histogram(name, help)
      },
      publish: () => {
        for (const [name, family] of gauges) {
          const other = this.#gauges.get(name)?.owner ?? owner
          if (other !== owner) {
            throw new TypeError(`Cannot measure "${name}": it is of plugin "${other}"`)
          }
          this.#gauges.set(name, family)
        }
      },
      withdraw: () => {
        for (const [name, family] of gauges) {
          if (this.#gauges.get(name) === family) this.#gauges.delete(name)
        }
      },
    }
  }

  counter(name: string, help: string): Counter {
    const family = this.#counters.get(name) ?? { help, series: new Map<string, Series>() }
    this.#counters.set(name, family)
    return {
      inc: (labels = {}, by = 1) => {
        const key = JSON.stringify(labels)
        const series = family.series.get(key)
        if (series) series.value += by
        else family.series.set(key, { labels, value: by })
      },
    }
  }

  histogram(name: string, help: string): Histogram {
    const family = this.#histograms.get(name) ?? { help, series: new Map<string, LatencySeries>() }
    this.#histograms.set(name, family)
    return {
      observe: (seconds, labels = {}) => {
        const key = JSON.stringify(labels)
        const series = family.series.get(key) ?? new LatencySeries(labels)
        family.series.set(key, series)
        series.observe(seconds)
      },
    }
  }

  /** Counts one finished request. */
  request(method: string, route: string, status: number, seconds: number): void {
    let list = this.#routes.get(route)
    if (!list) {
      list = []
      this.#routes.set(route, list)
    }
    let series = list.find((item) => item.status === status && item.method === method)
    if (!series) {
      const latency = new LatencySeries({ method, route, status: String(status) })
      series = { method, status, latency }
      list.push(series)
    }
    series.latency.observe(seconds)
  }

  /** All figures in the Prometheus text format 0.0.4. */
  async render(): Promise<string> {
    const { Registry, Counter, Gauge, collectDefaultMetrics } = await promClient()
    if (!this.#processMetrics) {
      const registry = new Registry()
      collectDefaultMetrics({ register: registry })
      this.#processMetrics = registry
    }
    const registry = new Registry()
    for (const [name, { help, series }] of this.#counters) {
      tolerant(() => {
        const labelNames = namesOf([...series.values()])
        const counter = new Counter({ name, help, labelNames, registers: [registry] })
        for (const { labels, value } of series.values()) counter.inc(labels, value)
      })
    }
    for (const [name, { help, read }] of this.#gauges) {
      tolerant(() => {
        const reading = read()
        const values = typeof reading === 'number' ? [[{}, reading] as const] : reading
        const labelNames = namesOf(values.map(([labels]) => ({ labels })))
        const gauge = new Gauge({ name, help, labelNames, registers: [registry] })
        for (const [labels, value] of values) gauge.set(labels, value)
      })
    }
    const own = await registry.metrics()
    return `${this.#histogramText()}${own}${await this.#processMetrics.metrics()}`
  }

  /** prom-client's Histogram only takes single observations, so these are written here. */
  #histogramText(): string {
    const requests = histogramText(
      'cvmd_http_request_duration_seconds',
      'Time to answer, by route.',
      [...this.#routes.values()].flat().map(({ latency }) => latency),
    )
    const others = [...this.#histograms].map(([name, { help, series }]) =>
      histogramText(name, help, series.values()),
    )
    return [requests, ...others].join('')
  }
}

async function promClient(): Promise<typeof import('prom-client')> {
  const loaded = await import('prom-client')
  return loaded.default ?? loaded
}

/** A family that cannot be shown (its plugin throws, a bad label) must not hide the others. */
function tolerant(show: () => void): void {
  try {
    show()
  } catch {
    // The gap is what a scraper alerts on.
  }
}

function namesOf(series: readonly { readonly labels: Labels }[]): string[] {
  return [...new Set(series.flatMap(({ labels }) => Object.keys(labels)))]
}
