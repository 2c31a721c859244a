// `npm run bench -- [NAME ...]`: see README.md.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import * as fifo from './fifo.mjs'
import * as http from './http.mjs'
import { inProcess } from './in-process.mjs'
import * as kmsWire from './kms-wire.mjs'
import * as quote from './quote.mjs'
import * as startup from './startup.mjs'
import { table } from './stats.mjs'
import * as supervisor from './supervisor.mjs'
import { RUNTIMES, typescript } from './variants.mjs'
import * as zosBus from './zos-bus.mjs'
import * as zosHttp from './zos-http.mjs'

const BENCHES = {
  'event-ring': inProcess('bench/event-ring.ts'),
  dispatch: inProcess('bench/dispatch.ts'),
  attest: inProcess('bench/attest.ts'),
  kms: inProcess('bench/kms.ts'),
  'kms-wire': kmsWire.run,
  quote: quote.run,
  startup: startup.run,
  fifo: fifo.run,
  http: http.run,
  supervisor: supervisor.run,
  zos: inProcess('bench/zos.ts'),
  'zos-bus': zosBus.run,
  'zos-http': zosHttp.run,
  'zos-replay': inProcess('bench/zos-replay.ts'),
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    runtime: { type: 'string', multiple: true },
    json: { type: 'string' },
  },
})
assertKnown('benchmark', positionals, Object.keys(BENCHES))
assertKnown('runtime', values.runtime ?? [], RUNTIMES)

const options = {
  quick: values.quick,
  ...(values.rounds && { rounds: Number(values.rounds) }),
  ...(values.seconds && { seconds: Number(values.seconds) }),
  ...(values.runtime && { runtimes: values.runtime }),
}
const machine = {
  cpu: `${cpus().length} × ${cpus()[0]?.model}`,
  kernel: release(),
  node: process.version,
  bun: versionOf('bun'),
  deno: versionOf('deno'),
}
console.log(
  Object.entries(machine)
    .map(([key, value]) => `${key} ${value}`)
    .join(', '),
)
const results = {}
const missing = new Set()
for (const name of positionals.length > 0 ? positionals : Object.keys(BENCHES)) {
  const load = loadavg()[0]
  const result = await BENCHES[name](options)
  results[name] = { load, rows: result.rows }
  for (const line of result.missing) missing.add(line)
  console.log(`\n${name} (load ${load.toFixed(1)} before)\n${table(result.rows)}`)
}
for (const line of missing) console.log(`\nnot measured: ${line}`)
if (values.json) {
  const date = new Date().toISOString()
  const report = { date, machine, options, results, missing: [...missing] }
  writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`)
}

function assertKnown(kind, names, known) {
  const wrong = names.find((name) => !known.includes(name))
  if (wrong === undefined) return
  console.error(`there is no ${kind} "${wrong}", expected one of ${known.join(', ')}`)
  process.exit(2)
}

function versionOf(runtime) {
  const [command] = typescript(runtime, '')
  return execFileSync(command, ['--version'], { encoding: 'utf8' }).match(/\d+\.\d+\.\d+/)[0]
}
