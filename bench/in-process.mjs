// Benchmarks that need no server: a TypeScript file, run in a fresh process per runtime and round.
import { execFileSync } from 'node:child_process'
import { median, rotated } from './stats.mjs'
import { typescript } from './variants.mjs'

/** Makes the `run` of a file that prints its rows as JSON, see measure.ts. */
export function inProcess(file) {
  return async ({ quick, rounds = 3, runtimes }) => {
    // The single file holds Bun, so `bun` stands for both.
    const chosen = (runtimes ?? ['node', 'bun', 'deno']).filter((name) => name !== 'binary')
    const results = new Map()
    for (let round = 0; round < (quick ? 1 : rounds); round++) {
      for (const runtime of rotated(chosen, round)) {
        const [command, args] = typescript(runtime, file)
        const flags = ['--json', ...(quick ? ['--quick'] : [])]
        const output = execFileSync(command, [...args, ...flags], { encoding: 'utf8' })
        for (const row of JSON.parse(output)) {
          const key = `${runtime}\0${row.case}`
          results.set(key, [...(results.get(key) ?? []), { runtime, ...row }])
        }
      }
    }
    const rows = [...results.values()].map((same) => {
      const [{ runtime, case: name }] = same
      const of = (key) => median(same.map((row) => row[key]))
      const ns = of('median ns')
      return { runtime, case: name, 'median ns': ns, 'p99 ns': of('p99 ns'), 'ops/s': 1e9 / ns }
    })
    return { rows: rows.sort((a, b) => a.case.localeCompare(b.case)), missing: [] }
  }
}
