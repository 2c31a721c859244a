// Runs the test suite on one runtime: `node scripts/test.mjs node|bun|deno [file or name part ...]`.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'

const [runtime = 'node', ...parts] = process.argv.slice(2)
const files = readdirSync('test', { recursive: true })
  .map((name) => `./test/${name}`)
  .filter((name) => name.endsWith('.test.ts'))
  .filter((name) => parts.length === 0 || parts.some((part) => name.includes(part)))
  .sort()

const bin = (name) => `./node_modules/.bin/${name}`
const commands = {
  // The limit is for a whole file, and names it. Bun's is for each test; Deno has none.
  node: [
    process.execPath,
    ['--import', 'tsx', '--test', '--test-concurrency=2', '--test-timeout=900000', ...files],
  ],
  bun: [bin('bun'), ['--no-install', 'test', '--timeout', '60000', ...files]],
  deno: [bin('deno'), ['test', '-A', '--no-check', '--quiet', ...files]],
}
const [command, args] = commands[runtime]
const { status, error } = spawnSync(command, args, {
  stdio: 'inherit',
  timeout: 45 * 60_000,
  env: { ...process.env, CVMD_TEST_RUNTIME: runtime, NO_COLOR: '1' },
})
if (error) console.error(`tests on ${runtime}: ${error.message}`)
process.exit(status ?? 1)
