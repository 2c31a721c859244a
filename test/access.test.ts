import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { lacks } from './helpers/counterpart.ts'
import { type DaemonProcess, runCvmd, startDaemon } from './helpers/daemon.ts'

const PASSWORD = 'canary-password-1'
const CONFIG = `
[auth]
password_file = "{folder}/password"
[[listen]]
address = "127.0.0.1:0"
auth = ["basic", "key"]
[[listen]]
unix = "{folder}/run/cvmd.sock"
auth = "none"
[log]
requests = true
json = true
[plugins.actions.commands.one]
argv = ["echo", "one"]
env = { TOKEN = "canary-env" }
[plugins.actions.commands.two]
argv = ["echo", "two"]
`

let daemon: DaemonProcess
const tokens: Record<string, string> = {}

before(async () => {
  daemon = await startDaemon({ config: CONFIG })
  const env = { CVMD_STATE_DIR: join(daemon.folder, 'state') }
  const config = join(daemon.folder, 'cvmd.toml')
  for (const [name, scope] of [
    ['reader', 'events:read'],
    ['one', 'actions:run:one,actions:read'],
    ['all', '*'],
  ] as const) {
    const { stdout, stderr } = await runCvmd(
      ['key', 'add', name, '--scope', scope, '--config', config],
      env,
    )
    assert.match(stdout, /^cvmd_/, stderr)
    tokens[name] = stdout.trim()
  }
})
after(async () => {
  await daemon.stop()
})

const bearer = (name: string) => ({ authorization: `Bearer ${tokens[name]}` })
const basic = (password: string) => ({ authorization: `Basic ${btoa(`admin:${password}`)}` })
const status = async (path: string, init?: RequestInit) => (await daemon.get(path, init)).status

test('without credentials nothing is served, before a password is set either', async () => {
  for (const path of ['/livez', '/logs', '/cvmd/plugins', '/nowhere']) {
    assert.equal(await status(path), 401, path)
  }
  const refused = await daemon.get('/logs')
  assert.match(
    refused.headers.get('www-authenticate') ?? '',
    /Basic realm="cvmd".*Bearer|Bearer.*Basic/,
  )
  assert.equal(refused.headers.get('content-type'), 'application/problem+json')
})

test('a key made by the command line works at once, within its scopes', async () => {
  assert.equal(await status('/logs', { headers: bearer('reader') }), 200)
  assert.equal(
    await status('/cvmd/actions/one/runs', { method: 'POST', headers: bearer('reader') }),
    403,
  )
  const run = await daemon.get('/cvmd/actions/one/runs?wait=1', {
    method: 'POST',
    headers: bearer('one'),
  })
  assert.equal(run.status, 200, await run.clone().text())
  assert.equal(
    await status('/cvmd/actions/two/runs', { method: 'POST', headers: bearer('one') }),
    403,
  )
  assert.equal(
    await status('/cvmd/actions/%74wo/runs', { method: 'POST', headers: bearer('one') }),
    403,
  )
  assert.equal(
    await status('/cvmd/actions/two/runs?wait=1', { method: 'POST', headers: bearer('all') }),
    200,
  )
  assert.equal(await status('/cvmd/reload', { method: 'POST', headers: bearer('reader') }), 403)
})

test('the password can be set by who may, and then opens everything', async () => {
  const set = { method: 'POST', body: PASSWORD }
  assert.equal(await status('/api/v1/set-basic-auth', { ...set, headers: bearer('reader') }), 403)
  assert.equal(await status('/api/v1/set-basic-auth', { ...set, headers: bearer('all') }), 200)
  assert.equal(await status('/logs', { headers: basic(PASSWORD) }), 200)
  assert.equal(await status('/logs', { headers: basic('wrong') }), 401)
  assert.equal(statSync(join(daemon.folder, 'password')).mode & 0o777, 0o600)
})

test('a withdrawn key stops working', async () => {
  const env = { CVMD_STATE_DIR: join(daemon.folder, 'state') }
  const config = join(daemon.folder, 'cvmd.toml')
  await runCvmd(['key', 'remove', 'reader', '--config', config], env)
  let seen = 200
  for (let i = 0; i < 60 && seen === 200; i++) {
    await new Promise((tick) => setTimeout(tick, 50))
    seen = await status('/logs', { headers: bearer('reader') })
  }
  assert.equal(seen, 401)
})

