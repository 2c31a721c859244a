/** Label names and values of one time series. */
export type Labels = Readonly<Record<string, string>>

/** Upper bounds, in seconds, that suit anything from a memory access to a stuck device. */
const LATENCY_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30] as const

/** How long something took, counted by length: one time series of a Prometheus histogram. */
export class LatencySeries {
  readonly #labels: string
  readonly #buckets = LATENCY_BUCKETS.map(() => 0)
  #count = 0
  #seconds = 0

  constructor(labels: Labels) {
    this.#labels = Object.entries(labels)
      .map(([name, value]) => `${name}="${quote(value)}"`)
      .join(',')
  }

  observe(seconds: number): void {
    this.#count++
    this.#seconds += seconds
    for (let i = LATENCY_BUCKETS.length - 1; i >= 0 && seconds <= (LATENCY_BUCKETS[i] ?? 0); i--) {
      this.#buckets[i] = (this.#buckets[i] ?? 0) + 1
    }
  }

  /** Its lines in the Prometheus text format 0.0.4. */
  lines(name: string): string[] {
    const labels = this.#labels
    const all = labels === '' ? '' : `{${labels}}`
    const bucket = (bound: number | string, count: number | undefined) =>
      `${name}_bucket{${labels === '' ? '' : `${labels},`}le="${bound}"} ${count}`
    return [
      ...LATENCY_BUCKETS.map((bound, i) => bucket(bound, this.#buckets[i])),
      bucket('+Inf', this.#count),
      `${name}_sum${all} ${this.#seconds}`,
      `${name}_count${all} ${this.#count}`,
    ]
  }
}

/** A whole family, with its heading. */
export function histogramText(name: string, help: string, series: Iterable<LatencySeries>): string {
  const heading = [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`]
  return `${[...heading, ...[...series].flatMap((one) => one.lines(name))].join('\n')}\n`
}

function quote(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')
}
