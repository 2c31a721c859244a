// Quotes over a fake configfs tree: quote.ts on each runtime, in a fresh process per round.
import { execFileSync, spawnSync } from 'node:child_process'
import { median, rotated } from './stats.mjs'
import { typescript } from './variants.mjs'

/**
 * Runs a program with a file system in memory where configfs would be, visible to it alone; `/sys`
 * itself takes no new folders.
 */
const ISOLATED = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /sys/kernel && exec "$@"', 'sh']

export async function run({ quick, rounds = 3, runtimes }) {
  // The single file holds Bun, so `bun` stands for both.
  const chosen = (runtimes ?? ['node', 'bun', 'deno']).filter((name) => name !== 'binary')
  const isolated = spawnSync(ISOLATED[0], [...ISOLATED.slice(1), 'true']).status === 0
  const found = new Map()
  for (let round = 0; round < (quick ? 1 : rounds); round++) {
    for (const runtime of rotated(chosen, round)) {
      const [own, args] = typescript(runtime, 'bench/quote.ts')
      const flags = ['--json', ...(quick ? ['--quick'] : []), ...(isolated ? ['--mounted'] : [])]
      const [command, ...rest] = [...(isolated ? ISOLATED : []), own, ...args, ...flags]
      const output = execFileSync(command, rest, { encoding: 'utf8' })
      for (const { case: name, ...figures } of JSON.parse(output)) {
        const key = `${name}\0${runtime}`
        found.set(key, [...(found.get(key) ?? []), figures])
      }
    }
  }
  const rows = [...found].map(([key, same]) => {
    const [name, runtime] = key.split('\0')
    const of = (column) => median(same.map((figures) => figures[column]))
    const columns = Object.keys(same[0]).map((column) => [column, of(column)])
    return { runtime, case: name, ...Object.fromEntries(columns) }
  })
  const has = (start) => rows.some((row) => row.case.startsWith(start))
  const missing = [
    ...(has('C,') ? [] : ['quote in C: needs cc']),
    ...(has('cvmd, native') ? [] : ['quote, native calls: needs root, unshare, and npm run build']),
  ]
  return { rows: rows.sort((a, b) => a.case.localeCompare(b.case)), missing }
}
