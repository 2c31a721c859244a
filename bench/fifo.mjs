// Lines per second through the event FIFO of a running daemon, and what it costs when idle.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { pinned, start } from './server.mjs'
import { median, quantile, rotated } from './stats.mjs'
import { servers } from './variants.mjs'

const LINE = 'service ready: listening on 127.0.0.1:8080, 12 workers up\n'
const FIFO = '[plugins.eventlog]\nfifo = "{folder}/events.fifo"'

export async function run({ quick, rounds = 5, runtimes }) {
  const { variants, missing, remove } = await servers(runtimes)
  const daemons = variants.filter(({ app }) => app === 'cvmd')
  const samples = []
  try {
    for (let round = 0; round < (quick ? 1 : rounds); round++) {
      for (const variant of rotated(daemons, round)) {
        samples.push({ variant, ...(await measure(variant, quick ? 100_000 : 1_000_000, quick)) })
      }
    }
  } finally {
    remove()
  }
  const rows = daemons.map((variant) => {
    const own = samples.filter((sample) => sample.variant === variant)
    const of = (key) => own.map((sample) => sample[key])
    return {
      runtime: variant.runtime,
      'lines/s': median(of('perSecond')),
      slowest: quantile(of('perSecond'), 0),
      'cpu µs/line': median(of('cpuUs')),
      'idle cpu %': median(of('idle')),
    }
  })
  return { rows, missing }
}

async function measure(variant, lines, quick) {
  const server = await start(variant, { plugins: FIFO })
  try {
    const fifo = join(server.folder, 'events.fifo')
    // The second pass is measured: the first finds code that nobody compiled yet.
    await write(server, fifo, lines / 10)
    const { seconds, cpuUs } = await write(server, fifo, lines)
    // The hash chain is still being caught up with for a moment.
    await wait(500)
    const before = server.cpuUs()
    const idleMs = quick ? 500 : 2000
    await wait(idleMs)
    const idle = (server.cpuUs() - before) / idleMs / 10
    return { perSecond: lines / seconds, cpuUs: cpuUs / lines, idle }
  } finally {
    await server.stop()
  }
}

/** Writes lines in large writes and waits until the last one can be read over HTTP. */
async function write(server, fifo, lines) {
  const file = join(server.folder, 'lines')
  const last = `last of ${lines}`
  writeFileSync(file, `${LINE.repeat(lines - 1)}${last}\n`)
  const before = server.cpuUs()
  const started = performance.now()
  const [command, args] = pinned(1, 'dd', [`if=${file}`, `of=${fifo}`, 'bs=1M', 'status=none'])
  const writer = spawn(command, [...args, 'conv=notrunc'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const [status] = await once(writer, 'close')
  if (status !== 0) throw new Error(`Cannot write to ${fifo}: dd ended with ${status}`)
  for (;;) {
    const answer = await fetch(server.url('/logs?tail=1'))
    if ((await answer.text()).endsWith(`\t ${last}\n`)) break
    if (performance.now() - started > 60_000) throw new Error('the last line did not arrive')
    await wait(1)
  }
  return { seconds: (performance.now() - started) / 1000, cpuUs: server.cpuUs() - before }
}
