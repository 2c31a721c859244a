/** Every command of the plugin's README, on the real plugin and a real engine. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lacks } from '../helpers/counterpart.ts'
import { TEST_IMAGE, useEngine } from '../helpers/engine.ts'
import { countCurls, fencedBlocks, shownCommands } from '../helpers/markdown.ts'
import { serveSupervisor, untilAnswer } from './supervisor-server.ts'

const engineOf = useEngine()

/** Not synchronous: the server is in this process. */
async function run(command: string, cwd: string, key: string) {
  const child = spawn('sh', ['-c', command], { cwd, env: { ...process.env, KEY: key } })
  let output = ''
  child.stdout.on('data', (data) => {
    output += data
  })
  child.stderr.on('data', (data) => {
    output += data
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
  const [status] = await once(child, 'close')
  clearTimeout(timer)
  return { status, output }
}

test('plugins/supervisor/README.md: every curl works', async (t) => {
  if (lacks(t, 'curl')) return
  const engine = await engineOf(t)
  if (!engine) return
  const blocks = fencedBlocks(readFileSync('plugins/supervisor/README.md', 'utf8'))
  const target = blocks.find(({ info }) => info === 'json')?.text ?? ''
  const shell = blocks.filter(({ info }) => info === 'sh')
  const commands = shell.flatMap(shownCommands)
  assert.equal(
    commands.length,
    shell.map(({ text }) => countCurls(text)).reduce((a, b) => a + b),
  )
  const server = await serveSupervisor(engine.socketPath)
  try {
    writeFileSync(join(server.folder, 'target.json'), target.replace('busybox:latest', TEST_IMAGE))
    let key = ''
    for (const { command } of commands) {
      const line = command
        .replace('/run/cvmd/cvmd.sock', server.socket)
        .replace('127.0.0.1:48484', `127.0.0.1:${server.port}`)
        .replace('127.0.0.1:3535', `127.0.0.1:${server.operatorPort}`)
        .replace(/curl /, 'curl -sS --fail-with-body ')
      if (command.startsWith('KEY=')) {
        const { output } = await run(`${line}; printf %s "$KEY"`, server.folder, '')
        assert.match(output, /^[0-9a-f]{64}$/)
        key = output
        continue
      }
      const { status, output } = await run(line, server.folder, key)
      const ends = command.includes('--max-time') ? 28 : 0
      assert.equal(status, ends, `${command}\n${output}\n${server.messages().slice(-5).join('\n')}`)
      if (command.includes('target.json')) {
        await untilAnswer(server, '/v2/applications/state', (text) => text.includes('"Running"'))
      }
      if (command.includes('/v1/reboot')) {
        // Nothing is begun while the machine is about to go down.
        await untilAnswer(server, '/ping', () => server.messages().includes('reboot dry-run'))
      }
      if (command.includes('/v2/local/logs')) assert.match(output, /^\{"message":"Streaming logs"/)
      if (command.includes('"appId":101,"data"')) {
        assert.deepEqual(JSON.parse(output), [
          { uuid: '0123456789abcdef0123456789abcdef', status: 204, body: '' },
        ])
      }
    }
    assert.ok(!server.messages().join('\n').includes(key))
  } finally {
    await server.stop()
    await engine.clear()
  }
})
