// The supervisor against a real engine: cached reads beside a bare Hono server, restarts and updates
// beside a program that makes only the calls they need, and how often the engine is asked.
// `node --import tsx bench/supervisor.ts [--json] [--quick] [--runtime NAME ...]`.

import { createServer } from 'node:net'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Engine } from '../src/engine/engine.ts'
import { unixRequest } from '../test/helpers/daemon.ts'
import { lacking, startEngine, TEST_IMAGE } from '../test/helpers/engine.ts'
import { call } from '../test/supervisor/call.ts'
import { type EngineProxy, engineProxy, isWrite } from '../test/supervisor/engine-proxy.ts'
import { eventually } from '../test/supervisor/eventually.ts'
import { APP, target } from '../test/supervisor/targets.ts'

interface Variant {
  readonly runtime: string
  readonly app: 'hello' | 'cvmd'
}

interface Server {
  readonly folder: string
  url(path: string): string
  cpuUs(): number
  rssMib(): number
  stop(): Promise<void>
}

interface Load {
  readonly requests: number
  readonly perSecond: number
  readonly p99Ms: number
}

interface Tools {
  start(variant: Variant, options: { readonly plugins?: string }): Promise<Server>
  has(command: string): boolean
  servers(runtimes?: readonly string[]): Promise<{
    readonly variants: readonly Variant[]
    readonly missing: string[]
    remove(): void
  }>
  wrk(url: string, seconds: number, options?: { readonly script?: string }): Promise<Load>
  median(numbers: readonly number[]): number
  table(rows: readonly object[]): string
}

type Row = Readonly<Record<string, string | number | undefined>>

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    runtime: { type: 'string', multiple: true, default: ['node', 'binary'] },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
  },
})
const rounds = values.quick ? 1 : Number(values.rounds)
const seconds = values.quick ? 1 : Number(values.seconds)
/** Services of the app that a new daemon brings up. */
const MANY = values.quick ? 5 : 100
/** About as many requests as the target asks for. */
const PACED = join(import.meta.dirname, 'paced.lua')
const IDLE_MS = values.quick ? 500 : 5000

// The tools of the other benchmarks are plain JavaScript.
const load = (file: string): Promise<Partial<Tools>> => import(`./${file}`)
const files = ['server.mjs', 'variants.mjs', 'wrk.mjs', 'stats.mjs']
const tools = Object.assign({}, ...(await Promise.all(files.map(load)))) as Tools

const result = await run()
if (values.json) console.log(JSON.stringify(result))
else console.log(`${tools.table(result.rows)}\n${result.missing.join('\n')}`)

async function run(): Promise<{ rows: Row[]; missing: string[] }> {
  const absent = lacking()
  if (absent !== undefined) {
    const required = (process.env.CVMD_REQUIRE ?? '').split(',').includes('engine')
    if (required) throw new Error(`There is no engine, and CVMD_REQUIRE names it: ${absent}`)
    return { rows: [], missing: [`supervisor: a private engine needs ${absent}`] }
  }
  const { variants, missing, remove } = await tools.servers(values.runtime)
  if (!tools.has('wrk')) missing.push('supervisor, reads: there is no wrk')
  const rows: Row[] = []
  const engine = await startEngine()
  try {
    const bare = new Map<string, Row>()
    for (const variant of variants.filter(({ app }) => app === 'hello')) {
      if (!tools.has('wrk')) break
      const server = await tools.start(variant, {})
      const row = await read(server, server.url('/livez'))
      bare.set(variant.runtime, row)
      rows.push({ runtime: variant.runtime, case: 'bare Hono', ...row })
      await server.stop()
    }
    for (const variant of variants.filter(({ app }) => app === 'cvmd')) {
      const yardstick = bare.get(variant.runtime)
      rows.push(...(await supervised(variant, engine.client, engine.socketPath, yardstick)))
      await engine.clear()
    }
  } finally {
    await engine.stop()
    remove()
  }
  return { rows, missing }
}

