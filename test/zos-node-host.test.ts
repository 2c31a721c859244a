import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { cpus, networkInterfaces, tmpdir, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { type TestContext, test } from 'node:test'
import { within } from '../src/deadline.ts'
import { lacks } from './helpers/counterpart.ts'
import { folder, nodeFacts, programs } from './helpers/zos-node.ts'

const TOOLS = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

test('this machine: figures agree with what the runtime says', async (t) => {
  const { facts, log } = nodeFacts(t, {
    dataFolders: [{ path: tmpdir(), type: 'ssd' }],
    path: TOOLS,
  })
  const { total, system } = await facts.capacity()
  assert.ok(total.cru >= 1n && total.cru <= BigInt(cpus().length))
  assert.ok(total.mru >= BigInt(totalmem()))
  assert.ok(system.mru >= 2n * 1024n ** 3n)
  const available = await facts.availableMemory()
  assert.ok(available > 0n && available <= total.mru)
  const [pool] = await facts.pools()
  assert.equal(pool?.size, total.sru)
  assert.ok(pool && pool.used > 0n && pool.used < pool.size)
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? [])
  for (const ip of Object.values(await facts.interfaces()).flat()) {
    assert.ok(
      own.some(({ address }) => address === ip),
      ip,
    )
  }
  assert.ok(!('lo' in (await facts.adminInterfaces())))
  assert.equal(typeof (await facts.hasIpv6()), 'boolean')
  assert.equal(typeof (await facts.hypervisor()), 'string')
  assert.ok(Array.isArray((await facts.dmi()).sections))
  assert.deepEqual((await facts.wireguardPorts()).slice(0, 3), [80, 300, 443])
  assert.equal(new Set(log).size, log.length)
})

test('this machine: connections are counted as they come and go', async (t) => {
  const { facts } = nodeFacts(t, { now: clock() })
  const before = await facts.openConnections()
  const server = createServer((socket) => void socket.on('error', () => {}))
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const sockets = Array.from({ length: 100 }, () => connect(address.port, '127.0.0.1'))
  try {
    await Promise.all(
      sockets.map((socket) => new Promise<void>((done) => socket.once('connect', () => done()))),
    )
    // Both ends are here; other programs' may have ended meanwhile.
    assert.ok((await facts.openConnections()) >= before + 200 - 100)
  } finally {
    for (const socket of sockets) socket.destroy()
    await new Promise((done) => server.close(done))
  }
})

/** Every question is a new one. */
function clock(): () => number {
  let now = 0
  return () => {
    now += 10_000
    return now
  }
}

/** Asks everything in another process and prints the answers. */
const ask = (reader = '') => `
import { createNodeFacts } from '${resolve('plugins/zos/node/create-node-facts.ts')}'
const log = []
const facts = createNodeFacts({
  root: '/',
  dataFolders: [{ path: '/tmp' }],
  stateFolder: '/nonexistent/state',
  version: '1.2.3',
  workloadPorts: () => [],
  workloads: () => 0,
  log: { warn: (message) => log.push(message) },
  ${reader}
})
await facts.start()
const names = ['openConnections', 'wireguardPorts', 'hasIpv6', 'interfaces', 'adminInterfaces',
  'publicNic', 'version', 'dmi', 'hypervisor']
const answers = {}
for (const name of names) answers[name] = await facts[name]()
answers.cru = Number((await facts.capacity()).total.cru)
answers.mru = Number((await facts.capacity()).total.mru)
answers.pools = (await facts.pools()).length
answers.refused = await facts.setPublicNic('nothing').catch((error) => error.message)
await facts.stop()
console.log(JSON.stringify({ answers, log }))
`

/** A script that others may read, and a folder where anybody may write. */
function places(t: TestContext, script: string) {
  const [home, scripts] = [folder(t), folder(t)]
  chmodSync(home, 0o777)
  chmodSync(scripts, 0o755)
  const file = join(scripts, 'ask.mts')
  writeFileSync(file, script)
  return { home, file }
}

