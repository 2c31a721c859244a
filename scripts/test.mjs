// Runs the test suite on one runtime: `node scripts/test.mjs node|bun|deno [file or name part ...]`.
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'

/** For a whole suite, in milliseconds. */
const LIMIT_MS = 45 * 60_000

/** Files at a time of the same process, as many processes as Node's runner is given. */
const BATCH = 8
const PROCESSES = 2

const [runtime = 'node', ...parts] = process.argv.slice(2)
const files = readdirSync('test', { recursive: true })
  .map((name) => `./test/${name}`)
  .filter((name) => name.endsWith('.test.ts'))
  .filter((name) => parts.length === 0 || parts.some((part) => name.includes(part)))
  .sort()

if (files.length === 0) throw new Error(`no test file is named like ${parts.join(' or ')}`)

const bin = (name) => `./node_modules/.bin/${name}`
const commands = {
  // The limit is for a whole file, and names it. Bun's is for each test; Deno has none.
  node: [
    process.execPath,
    '--import',
    'tsx',
    '--test',
    '--test-concurrency=2',
    '--test-timeout=900000',
  ],
  bun: [bin('bun'), '--no-install', 'test', '--timeout', '60000'],
  deno: [bin('deno'), 'test', '-A', '--no-check', '--quiet'],
}
const [command, ...args] = commands[runtime]
const env = { ...process.env, CVMD_TEST_RUNTIME: runtime, NO_COLOR: '1' }
const running = new Set()
let failed = false

/** Runs some files in one process. Its output appears at once, or as a whole when it has ended. */
function run(names, stdio) {
  return new Promise((done) => {
    const child = spawn(command, [...args, ...names], { stdio, env })
    running.add(child)
    const output = []
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (data) => output.push(data))
    child.once('error', (error) => output.push(Buffer.from(`${error.message}\n`)))
    child.once('close', (status) => {
      running.delete(child)
      process.stdout.write(Buffer.concat(output))
      if (status !== 0) failed = true
      done()
    })
  })
}

const late = setTimeout(() => {
  console.error(`tests on ${runtime}: not done within ${LIMIT_MS / 60_000} minutes`)
  failed = true
  batches.length = 0
  for (const child of running) child.kill()
}, LIMIT_MS)

// Node's runner has processes of its own, one for each file.
const batches = []
const size = runtime === 'node' || files.length <= BATCH ? files.length : BATCH
for (let i = 0; i < files.length; i += size) batches.push(files.slice(i, i + size))
const stdio = batches.length > 1 ? ['ignore', 'pipe', 'pipe'] : 'inherit'
const worker = async () => {
  for (let next = batches.shift(); next; next = batches.shift()) await run(next, stdio)
}
await Promise.all(Array.from({ length: PROCESSES }, worker))
clearTimeout(late)
process.exit(failed ? 1 : 0)
