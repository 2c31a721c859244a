// The event log without a socket: appending, the chain, system-api's views, and framing of FIFO
// lines. `bun bench/event-ring.ts`, `node --import tsx bench/event-ring.ts`.

import { LineFramer } from '../plugins/eventlog/line-framer.ts'
import { SystemApiView } from '../plugins/eventlog/view.ts'
import { EventLog } from '../src/events/log.ts'
import { type Case, measure } from './measure.ts'

const COUNT = 10_000
const LINE = 'service ready: listening on 127.0.0.1:8080, 12 workers'

await measure([ringAlone(), withChain(), withSubscriber(), ...views(), fifoLine()])

function append(log: EventLog): void {
  for (let i = 0; i < COUNT; i++) log.append('bench', LINE)
}

/** The chain is caught up with outside the measured time. */
function ringAlone(): Case {
  const log = new EventLog()
  return {
    name: 'append, ring alone',
    count: COUNT,
    work: () => append(log),
    after: () => void log.head,
  }
}

function withChain(): Case {
  const log = new EventLog()
  return {
    name: 'append, with its share of the chain',
    count: COUNT,
    work() {
      append(log)
      if (log.head === '') throw new Error('there is no hash')
    },
  }
}

/** Every append is followed by its own wake-up, as when requests come one by one. */
function withSubscriber(): Case {
  const log = new EventLog()
  let calls = 0
  log.subscribe(() => {
    calls++
  })
  return {
    name: 'append, one subscriber told each time',
    count: COUNT,
    async work() {
      calls = 0
      for (let i = 0; i < COUNT; i++) {
        log.append('bench', LINE)
        await undefined
      }
      if (calls < COUNT) throw new Error(`the subscriber was told ${calls} times`)
    },
    after: () => void log.head,
  }
}

function views(): Case[] {
  const log = new EventLog()
  for (let i = 0; i < log.limits.maxEntries; i++) log.append('bench', LINE)
  const view = new SystemApiView(log)
  const read = (bytes: Uint8Array) => {
    if (bytes.length < log.limits.maxEntries) throw new Error('events are missing')
  }
  return (['text', 'json'] as const).flatMap((name) => [
    {
      name: `view of 1,000 events as ${name}, unchanged`,
      count: COUNT,
      work() {
        for (let i = 0; i < COUNT; i++) read(view[name]())
      },
    },
    {
      name: `view of 1,000 events as ${name}, one append before each`,
      count: 100,
      work() {
        for (let i = 0; i < 100; i++) {
          log.append('bench', LINE)
          read(view[name]())
        }
      },
      after: () => void log.head,
    },
  ])
}

function fifoLine(): Case {
  const log = new EventLog()
  const count = Math.floor(65_536 / (LINE.length + 1))
  const chunk = Buffer.from(`${LINE}\n`.repeat(count))
  const framer = new LineFramer(65_536, (message) => {
    log.append('fifo', message)
  })
  return {
    name: 'FIFO line, framing and append',
    count,
    work: () => framer.push(chunk),
    after: () => void log.head,
  }
}
