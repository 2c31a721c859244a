// The statistics of a grid node over HTTP, beside the cheapest route of the same daemon.
import { resolve } from 'node:path'
import { has, start } from './server.mjs'
import { median, rotated } from './stats.mjs'
import { servers } from './variants.mjs'
import { wrk } from './wrk.mjs'

/** A node without an engine and with an empty registry: what anybody may read is all it has. */
const NODE = `[plugins.zos]
registry = "{folder}/registry.json"
engine_socket = "{folder}/no-engine.sock"
mount_disks = "folder"
[plugins.zos.drivers]
zmachine = "off"
network = "off"
`

const script = resolve(import.meta.dirname, 'post.lua')
const ROUTES = [
  { route: '/livez', options: {} },
  { route: '/zos/zos.statistics.get', options: { script } },
]

export async function run({ quick, rounds = 3, seconds = quick ? 1 : 3, runtimes }) {
  if (!has('wrk')) {
    const required = (process.env.CVMD_REQUIRE ?? '').split(',').includes('wrk')
    if (required)
      throw new Error('Cannot load a grid node: there is no wrk, and CVMD_REQUIRE names it')
    return { rows: [], missing: ['zos-http: there is no wrk (Debian: apt-get install wrk)'] }
  }
  const { variants, missing, remove } = await servers(runtimes)
  const daemons = variants.filter(({ app }) => app === 'cvmd')
  const samples = []
  try {
    for (let round = 0; round < (quick ? 1 : rounds); round++) {
      for (const variant of rotated(daemons, round)) {
        samples.push(...(await measure(variant, round, seconds)))
      }
    }
  } finally {
    remove()
  }
  return { rows: rowsOf(daemons, samples), missing }
}

async function measure(variant, round, seconds) {
  const server = await start(variant, { plugins: NODE })
  const samples = []
  try {
    for (const { route, options } of rotated(ROUTES, round)) {
      // Warm.
      await wrk(server.url(route), 1, options)
      const before = server.cpuUs()
      const { requests, perSecond, p99Ms } = await wrk(server.url(route), seconds, options)
      const cpuUs = (server.cpuUs() - before) / requests
      samples.push({ variant, route, perSecond, p99Ms, cpuUs })
    }
  } finally {
    await server.stop()
  }
  return samples
}

function rowsOf(daemons, samples) {
  return daemons.flatMap((variant) => {
    const figures = ({ route }) => {
      const own = samples.filter((sample) => sample.variant === variant && sample.route === route)
      const of = (key) => median(own.map((sample) => sample[key]))
      return { 'req/s': of('perSecond'), 'p99 ms': of('p99Ms'), 'cpu µs/req': of('cpuUs') }
    }
    const [livez, statistics] = ROUTES.map(figures)
    const ratio = {
      'of /livez': statistics['req/s'] / livez['req/s'],
      'cpu of /livez': statistics['cpu µs/req'] / livez['cpu µs/req'],
    }
    const { runtime } = variant
    return [
      { runtime, route: ROUTES[0].route, ...livez },
      { runtime, route: ROUTES[1].route, ...statistics, ...ratio },
    ]
  })
}