async function answersOf(argv: readonly string[], home: string, uid?: number) {
  const [program = '', ...args] = argv
  const child = spawn(program, args, {
    ...(uid === undefined ? {} : { uid, gid: uid }),
    env: { PATH: TOOLS, HOME: home, TMPDIR: home, DENO_DIR: home, DENO_NO_UPDATE_CHECK: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  }
  const ended = new Promise<number | null>((done, fail) => {
    child.on('close', done)
    child.on('error', fail)
  })
  try {
    const code = await within(50_000, ended, 'end')
    assert.equal(code, 0, output.stderr.slice(-2000))
  } finally {
    child.kill('SIGKILL')
  }
  return JSON.parse(output.stdout) as { answers: Record<string, unknown>; log: string[] }
}

function checkAnswers({ answers, log }: Awaited<ReturnType<typeof answersOf>>): void {
  assert.ok(Number(answers.cru) >= 1)
  assert.equal(answers.pools, 1)
  assert.equal(answers.refused, 'Link not found')
  assert.equal(typeof answers.hypervisor, 'string')
  assert.deepEqual(answers.publicNic, { is_single: true, is_dual: false, dual_interface: '' })
  assert.equal(new Set(log).size, log.length)
}

test('a user without privileges gets every answer', async (t) => {
  if (lacks(t, 'root', process.getuid?.() === 0)) return
  const { home, file } = places(t, ask())
  const args = {
    node: ['--import', 'tsx', file],
    bun: [file],
    deno: ['run', '-A', '--no-check', file],
  }
  const runtime = (process.env.CVMD_TEST_RUNTIME ?? 'node') as keyof typeof args
  checkAnswers(await answersOf([process.execPath, ...args[runtime]], home, 65_534))
})

const READER = `reader: {
  list: () => Promise.reject(new Error('no')),
  read: async (path) => {
    const texts = {
      '/proc/meminfo': 'MemTotal: 1000 kB\\n',
      '/proc/net/tcp6': '  0: 0100007F:0CEB 0100007F:8DF2 01 0',
    }
    if (!(path in texts)) throw new Error('no')
    return new TextEncoder().encode(texts[path])
  },
},`

for (const reader of ['', READER]) {
  const what = reader === '' ? 'gives every answer' : 'reads by the second reader'
  test(`Deno with few permissions ${what}, and says what it may not see`, async (t) => {
    const deno = resolve('node_modules/.bin/deno')
    if (lacks(t, 'deno', existsSync(deno))) return
    const { home, file } = places(t, ask(reader))
    const allowed = ['--allow-sys', `--allow-read=${resolve('.')},/tmp`]
    const found = await answersOf(
      [
        process.execPath.includes('deno') ? process.execPath : deno,
        'run',
        '--no-prompt',
        '--no-check',
        ...allowed,
        file,
      ],
      home,
    )
    checkAnswers(found)
    const { answers, log } = found
    const said = log.join('\n')
    assert.match(said, /^Open connections are given as 0: /m)
    assert.match(said, /^NICs are told from others by their names: /m)
    assert.match(said, /^"\/tmp" counts as SSD: /m)
    assert.equal(answers.openConnections, reader === '' ? 0 : 1)
    if (reader !== '') assert.equal(answers.mru, 1000 * 1024)
  })
}

test('files that the runtime may read are read without the second reader', async (t) => {
  const { facts } = nodeFacts(t, {
    reader: {
      read: async () => assert.fail('nothing was refused'),
      list: async () => assert.fail('nothing was refused'),
    },
  })
  assert.ok((await facts.capacity()).total.mru > 0n)
})

test('programs of a node that stops end with it', async (t) => {
  const path = `${programs(t, { dmidecode: 'echo $$ > "$0.pid"; exec sleep 60' })}:${TOOLS}`
  const { facts } = nodeFacts(t, { path })
  const asked = facts.dmi()
  const pidFile = join(path.split(':')[0] ?? '', 'dmidecode.pid')
  await within(20_000, started(pidFile), 'start')
  await facts.stop()
  assert.deepEqual((await within(20_000, asked, 'answer')).tooling.aggregator, '/sys/class/dmi/id')
  const pid = Number(readFileSync(pidFile, 'utf8'))
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
  // From now on nothing is started.
  assert.equal((await facts.version()).zinit, '"zinit" is not started while the daemon stops')
})

async function started(pidFile: string): Promise<void> {
  for (;;) {
    try {
      if (readFileSync(pidFile, 'utf8').endsWith('\n')) return
    } catch {
      // Not yet.
    }
    await new Promise((done) => setTimeout(done, 20))
  }
}
