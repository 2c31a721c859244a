// Cold start, from spawn to the first answer, and resident memory when idle.
import { setTimeout as wait } from 'node:timers/promises'
import { start } from './server.mjs'
import { median, quantile, rotated } from './stats.mjs'
import { servers } from './variants.mjs'

export async function run({ quick, rounds = 25, runtimes }) {
  const { variants, missing, remove } = await servers(runtimes)
  const samples = []
  try {
    for (let round = 0; round < (quick ? 2 : rounds); round++) {
      for (const variant of rotated(variants, round)) {
        const server = await start(variant, { pin: false })
        // The memory is looked at once the start is digested, in a few rounds only.
        if (round < 5) await wait(quick ? 100 : 1000)
        const sample = { variant, ms: server.startMs, cpuMs: server.cpuUs() / 1000 }
        samples.push(round < 5 ? { ...sample, rss: server.rssMib() } : sample)
        await server.stop()
      }
    }
  } finally {
    remove()
  }
  const rows = variants.map((variant) => {
    const own = samples.filter((sample) => sample.variant === variant)
    const times = own.map(({ ms }) => ms)
    return {
      runtime: variant.runtime,
      app: variant.app === 'hello' ? 'bare Hono' : 'cvmd',
      'min ms': quantile(times, 0),
      'median ms': median(times),
      'p95 ms': quantile(times, 0.95),
      'cpu ms': median(own.map(({ cpuMs }) => cpuMs)),
      'idle RSS MiB': median(own.flatMap(({ rss }) => rss ?? [])),
    }
  })
  return { rows, missing }
}
