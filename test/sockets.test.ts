import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshFolder, startDaemon, unixRequest } from './helpers/daemon.ts'

const UNIX = '[[listen]]\nunix = "{folder}/run/cvmd.sock"\n'

/** Starts a daemon that is expected not to come up; gives what it printed and its status. */
async function refused(options: Parameters<typeof startDaemon>[0]): Promise<string> {
  try {
    const daemon = await startDaemon(options)
    await daemon.stop()
  } catch (error) {
    return (error as Error).message
  }
  return 'it started'
}

test('mode and group of a socket are as configured', async () => {
  const groups = process.getgroups?.() ?? []
  const group = groups.at(-1) ?? process.getgid?.() ?? 0
  const daemon = await startDaemon({ config: `${UNIX}mode = "0620"\ngroup = "${group}"\n` })
  const info = statSync(daemon.socket)
  assert.equal(info.mode & 0o777, 0o620)
  assert.equal(info.gid, group)
  assert.equal(await daemon.stop(), 0)
  const nobody = await refused({ config: `${UNIX}group = "nosuchgroup"\n` })
  assert.match(nobody, /status 1[\s\S]*there is no group "nosuchgroup"/)
})

test('a socket left by kill -9 is replaced; a live one is not', async () => {
  const folder = freshFolder()
  const first = await startDaemon({ config: UNIX, folder })
  first.signal('SIGKILL')
  await first.exited()
  assert.ok(statSync(first.socket).isSocket(), 'the kernel leaves the file')
  const second = await startDaemon({ config: UNIX, folder })
  assert.equal((await unixRequest(second.socket, '/livez')).status, 200)

  // The same socket with another state directory, and the same state directory elsewhere.
  const sameSocket = await refused({
    config: `[[listen]]\nunix = "${second.socket}"\n`,
  })
  assert.match(sameSocket, /status 75[\s\S]*another cvmd is running there/)
  const sameState = await refused({
    config: '[[listen]]\nunix = "{folder}/run/other.sock"\n',
    env: { CVMD_STATE_DIR: join(folder, 'state') },
  })
  assert.match(sameState, /status 75[\s\S]*another cvmd is using it/)
  assert.equal((await unixRequest(second.socket, '/livez')).status, 200, 'undisturbed')
  assert.equal(await second.stop(), 0)
})

test('what is no socket is never removed', async () => {
  const folder = freshFolder()
  mkdirSync(join(folder, 'run'))
  writeFileSync(join(folder, 'run/cvmd.sock'), 'precious')
  assert.match(await refused({ config: UNIX, folder }), /status 1[\s\S]*no socket is in the way/)
  assert.equal(readFileSync(join(folder, 'run/cvmd.sock'), 'utf8'), 'precious')
})

test('a foreign program that answers on the socket is left alone', async () => {
  const folder = freshFolder()
  mkdirSync(join(folder, 'run'))
  const server = createServer((socket) => socket.end())
  await new Promise<void>((up) => server.listen(join(folder, 'run/cvmd.sock'), up))
  assert.match(await refused({ config: UNIX, folder }), /status 75/)
  await new Promise((closed) => server.close(closed))
})

test('a folder that others may write to is refused', async () => {
  const folder = freshFolder()
  mkdirSync(join(folder, 'run'))
  chmodSync(join(folder, 'run'), 0o777)
  assert.match(
    await refused({ config: UNIX, folder }),
    /status 1[\s\S]*others may write in .*chmod go-w/,
  )
  chmodSync(join(folder, 'run'), 0o1777)
  const daemon = await startDaemon({ config: UNIX, folder })
  assert.equal(await daemon.stop(), 0, 'the sticky bit keeps others from replacing it')
})

test('the state directory is private', async () => {
  const daemon = await startDaemon({ config: UNIX })
  for (const path of ['state', 'state/eventlog', 'state/uploads']) {
    assert.equal(statSync(join(daemon.folder, path)).mode & 0o777, 0o700, path)
  }
  await daemon.stop()
})

test('a request under way is finished when the daemon stops, an open stream is ended', async () => {
  const daemon = await startDaemon({
    config: `${UNIX}[plugins.actions.commands.slow]\nargv = ["sleep", "0.6"]\n`,
  })
  const slow = unixRequest(daemon.socket, '/cvmd/actions/slow/runs?wait=1', { method: 'POST' })
  const stream = unixRequest(daemon.socket, '/cvmd/events/stream')
  await new Promise((tick) => setTimeout(tick, 250))
  const began = Date.now()
  const status = daemon.stop()
  assert.equal((await stream).status, 200)
  assert.ok([200, 503].includes((await slow).status))
  assert.equal(await status, 0)
  assert.ok(Date.now() - began < 9_000, 'not held until the deadline')
})

test('a connection that never sent anything does not hold the stop', async () => {
  const daemon = await startDaemon({ config: UNIX })
  const idle = connect(daemon.socket)
  idle.on('error', () => undefined)
  await new Promise((up) => idle.once('connect', up))
  await unixRequest(daemon.socket, '/livez')
  const began = Date.now()
  assert.equal(await daemon.stop(), 0)
  assert.ok(Date.now() - began < 9_000, 'not held until the deadline')
  idle.destroy()
})
