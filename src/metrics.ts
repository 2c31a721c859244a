/** Label names and values of one time series. */
export type Labels = Readonly<Record<string, string>>

/** A number that only grows. */
export interface Counter {
  inc(labels?: Labels, by?: number): void
}

/** What a plugin may measure; names follow Prometheus' rules and start with `cvmd_`. */
export interface PluginMetrics {
  counter(name: string, help: string): Counter
  /** `read` is called at each scrape and gives one value, or one per label set. */
  gauge(name: string, help: string, read: () => GaugeReading): void
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

const NAME = /^cvmd_[a-z0-9_]+$/

/** Upper bounds, in seconds, of the request latency histogram. */
const LATENCY_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30]

/** Requests of one route and status, as counted on the hot path. */
interface RouteSeries {
  readonly method: string
  readonly route: string
  readonly status: number
  readonly buckets: number[]
  count: number
  seconds: number
}

/**
 * All figures of one daemon. Counting is plain arithmetic on plain objects, because it is on every
 * request's path; prom-client turns them into text, and is loaded at the first scrape.
 */
export class Metrics {
  readonly #counters = new Map<string, CounterFamily>()
  readonly #gauges = new Map<string, GaugeFamily>()
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

  /** Counts one finished request. */
  request(method: string, route: string, status: number, seconds: number): void {
    let list = this.#routes.get(route)
    if (!list) {
      list = []
      this.#routes.set(route, list)
    }
    let series = list.find((item) => item.status === status && item.method === method)
    if (!series) {
      const buckets = LATENCY_BUCKETS.map(() => 0)
      series = { method, route, status, buckets, count: 0, seconds: 0 }
      list.push(series)
    }
    series.count++
    series.seconds += seconds
    for (let i = LATENCY_BUCKETS.length - 1; i >= 0 && seconds <= (LATENCY_BUCKETS[i] ?? 0); i--) {
      series.buckets[i] = (series.buckets[i] ?? 0) + 1
    }
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
    return `${this.#requestText()}${own}${await this.#processMetrics.metrics()}`
  }

  /** prom-client's Histogram only takes single observations, so this family is written here. */
  #requestText(): string {
    const name = 'cvmd_http_request_duration_seconds'
    const lines = [`# HELP ${name} Time to answer, by route.`, `# TYPE ${name} histogram`]
    for (const series of [...this.#routes.values()].flat()) {
      const labels =
        `method="${quote(series.method)}",route="${quote(series.route)}"` +
        `,status="${series.status}"`
      for (const [i, bound] of LATENCY_BUCKETS.entries()) {
        lines.push(`${name}_bucket{${labels},le="${bound}"} ${series.buckets[i]}`)
      }
      lines.push(`${name}_bucket{${labels},le="+Inf"} ${series.count}`)
      lines.push(`${name}_sum{${labels}} ${series.seconds}`)
      lines.push(`${name}_count{${labels}} ${series.count}`)
    }
    return `${lines.join('\n')}\n`
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

function quote(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')
}
