import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { cvmdCommand, freshFolder, runCvmd, startDaemon } from './helpers/daemon.ts'
import { digestOf, writeModule, writePlugin } from './helpers/plugin-files.ts'

interface Report {
  readonly ok: boolean
  readonly results: readonly { check: string; ok: boolean; detail: string }[]
}

test('a new plugin passes the suite, is served, and is never overwritten', async () => {
  const folder = freshFolder()
  const made = await runCvmd(['plugin', 'new', 'greeter', '--dir', folder])
  assert.equal(made.status, 0, made.stderr)
  const home = join(folder, 'greeter')
  const module = join(home, 'index.js')

  const tested = await runCvmd(['plugin', 'test', home, '--json'])
  assert.equal(tested.status, 0, tested.stdout + tested.stderr)
  const report = JSON.parse(tested.stdout) as Report
  assert.ok(report.ok)
  assert.ok(report.results.length > 15)

  const config = `[[listen]]\naddress = "127.0.0.1:0"
[[external]]\npath = "${module}"\nsha256 = "${digestOf(module)}"\n`
  const daemon = await startDaemon({ folder, config })
  try {
    const answer = await daemon.get('/greeter/hello/ada')
    assert.deepEqual(await answer.json(), { message: 'hello ada' }, daemon.output())
    assert.equal((await daemon.get('/greeter/hello/nobody')).status, 404)
  } finally {
    assert.equal(await daemon.stop(), 0)
  }

  const before = readFileSync(module, 'utf8')
  const again = await runCvmd(['plugin', 'new', 'greeter', '--dir', folder])
  assert.equal(again.status, 1)
  assert.match(again.stderr, /is there already/)
  assert.equal(readFileSync(module, 'utf8'), before)
  const misnamed = await runCvmd(['plugin', 'new', '../Greeter', '--dir', folder])
  assert.equal(misnamed.status, 1)
  assert.match(misnamed.stderr, /the name must match/)
  rmSync(folder, { recursive: true, force: true })
})

test('the test that comes with a new plugin passes', async () => {
  const folder = freshFolder()
  await runCvmd(['plugin', 'new', 'greeter', '--dir', folder])
  const file = join(folder, 'greeter', 'greeter.test.mjs')
  const [command, args] = cvmdCommand([])
  const runner = { node: ['--test', file], bun: ['test', file], deno: ['test', '-A', file] }
  // A test that runs inside another one reports to it, unless it does not know of it.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const child = spawn(process.execPath, runner[runtime], {
    env: { ...env, CVMD: [command, ...args].join(' ') },
    cwd: join(folder, 'greeter'),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data
    })
  }
  const status = await new Promise((done) => child.once('close', done))
  assert.equal(status, 0, output)
  rmSync(folder, { recursive: true, force: true })
})

test('cvmd plugin test exits with 1 and says what is wrong', async () => {
  const folder = freshFolder()
  const hasty = writePlugin(
    folder,
    'hasty',
    "setup() { fetch('http://127.0.0.1:9/').catch(() => {}); return { routes: new Hono() } }",
  )
  const tested = await runCvmd(['plugin', 'test', hasty, '--json'])
  assert.equal(tested.status, 1, tested.stderr)
  const { results } = JSON.parse(tested.stdout) as Report
  const failed = results.filter(({ ok }) => !ok)
  assert.deepEqual(failed, [{ check: 'setup is pure', ok: false, detail: 'fetch' }])

  const broken = await runCvmd(['plugin', 'test', writeModule(folder, 'broken', 'throw null')])
  assert.equal(broken.status, 1)
  assert.match(broken.stdout, /^FAILED the module exports a plugin \(null\)/)
  const missing = await runCvmd(['plugin', 'test', join(folder, 'missing.mjs')])
  assert.equal(missing.status, 1)
  assert.match(missing.stderr, /there is no ".*missing\.mjs"/)
  rmSync(folder, { recursive: true, force: true })
})
