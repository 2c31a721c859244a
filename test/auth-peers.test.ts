import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Hono } from 'hono'
import * as v from 'valibot'
import { KnownPeer, recognisePeers } from '../src/auth/peers.ts'
import { loadNative } from '../src/device/native.ts'
import { Exchange } from '../src/http/exchange.ts'
import { UnixPeers } from '../src/http/unix-peers.ts'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { lacks } from './helpers/counterpart.ts'
import { freshFolder, runCvmd, startDaemon, unixRequest } from './helpers/daemon.ts'
import { serveTest, type TestServer } from './helpers/http-server.ts'
import { RawClient } from './helpers/raw-http.ts'

const uid = process.getuid?.() ?? 0
const gid = process.getgid?.() ?? 0

const probe = definePlugin({
  name: 'probe',
  summary: 'Says who asks',
  config: v.strictObject({}),
  exposure: 'network',
  setup: () => ({
    routes: new Hono<PluginEnv>()
      .get('/probe/who', (c) => c.text(`${c.env.caller.kind} ${c.env.caller.name}`))
      .post('/probe/echo', async (c) => c.text(await c.req.text())),
  }),
})

const entry = (by: { uid?: number; gid?: number }, name = 'me'): KnownPeer => ({
  name,
  scopes: ['probe:*'],
  ...by,
})

async function serving(
  peers: readonly KnownPeer[],
  work: (server: TestServer, path: string) => Promise<void>,
): Promise<void> {
  const listen = { auth: ['peer', 'key'] as ('peer' | 'key')[], mode: '0666', max_connections: 20 }
  const server = await serveTest([probe], listen, { unix: true, peers })
  const path = 'unix' in server.target ? server.target.unix : ''
  try {
    await work(server, path)
  } finally {
    await server.stop()
  }
}

const get = async (path: string, headers: Record<string, string> = {}) => {
  const { status, body } = await unixRequest(path, '/probe/who', { headers })
  return `${status} ${status === 200 ? body : (JSON.parse(body) as { detail: string }).detail}`
}

function addonIsMissing(t: TestContext): boolean {
  return lacks(t, 'native-addon', 'readPeer' in loadNative())
}

test('the user and group of a program say who it is, the first entry that fits', async (t) => {
  if (addonIsMissing(t)) return
  for (const [entries, expected] of [
    [[entry({ uid })], '200 peer me'],
    [[entry({ gid })], '200 peer me'],
    [[entry({ uid: uid + 1, gid }), entry({ uid, gid }, 'both')], '200 peer both'],
    [[entry({ uid }, 'first'), entry({ uid }, 'second')], '200 peer first'],
    [[entry({ uid: uid + 1 })], `401 User ${uid} of group ${gid} is nobody known here`],
    [[entry({ uid, gid: gid + 1 })], `401 User ${uid} of group ${gid} is nobody known here`],
  ] as const) {
    await serving(entries, async (server, path) => {
      assert.equal(await get(path), expected)
      const { token } = await server.keys.add({ name: 'ci', scopes: ['probe:read'] })
      const caller = expected.startsWith('200') ? expected : '200 key ci'
      assert.equal(await get(path, { authorization: `Bearer ${token}` }), caller)
    })
  }
})

test('programs of other users are told apart, at the same time', async (t) => {
  if (addonIsMissing(t) || lacks(t, 'setpriv') || lacks(t, 'curl')) return
  if (lacks(t, 'root', uid === 0)) return
  await serving([entry({ uid: 4001 }, 'ada'), entry({ gid: 5002 }, 'team')], async (_, path) => {
    chmodSync(dirname(path), 0o755)
    const users: [uid: number, gid: number, expected: string][] = [
      [4001, 5001, 'peer ada'],
      [4002, 5002, 'peer team'],
      [4003, 5003, 'User 4003 of group 5003 is nobody known here'],
    ]
    const asked = Array.from({ length: 12 }, async (_, i) => {
      const [user, group, expected] = users[i % 3] as (typeof users)[number]
      assert.ok((await curlAs(user, group, path)).includes(expected))
    })
    await Promise.all(asked)
  })
})

function curlAs(user: number, group: number, path: string): Promise<string> {
  const who = [`--reuid=${user}`, `--regid=${group}`, '--clear-groups']
  const args = [...who, 'curl', '-s', '--unix-socket', path, 'http://localhost/probe/who']
  return new Promise((resolve, reject) => {
    const child = spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (data) => {
      text += data
    })
    child.once('error', reject)
    child.once('close', () => resolve(text))
  })
}

test('bodies, one request after another, and the limit of connections are as ever', async (t) => {
  if (addonIsMissing(t)) return
  await serving([entry({ uid })], async (_, path) => {
    const body = 'x'.repeat(1024 * 1024)
    assert.equal((await unixRequest(path, '/probe/echo', { method: 'POST', body })).body, body)
    const client = await RawClient.connect({ unix: path })
    for (let i = 0; i < 3; i++) {
      client.send('GET /probe/who HTTP/1.1\r\nHost: localhost\r\n\r\n')
      assert.equal((await client.answer(5000))?.body, 'peer me')
    }
    const others = await Promise.all(
      Array.from({ length: 25 }, () => RawClient.connect({ unix: path }).catch(() => undefined)),
    )
    const last = others.at(-1)
    assert.ok(!last || (await last.closed(5000)))
    for (const other of [client, ...others]) other?.destroy()
  })
})