test('pages of other sites are kept out', async (t) => {
  const good = bearer('all')
  const post = (headers: Record<string, string>, path = '/cvmd/actions/one/runs?wait=1') =>
    status(path, { method: 'POST', headers: { ...good, ...headers } })
  assert.equal(await post({ origin: 'http://evil.example' }), 403)
  assert.equal(await post({ origin: 'null' }), 403)
  assert.equal(await post({ referer: 'http://evil.example/page' }), 403)
  assert.equal(await post({ 'sec-fetch-site': 'cross-site' }), 403)
  assert.equal(await post({ origin: `http://127.0.0.1:${daemon.ports[0]}` }), 200)
  for (const path of ['/api/v1/actions/one', '/api/v1/new_event?message=x']) {
    assert.equal(await status(path, { headers: { ...good, 'sec-fetch-site': 'cross-site' } }), 403)
    assert.equal(await status(path, { headers: { ...good, referer: 'http://evil.example/' } }), 403)
    assert.equal(await status(path, { headers: good }), 200)
  }
  if (lacks(t, 'curl')) return
  // A name that was rebound to this address; fetch may not set Host, curl may.
  const rebound = execCurl([
    '-H',
    'Host: evil.example',
    '-H',
    `Authorization: Bearer ${tokens.all}`,
    '/logs',
  ])
  assert.equal(rebound, '421')
  assert.equal(
    execCurl(['-H', 'Host: localhost:99', '-H', `Authorization: Bearer ${tokens.all}`, '/logs']),
    '200',
  )
})

function execCurl(args: readonly string[]): string {
  const path = args.at(-1)
  const flags = ['-s', '-o', '/dev/null', '-w', '%{http_code}', ...args.slice(0, -1)]
  return execFileSync('curl', [...flags, `http://127.0.0.1:${daemon.ports[0]}${path}`], {
    encoding: 'utf8',
  })
}

test('refused calls are in the event log, without a flood', async () => {
  for (let i = 0; i < 6; i++) await status('/logs', { headers: basic(`guess-${i}`) })
  const events = await (
    await daemon.get('/cvmd/events?source=cvmd', { headers: bearer('all') })
  ).json()
  const messages = (events as { events: { message: string }[] }).events.map((e) => e.message)
  const refusals = messages.filter((message) => message.startsWith('refused'))
  assert.ok(
    refusals.some((message) => /refused GET \/livez from 127\.0\.0\.1: Unauthorized/.test(message)),
  )
  assert.ok(refusals.length < 12, refusals.join('\n'))
})

test('after failed tries a peer has to wait, but a known caller does not', async () => {
  assert.equal(await status('/logs', { headers: basic(PASSWORD) }), 200)
  const statuses = new Set<number>()
  for (let i = 0; i < 30; i++) statuses.add(await status('/logs', { headers: basic(`guess-${i}`) }))
  assert.ok(statuses.has(429), [...statuses].join())
  const slowed = await daemon.get('/logs', { headers: basic('again') })
  assert.equal(slowed.status, 429)
  assert.ok(Number(slowed.headers.get('retry-after')) > 0)
  assert.equal(await status('/logs', { headers: basic(PASSWORD) }), 200)
})

test('request lines are JSON with what an operator looks for', () => {
  const lines = daemon
    .output()
    .split('\n')
    .filter((line) => line.includes('"route":"/cvmd/actions/:name/runs"'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  const line = lines.find(({ status: code }) => code === 403)
  assert.deepEqual(
    { ...line, timestamp: '', ms: 0, peer: '', listener: '', msg: '' },
    {
      timestamp: '',
      level: 'INFO',
      msg: '',
      service: 'cvmd',
      method: 'POST',
      route: '/cvmd/actions/:name/runs',
      status: 403,
      ms: 0,
      listener: '',
      caller: 'reader',
      peer: '',
    },
  )
})

test('metrics count requests, events and action runs', async () => {
  const text = await (await daemon.get('/cvmd/metrics', { headers: bearer('all') })).text()
  assert.match(
    text,
    /cvmd_http_request_duration_seconds_count\{method="GET",route="\/logs",status="200"\} \d+/,
  )
  assert.match(text, /^cvmd_action_runs_total\{.*action="one".*\} \d+/m)
  assert.match(text, /^cvmd_events_total/m)
  assert.match(text, /^process_/m)
})

test('no secret reaches log, events, metrics, state or the process list', async () => {
  const planted = [PASSWORD, 'canary-env', ...Object.values(tokens).map((t) => t.slice(-43))]
  const texts = [daemon.output()]
  for (const path of [
    '/logs',
    '/cvmd/events',
    '/cvmd/metrics',
    '/cvmd/plugins',
    '/cvmd/actions',
    '/cvmd/actions/runs',
    '/cvmd/openapi.json',
  ]) {
    texts.push(await (await daemon.get(path, { headers: bearer('all') })).text())
  }
  texts.push(readFileSync(`/proc/${daemon.child.pid}/cmdline`, 'utf8'))
  const state = join(daemon.folder, 'state')
  for (const name of readdirSync(state, { recursive: true, encoding: 'utf8' })) {
    const file = join(state, name)
    if (statSync(file).isFile()) texts.push(readFileSync(file, 'utf8'))
  }
  for (const [i, text] of texts.entries()) {
    for (const secret of planted) assert.ok(!text.includes(secret), `${secret.slice(0, 8)} in ${i}`)
  }
})
