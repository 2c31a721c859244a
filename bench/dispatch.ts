// What the core adds to Hono: `GET /livez` through a bare application and through the pipeline of
// a listener, without a socket. `bun bench/dispatch.ts`, `node --import tsx bench/dispatch.ts`.

import { createConsola } from 'consola/basic'
import { Hono } from 'hono'
import { NO_ATTESTER } from '../src/attester/none.ts'
import { OPEN } from '../src/auth/guard.ts'
import { corePlugin } from '../src/core-plugin.ts'
import { EventLog } from '../src/events/log.ts'
import { NO_GPUS } from '../src/gpu/none.ts'
import { Exchange } from '../src/http/exchange.ts'
import { buildPipeline } from '../src/http/pipeline.ts'
import { Metrics } from '../src/metrics.ts'
import { routesOf } from '../src/registry.ts'
import { setUp } from '../src/setup.ts'
import { measure } from './measure.ts'

const COUNT = 1000
const headers = { 'content-type': 'application/json' }
const bare = new Hono().get('/livez', () => new Response('{"status":"ok"}\n', { headers }))
const metrics = new Metrics()
const pipeline = corePipeline()
const request = new Request('http://127.0.0.1/livez')
const connection = {
  peer: () => ({ address: '127.0.0.1', port: 50000 }),
  hold: () => undefined,
  header: (name: string) => (name === 'host' ? '127.0.0.1' : undefined),
}

await measure([
  {
    name: 'GET /livez, bare Hono',
    count: COUNT,
    work: () => answered(() => bare.fetch(request)),
  },
  {
    name: 'GET /livez, pipeline',
    count: COUNT,
    work: () => answered(() => pipeline.fetch(request, new Exchange('bench', connection))),
  },
])

async function answered(fetch: () => Response | Promise<Response>): Promise<void> {
  for (let i = 0; i < COUNT; i++) {
    const { status } = await fetch()
    if (status !== 200) throw new Error(`/livez answered ${status}`)
  }
}

/** The core's own routes on a loopback listener, as the daemon mounts them. */
function corePipeline() {
  const view = {
    plugins: () => [],
    routes: () => [],
    notReady: () => ({}),
    metrics: () => metrics.render(),
    reload: () => Promise.reject(new Error('nothing to reload')),
    simulated: null,
    attestLog: () => Promise.reject(new Error('nothing to attest')),
  }
  const parts = {
    eventLog: new EventLog(),
    attestation: NO_ATTESTER,
    gpus: NO_GPUS,
    daemon: { plugins: () => [] },
    device: { has: () => false, path: (path: string) => path },
    metrics,
    log: createConsola({ level: -999 }),
    stateDir: '/nonexistent',
  }
  const core = setUp(corePlugin(view), {}, parts, {})
  core.unavailable = undefined
  return buildPipeline(routesOf(core), {
    guard: OPEN,
    hosts: new Set(['127.0.0.1']),
    maxBodyBytes: 10 * 1024 * 1024,
    requestTimeoutMs: 30_000,
    observe: (exchange, method, status, ms) => {
      metrics.request(method, exchange.route, status, ms / 1000)
    },
  })
}
