// Requests per second and processor time per request, cvmd beside a bare Hono server.
import { Agent, get } from 'node:http'
import { has, start } from './server.mjs'
import { median, rotated } from './stats.mjs'
import { servers } from './variants.mjs'
import { wrk } from './wrk.mjs'

const EVENTS = 1000
const ROUTES = ['/livez', '/api/v1/new_event?message=x', '/logs', '/api/v1/events']
const MESSAGE = 'service ready: listening on 127.0.0.1:8080, 12 workers'

export async function run({ quick, rounds = 3, seconds = quick ? 1 : 3, runtimes }) {
  if (!has('wrk')) {
    const required = (process.env.CVMD_REQUIRE ?? '').split(',').includes('wrk')
    if (required)
      throw new Error('Cannot load a server: there is no wrk, and CVMD_REQUIRE names it')
    return { rows: [], missing: ['http: there is no wrk (Debian: apt-get install wrk)'] }
  }
  const { variants, missing, remove } = await servers(runtimes)
  const samples = []
  try {
    for (let round = 0; round < (quick ? 1 : rounds); round++) {
      for (const variant of rotated(variants, round)) {
        samples.push(...(await measure(variant, seconds, quick)))
      }
    }
  } finally {
    remove()
  }
  return { rows: rowsOf(variants, samples), missing }
}

async function measure(variant, seconds, quick) {
  // The bare server sends as many bytes as cvmd's views of the events have.
  const args = [EVENTS * (MESSAGE.length + 24), EVENTS * (MESSAGE.length + 56)]
  const server = await start(variant, { args })
  const samples = []
  try {
    // One of them is enough to see that the bare server runs.
    for (const route of quick && variant.app === 'hello' ? ROUTES.slice(0, 1) : ROUTES) {
      // What new_event recorded before is pushed out, so that the views have known sizes.
      if (variant.app === 'cvmd' && route === '/logs') await record(server)
      if (!quick) await wrk(server.url(route), 1)
      const before = server.cpuUs()
      const { requests, perSecond, p99Ms } = await wrk(server.url(route), seconds)
      const cpuUs = (server.cpuUs() - before) / requests
      samples.push({ variant, route, perSecond, p99Ms, cpuUs })
    }
  } finally {
    await server.stop()
  }
  return samples
}

async function record(server) {
  const agent = new Agent({ keepAlive: true, maxSockets: 16 })
  const url = server.url(`/api/v1/new_event?message=${encodeURIComponent(MESSAGE)}`)
  const one = () =>
    new Promise((done, failed) => {
      get(url, { agent }, (answer) => answer.resume().once('end', done)).once('error', failed)
    })
  await Promise.all(Array.from({ length: EVENTS }, one))
  agent.destroy()
}

function rowsOf(variants, samples) {
  const figures = (runtime, app, route) => {
    const own = samples.filter(
      ({ variant, route: r }) => variant.runtime === runtime && variant.app === app && r === route,
    )
    const of = (key) => median(own.map((sample) => sample[key]))
    return own.length === 0
      ? undefined
      : { 'req/s': of('perSecond'), 'p99 ms': of('p99Ms'), 'cpu µs/req': of('cpuUs') }
  }
  const rows = []
  for (const runtime of new Set(variants.map((variant) => variant.runtime))) {
    for (const route of ROUTES) {
      const bare = figures(runtime, 'hello', route)
      const own = figures(runtime, 'cvmd', route)
      const share = bare && { 'of bare': own['req/s'] / bare['req/s'] }
      const extra = bare && { 'cpu of bare': own['cpu µs/req'] / bare['cpu µs/req'] }
      if (bare) rows.push({ runtime, app: 'bare Hono', route, ...bare })
      rows.push({ runtime, app: 'cvmd', route, ...own, ...share, ...extra })
    }
  }
  return rows
}
