import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { TestContext } from 'node:test'
import { createClient } from '@redis/client'
import { lacks } from './counterpart.ts'
import { freshFolder } from './daemon.ts'

/** A real redis-server of a test's own, on a free port of 127.0.0.1, that writes nothing. */
export interface TestRedis {
  readonly port: number
  readonly url: string
  /** One command, over a connection of the test. */
  ask(...args: string[]): Promise<unknown>
  start(): Promise<void>
  /** SIGKILL; what it held is gone. */
  kill(): Promise<void>
}

export interface TestRedisOptions {
  /** Default: true. */
  readonly running?: boolean
  readonly password?: string
  /** Another address of this machine to listen on. */
  readonly also?: string
}

/**
 * @returns Undefined where there is none, and the test is skipped.
 */
export async function testRedis(
  t: TestContext,
  { running = true, password, also }: TestRedisOptions = {},
): Promise<TestRedis | undefined> {
  if (lacks(t, 'redis-server')) return undefined
  const redis = await redisOn(await freePort(), password, also)
  t.after(() => redis.kill())
  if (running) await redis.start()
  return redis
}

/** As {@link testRedis}, for who is no test; to be ended with `kill`. */
export async function redisOn(port: number, password?: string, also?: string): Promise<TestRedis> {
  const folder = freshFolder()
  let server: ChildProcess | undefined
  let client: Awaited<ReturnType<typeof connect>> | undefined
  const options = [
    '--port',
    `${port}`,
    '--bind',
    '127.0.0.1',
    ...(also === undefined ? [] : [also]),
    '--dir',
    folder,
  ]
  const access = password === undefined ? [] : ['--requirepass', password]
  const quiet = ['--save', '', '--appendonly', 'no', '--loglevel', 'warning']

  const redis: TestRedis = {
    port,
    url: `redis://127.0.0.1:${port}`,
    async ask(...command) {
      client ??= await connect(port, password)
      return await client.sendCommand(command)
    },
    async start() {
      server = spawn('redis-server', [...options, ...quiet, ...access], { stdio: 'ignore' })
      const deadline = Date.now() + 20_000
      for (;;) {
        try {
          client = await connect(port, password)
          return
        } catch (error) {
          if (Date.now() > deadline) throw error
          await new Promise((tick) => setTimeout(tick, 20))
        }
      }
    },
    async kill() {
      client?.destroy()
      client = undefined
      if (server && server.exitCode === null && server.signalCode === null) {
        const closed = once(server, 'close')
        server.kill('SIGKILL')
        await closed
      }
      server = undefined
    },
  }
  return redis
}

async function connect(port: number, password?: string) {
  const client = createClient({
    url: `redis://127.0.0.1:${port}`,
    ...(password !== undefined && { password }),
    RESP: 2,
    disableClientInfo: true,
    disableOfflineQueue: true,
    socket: { reconnectStrategy: false, connectTimeout: 2000 },
  })
  client.on('error', () => {})
  await client.connect()
  // A server that still loads answers with an error.
  await client.ping()
  return client
}

export async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await new Promise((closed) => server.close(closed))
  return port
}
