// Hot paths of the event log: `bun bench/event-ring.ts`, `node --import tsx bench/event-ring.ts`,
// `deno run -A --no-check bench/event-ring.ts`. Prints median and p99 of batches.

import { LineFramer } from '../plugins/eventlog/line-framer.ts'
import { SystemApiView } from '../plugins/eventlog/view.ts'
import { EventLog } from '../src/events/log.ts'

const ROUNDS = 200

/** Runs `work` (which does `count` things) many times; prints the time of one thing. */
function bench(name: string, count: number, work: (round: number) => void, after?: () => void) {
  for (let i = 0; i < ROUNDS / 4; i++) {
    work(i)
    after?.()
  }
  const times: number[] = []
  for (let i = 0; i < ROUNDS; i++) {
    const start = performance.now()
    work(i)
    times.push(((performance.now() - start) * 1e6) / count)
    after?.()
  }
  times.sort((a, b) => a - b)
  const at = (share: number) => times[Math.floor(share * (times.length - 1))] as number
  const figure = (ns: number) =>
    `${ns < 10_000 ? `${ns.toFixed(0)} ns` : `${(ns / 1000).toFixed(1)} µs`}`
  const rate = Math.round(1e9 / at(0.5)).toLocaleString('en')
  console.log(
    `${name.padEnd(44)} median ${figure(at(0.5)).padStart(9)}  p99 ${figure(at(0.99)).padStart(9)}  ${rate}/s`,
  )
}

const line = 'service ready: listening on 127.0.0.1:8080, 12 workers'

{
  const log = new EventLog()
  const append = () => {
    for (let i = 0; i < 10_000; i++) log.append('bench', line)
  }
  // The chain is caught up with outside the measured time.
  bench('append, ring alone', 10_000, append, () => log.head)
}
{
  const log = new EventLog()
  bench('append, with its share of the chain', 10_000, () => {
    for (let i = 0; i < 10_000; i++) log.append('bench', line)
    if (log.head === '') throw new Error('no hash')
  })
}
{
  const log = new EventLog()
  for (let i = 0; i < 1000; i++) log.append('bench', line)
  const view = new SystemApiView(log)
  let size = 0
  for (const [name, read] of [
    ['/logs', () => view.text()],
    ['/api/v1/events', () => view.json()],
  ] as const) {
    bench(`render ${name}, 1000 events, no churn`, 1000, () => {
      for (let i = 0; i < 1000; i++) size += read().length
    })
    bench(`render ${name}, 1000 events, one append each`, 100, () => {
      for (let i = 0; i < 100; i++) {
        log.append('bench', line)
        size += read().length
      }
    })
  }
  if (size === 0) throw new Error('nothing was rendered')
}
{
  const log = new EventLog()
  const chunk = Buffer.from(`${line}\n`.repeat(1190))
  const framer = new LineFramer(65_536, (message) => log.append('fifo', message))
  bench(
    'FIFO line: framing and append',
    1190,
    () => framer.push(chunk),
    () => log.head,
  )
}