/** All figures of one daemon. */
async function supervised(
  variant: Variant,
  client: Engine,
  engineSocket: string,
  bare: Row | undefined,
): Promise<Row[]> {
  const { runtime } = variant
  const rows: Row[] = []
  const ends: (() => void)[] = []
  const port = await freePort()
  let proxy: EngineProxy | undefined
  let server: Server | undefined
  try {
    const test = { after: (end: () => void) => void ends.push(end) }
    proxy = await engineProxy(test, engineSocket, `${engineSocket}.${port}`)
    server = await tools.start(variant, { plugins: config(proxy.socketPath, port) })
    const key = (await unixRequest(join(server.folder, 'cvmd.sock'), '/cvmd/supervisor/key')).body
    const api = (path: string) => `http://127.0.0.1:${port}${path}`
    const post = (path: string, body: unknown) =>
      call(api(path), { method: 'POST', key: key.trim(), body })
    const applied = (commit: string) =>
      eventually(
        `commit ${commit}`,
        async () => (await call(api('/v1/device'), { key: key.trim() })).json(),
        (device) => device.commit === commit && device.update_pending === false,
        300_000,
      )
    const calls = (from: number) => proxy?.calls.slice(from) ?? []
    const counted = (all: readonly string[]) => {
      const writes = all.filter(isWrite).length
      return { reads: all.length - writes, writes }
    }

    const services = { api: {}, db: {}, web: {} }
    await post('/v2/local/target-state', target(services))
    await applied('c1')

    if (tools.has('wrk')) {
      for (const path of ['/v1/device', '/v2/applications/state']) {
        const from = proxy.calls.length
        const url = api(`${path}?apikey=${key.trim()}`)
        const row = await read(server, url)
        const paced = await read(server, url, { script: PACED })
        const ratio = bare && Number(row['cpu µs/req']) / Number(bare['cpu µs/req'])
        const { reads } = counted(calls(from))
        rows.push({ runtime, case: `GET ${path}`, ...row, 'of yardstick': ratio, reads })
        rows.push({ runtime, case: `GET ${path}, paced`, ...paced })
      }
    }

    const idle = proxy.calls.length
    await new Promise((tick) => setTimeout(tick, IDLE_MS))
    rows.push({ runtime, case: `idle, ${IDLE_MS / 1000} s`, ...counted(calls(idle)) })

    const again = proxy.calls.length
    await post('/v2/local/target-state', target(services))
    await post('/v1/update', {})
    await applied('c1')
    rows.push({ runtime, case: 'update, nothing to do', ...counted(calls(again)) })

    const own: number[] = []
    const plain: number[] = []
    let restart = { reads: 0, writes: 0 }
    for (let round = 0; round < rounds; round++) {
      plain.push(await byHand(client))
      const from = proxy.calls.length
      const started = performance.now()
      const answer = await post(`/v2/applications/${APP}/restart-service`, { serviceName: 'api' })
      own.push(performance.now() - started)
      if (answer.status !== 200) throw new Error(answer.body)
      restart = counted(calls(from))
    }
    const ms = tools.median(own)
    const share = ms / tools.median(plain)
    rows.push({ runtime, case: 'restart of a service', ms, 'of yardstick': share, ...restart })

    const from = proxy.calls.length
    const many = Object.fromEntries(
      // Creating is what is counted; a hundred running ones would measure the machine.
      Array.from({ length: MANY }, (_, i) => [`service${i}`, { running: false }]),
    )
    const started = performance.now()
    await post('/v2/local/target-state', target(many, { number: 2 }))
    await applied('c2')
    const took = performance.now() - started
    const lists = calls(from).filter((one) => /^GET \/[a-z]+(\/json)?(\?|$)/.test(one)).length
    rows.push({
      runtime,
      case: `${MANY} services created`,
      ms: took,
      ...counted(calls(from)),
      lists,
      'RSS MiB': server.rssMib(),
    })
    return rows
  } finally {
    await server?.stop()
    for (const end of ends) end()
  }
}

async function read(
  server: Server,
  url: string,
  options: { readonly script?: string } = {},
): Promise<Row> {
  if (!values.quick) await tools.wrk(url, 1)
  const before = server.cpuUs()
  const { requests, perSecond, p99Ms } = await tools.wrk(url, seconds, options)
  const cpuUs = (server.cpuUs() - before) / requests
  return { 'req/s': perSecond, 'p99 ms': p99Ms, 'cpu µs/req': cpuUs }
}

/** The writes of a restart and nothing else, over the same client: milliseconds. */
async function byHand({ containers }: Engine): Promise<number> {
  const body = { Image: TEST_IMAGE, Tty: true, StopTimeout: 1 }
  const { Id } = await containers.create('by-hand', body)
  await containers.start(Id)
  const started = performance.now()
  await containers.stop(Id)
  await containers.remove(Id)
  const next = await containers.create('by-hand', body)
  await containers.start(next.Id)
  const ms = performance.now() - started
  await containers.remove(next.Id, { force: true })
  return ms
}

function config(engineSocket: string, port: number): string {
  return `[[listen]]
address = "127.0.0.1:${port}"
plugins = ["supervisor"]
core = false
[plugins.supervisor]
enabled = true
engine_socket = "${engineSocket}"
port = ${port}
lock_dir = "{folder}/locks"
[plugins.supervisor.machine]
root = "{folder}"
dry_run = true`
}

function freePort(): Promise<number> {
  return new Promise((done, failed) => {
    const server = createServer().once('error', failed)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
}
