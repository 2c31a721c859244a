import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readlinkSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { lastingArgv } from '../src/process/lasting-argv.ts'
import { installed, lacks } from './helpers/counterpart.ts'
import { freshFolder } from './helpers/daemon.ts'
import { eventually } from './supervisor/eventually.ts'

test('a program that outlives the daemon has none of its sockets', async (t) => {
  if (lacks(t, 'bash', process.platform === 'linux' && installed('bash'))) return
  const folder = freshFolder()
  const server = createServer(() => {})
  server.listen(join(folder, 'socket'))
  await once(server, 'listening')
  t.after(() => {
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  const words = ['a b', "c'd", '$HOME', '*']
  const [program = '', ...args] = lastingArgv(['busybox', 'sh', '-c', 'sleep 60', ...words])
  const child = spawn(program, args, { stdio: 'ignore', detached: true })
  t.after(() => process.kill(-(child.pid as number), 'SIGKILL'))
  const shown = await eventually(
    'it runs',
    () =>
      readdirSync(`/proc/${child.pid}/fd`).map((fd) => readlinkSync(`/proc/${child.pid}/fd/${fd}`)),
    () => readlinkSync(`/proc/${child.pid}/exe`).includes('busybox'),
  )
  assert.deepEqual(
    shown.filter((one) => one.startsWith('socket:')),
    [],
  )
})

test('one that is missing fails as ever', async () => {
  for (const program of ['/nonexistent/program', 'cvmd-nonexistent']) {
    const [first = '', ...args] = lastingArgv([program])
    const [error] = await once(spawn(first, args, { stdio: 'ignore' }), 'error')
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOENT')
  }
})
