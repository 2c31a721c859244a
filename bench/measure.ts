import { Bench } from 'tinybench'

/** One thing to measure. */
export interface Case {
  readonly name: string
  /** How many things one call of `work` does; enough that reading the clock does not count. */
  readonly count: number
  work(): void | Promise<void>
  /** Runs after each call, outside the measured time. */
  after?(): void
}

/**
 * Runs the cases and prints median and p99 of the time one thing takes: as a table, or with
 * `--json` as an array of rows. `--quick` only shows that they run.
 *
 * @throws {Error} What a case threw.
 */
export async function measure(cases: readonly Case[]): Promise<void> {
  const quick = process.argv.includes('--quick')
  const bench = new Bench({
    throws: true,
    time: quick ? 20 : 500,
    iterations: quick ? 5 : 100,
    warmupTime: quick ? 5 : 250,
  })
  for (const { name, work, after } of cases) {
    bench.add(name, work, after && { afterEach: () => after() })
  }
  await bench.run()
  const rows = bench.tasks.map((task, i) => {
    const { result } = task
    if (result.state !== 'completed') throw new Error(`${task.name}: ${result.state}`)
    const ns = (ms: number) => (ms * 1e6) / (cases[i] as Case).count
    const median = ns(result.latency.p50)
    return { case: task.name, 'median ns': median, 'p99 ns': ns(result.latency.p99) }
  })
  if (process.argv.includes('--json')) console.log(JSON.stringify(rows))
  else console.table(rows)
}
