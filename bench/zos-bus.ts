// Round trips of a command over the message bus, LPUSH to reply, beside the same two lists served by
// a bare loop of BRPOP and LPUSH. `node --import tsx bench/zos-bus.ts`.

import { createClient } from '@redis/client'
import { createBus } from '../plugins/zos/bus/bus.ts'
import { testCommands, testLog } from '../test/helpers/zos-commands.ts'
import { freePort, redisOn } from '../test/helpers/zos-redis.ts'
import { type Case, measure } from './measure.ts'

const COMMAND = 'zos.system.version'
const QUEUE = `msgbus.${COMMAND}`
const REPLIES = 'msgbus.system.reply'
const AT_A_TIME = [1, 32]
const ANSWER = '{"zos":"3.14.1","zinit":"v0.2.14"}'

const server = await redisOn(await freePort())
await server.start()
const pusher = await connect()
const popper = await connect()

try {
  const bus = createBus({
    url: server.url,
    commands: testCommands({ [COMMAND]: () => ANSWER }),
    log: testLog(),
    workers: 32,
  })
  bus.start()
  const bare = await echo('bare.requests', 'bare.replies')
  await measure([
    ...AT_A_TIME.map((count) => trips(`bare Redis, ${count} at a time`, count, bare)),
    ...AT_A_TIME.map((count) => trips(`the bus, ${count} at a time`, count, [QUEUE, REPLIES])),
  ])
  await bus.stop()
} finally {
  for (const client of [pusher, popper]) client.destroy()
  await server.kill()
}
// The bare loop waits for ever.
process.exit(0)

function trips(name: string, count: number, [requests, replies]: readonly string[]): Case {
  return {
    name,
    count,
    async work() {
      const texts = Array.from({ length: count }, (_, at) => request(`${at}`))
      await pusher.sendCommand(['LPUSH', requests as string, ...texts])
      for (let left = count; left > 0; left--) {
        const popped = await popper.sendCommand(['BRPOP', replies as string, '10'])
        if (popped === null) throw new Error(`${name}: no reply within 10 s`)
      }
    },
  }
}

/** Moves each request to the replies as it is. */
async function echo(requests: string, replies: string): Promise<readonly string[]> {
  const reader = await connect()
  const writer = await connect()
  const loop = async () => {
    for (;;) {
      const popped = await reader.sendCommand(['BRPOP', requests, '0'])
      await writer.sendCommand(['LPUSH', replies, String((popped as unknown as string[])[1])])
    }
  }
  // Ends with the server.
  loop().catch(() => {})
  return [requests, replies]
}

function request(ref: string): string {
  const now = Math.floor(Date.now() / 1000)
  const head = { ver: 1, ref, src: '42', cmd: COMMAND, exp: 300, dat: '', tag: null }
  return JSON.stringify({ ...head, ret: REPLIES, shm: 'application/json', now })
}

async function connect() {
  const client = createClient({ url: server.url, RESP: 2, disableClientInfo: true })
  client.on('error', () => {})
  await client.connect()
  return client
}