test('a descriptor that is no connected Unix socket names nobody', async (t) => {
  if (addonIsMissing(t)) return
  const native = loadNative()
  assert.ok('readPeer' in native)
  const { readPeer } = native
  const file = openSync('README.md', 'r')
  assert.throws(() => readPeer(file), { code: 'ENOTSOCK' })
  closeSync(file)
  assert.throws(() => readPeer(2 ** 31 - 1), { code: 'EBADF' })
  for (const wrong of [-1, 0.5, 2 ** 31, Number.NaN, '1', undefined]) {
    assert.throws(() => readPeer(wrong as number), TypeError)
  }
  const folder = freshFolder()
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  for (const where of [{ path: join(folder, 's') }, { port: 0, host: '127.0.0.1' }]) {
    const server = createServer()
    await new Promise<void>((done) => server.listen(where, done))
    const { _handle: handle } = server as unknown as { _handle?: { fd?: number } }
    // A listening socket has this process's own credentials.
    if (typeof handle?.fd === 'number' && handle.fd >= 0) {
      assert.throws(() => readPeer(handle.fd as number), { code: 'ENOTCONN' })
    }
    assert.ok('path' in where || (server.address() as AddressInfo).port > 0)
    await new Promise((done) => server.close(done))
  }
})

test('who cannot be told is nobody', () => {
  const recognise = recognisePeers([entry({ uid: 0 }), entry({ gid: 0 })])
  const reading = new UnixPeers(() => {
    throw new Error('no')
  })
  for (const socket of [{}, { _handle: null }, { _handle: { fd: -1 } }, { _handle: { fd: 7 } }]) {
    reading.accepted(socket as never)
    const exchange = new Exchange('unix:/x', {
      peer: () => ({ address: 'unix', port: 0 }),
      hold: () => undefined,
      header: () => undefined,
      credentials: () => reading.of(socket as never),
    })
    assert.deepEqual(recognise(exchange), { refused: 'It cannot be told who is at the other end' })
  }
  assert.equal(v.safeParse(KnownPeer, entry({ uid: 65_534 })).success, false)
  assert.equal(v.safeParse(KnownPeer, entry({ uid: 2 ** 32 - 1 })).success, false)
})

test('a daemon takes it from the file, and refuses what could let anybody in', async (t) => {
  if (addonIsMissing(t)) return
  const config = `[[listen]]
unix = "{folder}/run/cvmd.sock"
auth = "peer"

[[auth.peers]]
name = "operator"
uid = ${uid}
scopes = ["cvmd:*", "events:read"]
`
  const daemon = await startDaemon({ config })
  try {
    const ready = await unixRequest(daemon.socket, '/cvmd/ready')
    assert.equal(ready.status, 200)
    const refused = await unixRequest(daemon.socket, '/cvmd/actions/runs')
    assert.match(refused.body, /Caller \\"operator\\" lacks the scope \\"actions:read\\"/)
    const at = join(daemon.folder, 'cvmd.toml')
    const text = config.replaceAll('{folder}', daemon.folder)
    const nobody = text.replace(`uid = ${uid}`, `uid = ${uid + 1}`)
    writeFileSync(at, nobody)
    const reload = await unixRequest(daemon.socket, '/cvmd/reload', { method: 'POST' })
    assert.equal(reload.status, 200)
    assert.equal((await unixRequest(daemon.socket, '/cvmd/ready')).status, 401)
    for (const [from, to, found] of [
      [/unix = .*/, 'address = "127.0.0.1:0"', /:3:1: listen\.0\.auth: "peer" needs a Unix socket/],
      [/\[\[auth[\s\S]*/, '', /:3:1: listen\.0\.auth: "peer" needs \[\[auth\.peers\]\]/],
      [/uid = .*/, '', /:5:1: auth\.peers\.0: give uid, gid or both/],
      [/uid = .*/, 'gid = 65534', /:7:1: auth\.peers\.0\.gid: 65534 stands for everybody/],
    ] as const) {
      writeFileSync(at, text.replace(from, to))
      const { status, stderr, stdout } = await runCvmd(['check', '--config', at])
      assert.equal(status, 78)
      assert.match(stdout + stderr, found)
    }
  } finally {
    await daemon.stop()
  }
})

test('without the addon nothing is served, and both commands say why', async (t) => {
  if (lacks(t, 'built', existsSync('dist/cvmd.js')) || lacks(t, 'node')) return
  const folder = freshFolder()
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const [program, at] = [join(folder, 'cvmd.mjs'), join(folder, 'cvmd.toml')]
  // Its addon would be beside it.
  copyFileSync('dist/cvmd.js', program)
  const peers = `[[auth.peers]]\nname = "me"\nuid = ${uid}\nscopes = ["*"]\n`
  writeFileSync(at, `[[listen]]\nunix = "${folder}/s"\nauth = "peer"\n${peers}`)
  for (const command of [['check'], []]) {
    const child = spawn('node', [program, ...command, '--config', at], {
      env: { ...process.env, CVMD_STATE_DIR: folder, CVMD_RUN_DIR: folder },
    })
    let text = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        text += data
      })
    }
    const status = await new Promise((done) => child.once('close', done))
    assert.equal(status, 78)
    assert.match(text, /:3:1: listen\.0\.auth: "peer" needs the native addon: .* does not exist/)
    assert.equal(existsSync(join(folder, 's')), false)
  }
})
