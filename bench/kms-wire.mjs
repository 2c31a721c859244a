// Keys over sockets: an agent on its Unix socket, and a KMS over RA-TLS, each beside a path of the
// same listener that does nothing.
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import { pinned, start } from './server.mjs'
import { median, quantile, rotated } from './stats.mjs'
import { servers, typescript } from './variants.mjs'

const SIMULATE = ['--simulate', 'tdx']

/** What the clients of the KMS measure of themselves; see APP_EVENTS in its tests. */
const IMAGE = '12'.repeat(32)
const APP = { id: 'ab'.repeat(20), compose: 'cd'.repeat(32) }

const AGENT = `[[listen]]
unix = "{folder}/dstack.sock"
plugins = ["guest", "kms"]
dialect = "dstack"
`

const KMS = `[plugins.kms]
role = "server"
[plugins.kms.trust]
tdx_root = "{folder}/state/simulate/tdx-root.pem"
collateral = "{folder}/state/simulate/tdx-collateral.json"
[plugins.kms.server]
address = "127.0.0.1:0"
auto_bootstrap_domain = "kms.example"
enforce_self_authorization = false
[plugins.kms.server.policy]
type = "file"
file = "{folder}/policy.json"
`

/** Requests to the agent: how many at a time, a path, in which `#` is another number each time, a body. */
const ASKED = [
  { case: 'agent: /livez', connections: 32, path: '/livez' },
  { case: 'agent: GetKey, kept', connections: 32, path: '/GetKey?path=wallet' },
  // As the published clients ask.
  {
    case: 'agent: GetKey, kept, by POST',
    connections: 32,
    path: '/GetKey',
    body: '{"path":"wallet"}',
  },
  { case: 'agent: GetKey, a new name', connections: 1, path: '/GetKey?path=wallet%2F#' },
  { case: 'agent: GetTlsKey', connections: 1, path: '/GetTlsKey?subject=shop.example' },
  {
    case: 'agent: GetTlsKey with evidence',
    connections: 1,
    path: '/GetTlsKey?subject=shop.example&usage_ra_tls=true',
  },
]

/** By the names of kms-client.ts. */
const OF_KMS = [
  'KMS: /health, a new connection',
  'KMS: GetAppKey, a new connection',
  'KMS: GetAppKey, a new client',
  'KMS: /health, 16 connections',
  'KMS: GetAppKey, 16 connections',
  'KMS: GetAppKey, one connection',
  'KMS: SignCert',
]

export async function run({ quick, rounds = 3, seconds = quick ? 0.1 : 1, runtimes }) {
  const { variants, missing, remove } = await servers(runtimes)
  const samples = []
  try {
    for (let round = 0; round < (quick ? 1 : rounds); round++) {
      const own = variants.filter(({ app }) => app === 'cvmd')
      for (const variant of rotated(own, round)) {
        const simulating = { ...variant, args: [...variant.args, ...SIMULATE] }
        for (const part of [agent, kms]) {
          const rows = await part(simulating, seconds, quick)
          samples.push(...rows.map((row) => ({ runtime: variant.runtime, ...row })))
        }
      }
    }
  } finally {
    remove()
  }
  return { rows: rowsOf(samples), missing }
}

async function agent(variant, seconds, quick) {
  const server = await start(variant, { plugins: AGENT })
  try {
    const rows = []
    // Some of them are enough to see that they run.
    const asked = ASKED.filter((_, at) => !quick || at % 2 === 1)
    for (const { case: name, connections, path, body = '' } of asked) {
      const args = [join(server.folder, 'dstack.sock'), path, connections, body]
      const command = [process.execPath, [resolve('bench/unix-load.mjs'), ...args.map(String)]]
      rows.push({ case: name, ...(await measure(server, command, seconds, quick)) })
    }
    return rows
  } finally {
    await server.stop()
  }
}

async function kms(variant, seconds, quick) {
  const server = await start(variant, { plugins: KMS })
  try {
    const apps = { [APP.id]: { composeHashes: [APP.compose], allowAnyDevice: true } }
    const policy = { osImages: [IMAGE], kms: {}, apps }
    writeFileSync(join(server.folder, 'policy.json'), JSON.stringify(policy))
    const port = await servingPort(join(server.folder, 'cvmd.sock'))
    const rows = []
    for (const name of OF_KMS.filter((_, at) => !quick || at % 3 === 2)) {
      const [command, args] = typescript('node', 'bench/kms-client.ts')
      const client = [command, [...args, server.folder, String(port), name]]
      rows.push({ case: name, ...(await measure(server, client, seconds, quick)) })
    }
    return rows
  } finally {
    await server.stop()
  }
}

/**
 * Runs a program that asks for so many seconds and prints how long each answer took, on the
 * processor of those who ask.
 */
async function measure(server, [command, args], seconds, quick) {
  const ask = async (most) => {
    const [pinnedCommand, pinnedArgs] = pinned(1, command, [...args, String(most)])
    const options = { maxBuffer: 64 * 1024 * 1024 }
    const { stdout } = await promisify(execFile)(pinnedCommand, pinnedArgs, options)
    return JSON.parse(stdout)
  }
  if (!quick) await ask(seconds / 2)
  const before = server.cpuUs()
  const { times, ms } = await ask(seconds)
  return {
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
    perSecond: (times.length * 1000) / ms,
    cpuUs: (server.cpuUs() - before) / times.length,
  }
}

/** Where the KMS serves keys, once it has made its own. */
async function servingPort(socketPath) {
  const deadline = performance.now() + 20_000
  for (;;) {
    const { mode, address, reason } = JSON.parse(await get(socketPath, '/cvmd/kms'))
    if (mode === 'serving') return Number(/\d+$/.exec(address)[0])
    if (performance.now() > deadline) throw new Error(`the KMS does not serve: ${reason}`)
    await wait(20)
  }
}

function get(socketPath, path) {
  return new Promise((done, failed) => {
    const asked = request({ socketPath, path }, (answer) => {
      let body = ''
      answer.setEncoding('utf8')
      answer.on('data', (text) => {
        body += text
      })
      answer.on('end', () => done(body))
    })
    asked.once('error', failed)
    asked.end()
  })
}

function rowsOf(samples) {
  const rows = new Map()
  for (const sample of samples) {
    const key = `${sample.case}\0${sample.runtime}`
    rows.set(key, [...(rows.get(key) ?? []), sample])
  }
  return [...rows.values()].map((same) => {
    const [{ runtime, case: name }] = same
    const of = (key) => median(same.map((row) => row[key]))
    return {
      runtime,
      case: name,
      'median ms': of('p50Ms'),
      'p99 ms': of('p99Ms'),
      'req/s': of('perSecond'),
      'cpu µs/req': of('cpuUs'),
    }
  })
}
