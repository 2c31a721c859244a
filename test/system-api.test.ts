import assert from 'node:assert/strict'
import { appendFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type DaemonProcess, startDaemon, unixRequest } from './helpers/daemon.ts'

// The session of the system-api README, against a file in that API's own form.
const CONFIG = `[general]
listen_addr = "127.0.0.1:0"
pipe_file = "pipe.fifo"
pprof = true
log_json = false
log_debug = true
basic_auth_secret_path = "basic-auth-secret.txt"
basic_auth_secret_salt = "D;%yL9TS:5PalS/d"
[actions]
echo_test = "echo test"
fails = "echo oops >&2; exit 3"
"with space" = "true"
[file_uploads]
testfile = "{folder}/testfile.txt"
`

let daemon: DaemonProcess

before(async () => {
  daemon = await startDaemon({ config: CONFIG })
})
after(async () => {
  await daemon.stop()
})

async function logs(until: string): Promise<string> {
  for (let i = 0; i < 200; i++) {
    const text = await (await daemon.get('/logs')).text()
    if (text.includes(until)) return text
    await new Promise((tick) => setTimeout(tick, 20))
  }
  throw new Error(`"${until}" never came`)
}

test('no event before the first one', async () => {
  const events = await daemon.get('/api/v1/events')
  assert.equal(await events.text(), '[]\n')
  assert.equal(events.headers.get('content-type'), 'application/json')
  assert.equal(await (await daemon.get('/logs')).text(), '')
})

test('the session of the README', async () => {
  appendFileSync(join(daemon.folder, 'pipe.fifo'), 'hello world\n')
  await logs('hello world')
  const event = await daemon.get('/api/v1/new_event?message=this+is+a+test')
  assert.equal(event.status, 200)
  assert.equal(event.headers.get('content-type'), null)
  assert.equal(event.headers.get('content-length'), '0')
  assert.equal(await event.text(), '')
  const action = await daemon.get('/api/v1/actions/echo_test')
  assert.equal(await action.text(), '{"message":"Action executed successfully"}\n')
  const upload = await daemon.get('/api/v1/file-upload/testfile', {
    method: 'POST',
    body: 'some text',
  })
  const path = join(daemon.folder, 'testfile.txt')
  assert.equal(
    await upload.text(),
    `{"file":"${path}","message":"File uploaded successfully","size_bytes":"9"}\n`,
  )
  assert.equal(readFileSync(path, 'utf8'), 'some text')
  const text = await logs('content: 9 bytes')
  const lines = text
    .split('\n')
    .map((line) => line.replace(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/, 'T'))
  assert.deepEqual(lines, [
    'T \t hello world',
    'T \t this is a test',
    'T \t [system-api] executing action: echo_test = echo test',
    'T \t [system-api] executing action success: echo_test = echo test',
    `T \t [system-api] file upload: testfile = ${path}`,
    `T \t [system-api] file upload success: testfile = ${path} - content: 9 bytes`,
    '',
  ])
  const events = (await (await daemon.get('/api/v1/events')).json()) as object[]
  assert.equal(events.length, 6)
  for (const entry of events) assert.deepEqual(Object.keys(entry), ['received_at', 'message'])
})

test('errors in the words of system-api', async () => {
  const cases: readonly (readonly [string, RequestInit, number, string])[] = [
    ['/api/v1/actions/none', {}, 400, '{"code":400,"message":"Specified action not configured"}\n'],
    [
      '/api/v1/actions/%65cho_test',
      {},
      400,
      '{"code":400,"message":"Specified action not configured"}\n',
    ],
    [
      '/api/v1/actions/fails',
      {},
      500,
      '{"code":500,"message":"Failed to execute action: fails - error: exit status 3"}\n',
    ],
    ['/api/v1/actions/with%20space', {}, 200, '{"message":"Action executed successfully"}\n'],
    [
      '/api/v1/file-upload/none',
      { method: 'POST', body: 'x' },
      400,
      '{"code":400,"message":"Specified file upload not configured"}\n',
    ],
    ['/nowhere', {}, 404, '404 page not found\n'],
    ['/livez/', {}, 404, '404 page not found\n'],
    ['/%6civez', {}, 404, '404 page not found\n'],
    ['/livez', { method: 'POST' }, 405, ''],
    ['/logs', { method: 'HEAD' }, 405, ''],
    ['/api/v1/file-upload/testfile', {}, 405, ''],
  ]
  for (const [path, init, status, body] of cases) {
    const response = await daemon.get(path, init)
    assert.equal(response.status, status, path)
    assert.equal(await response.text(), body, path)
  }
  const missing = await daemon.get('/nowhere')
  assert.equal(missing.headers.get('content-type'), 'text/plain; charset=utf-8')
  assert.equal(missing.headers.get('x-content-type-options'), 'nosniff')
  const wrongMethod = await daemon.get('/livez', { method: 'POST' })
  assert.equal(wrongMethod.headers.get('allow'), 'GET')
  assert.equal(wrongMethod.headers.get('content-length'), '0')
  assert.match(await logs('stderr: oops'), /error executing action: fails - error: exit status 3/)
})

test('/debug answers with what the runtime has', async () => {
  const index = await daemon.get('/debug/pprof/')
  assert.equal(index.status, 200)
  const moved = await daemon.get('/debug', { redirect: 'manual' })
  assert.equal(moved.status, 301)
})

test('the operator socket is there beside the configured address', async () => {
  const answer = await unixRequest(daemon.socket, '/cvmd/plugins')
  const { plugins } = JSON.parse(answer.body) as { plugins: { name: string; state: string }[] }
  assert.deepEqual(
    plugins.filter(({ state }) => state === 'enabled').map(({ name }) => name),
    ['eventlog', 'actions', 'uploads', 'zos'],
  )
})

// Last, because it closes the door.
test('the first password closes the API, on every path', async () => {
  const secret = join(daemon.folder, 'basic-auth-secret.txt')
  assert.equal(statSync(secret).size, 0)
  assert.equal(statSync(secret).mode & 0o777, 0o600)
  const anyone = { authorization: `Basic ${btoa('who:ever')}` }
  assert.equal((await daemon.get('/livez', { headers: anyone })).status, 200)
  const set = await daemon.get('/api/v1/set-basic-auth', { method: 'POST', body: 's3cret:\u00fc' })
  assert.equal(await set.text(), '{"message":"Basic auth secret updated"}\n')
  for (const path of ['/livez', '/nowhere', '/api/v1/actions/echo_test', '/cvmd/plugins']) {
    const refused = await daemon.get(path)
    assert.equal(refused.status, 401, path)
    assert.equal(refused.headers.get('www-authenticate'), 'Basic realm="system-api"')
    assert.equal(await refused.text(), '{"code":401,"message":"Unauthorized"}\n')
  }
  const basic = (user: string, password: string) => ({
    authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
  })
  const good = await daemon.get('/livez', { headers: basic('admin', 's3cret:\u00fc') })
  assert.equal(good.status, 200)
  for (const wrong of [basic('root', 's3cret:\u00fc'), basic('admin', 's3cret')]) {
    assert.equal((await daemon.get('/livez', { headers: wrong })).status, 401)
  }
  const hash = readFileSync(secret, 'utf8')
  assert.match(hash, /^[0-9a-f]{64}$/)
  const text = await (
    await daemon.get('/logs', { headers: basic('admin', 's3cret:\u00fc') })
  ).text()
  assert.match(text, /\[system-api\] basic auth secret updated/)
  assert.ok(!text.includes(hash) && !daemon.output().includes('s3cret'))
  // Who may use the operator's socket may replace a lost password.
  const again = await unixRequest(daemon.socket, '/api/v1/set-basic-auth', {
    method: 'POST',
    body: 'another',
  })
  assert.equal(again.body, '{"message":"Basic auth secret updated"}\n')
  assert.equal((await daemon.get('/livez', { headers: basic('admin', 'another') })).status, 200)
})

test('start-up errors end the process with a clear line', async () => {
  const bad = async (config: string) => {
    try {
      const up = await startDaemon({ config })
      await up.stop()
    } catch (error) {
      return (error as Error).message
    }
    return 'it started'
  }
  const folder = daemon.folder
  writeFileSync(join(folder, 'short'), 'abc')
  const secret = await bad(
    `[general]\nlisten_addr = "127.0.0.1:0"\nbasic_auth_secret_path = "${folder}/short"\n`,
  )
  assert.match(secret, /status 1[\s\S]*does not look like a SHA256 hash \(must be 64 characters\)/)
  const fifo = await bad(`[general]\nlisten_addr = "127.0.0.1:0"\npipe_file = "${folder}"\n`)
  assert.match(fifo, /status 1[\s\S]*is not a named pipe/)
  const gone = await bad(`[general]\nlisten_addr = "127.0.0.1:0"\npipe_file = "/none/x"\n`)
  assert.match(gone, /status 1[\s\S]*no such file or directory/)
  const busy = await bad(`[general]\nlisten_addr = "127.0.0.1:${daemon.ports[0]}"\n`)
  assert.match(busy, /status 1[\s\S]*Cannot listen on 127\.0\.0\.1:\d+: the port is in use/)
  const tls = await bad(
    '[general]\nlisten_addr = "127.0.0.1:0"\ntls_enabled = true\ntls_cert_path = "{folder}/c"\ntls_key_path = "{folder}/k"\n',
  )
  assert.match(tls, /TLS cert and key files do not exist, but config is set to not create them/)
  assert.ok(existsSync(folder))
})

test("the two flags do what system-api's help says", async () => {
  const flagged = await startDaemon({
    config: `[general]\nlisten_addr = "127.0.0.1:1"\npipe_file = "{folder}/none/pipe"\n`,
    args: ['--listen-addr', '127.0.0.1:0', '-pipe-file', ''],
  })
  assert.equal((await flagged.get('/livez')).status, 200)
  assert.equal(await flagged.stop(), 0)
  const bare = await startDaemon({ args: ['--listen-addr=127.0.0.1:0', '--pipe-file=pipe.fifo'] })
  assert.equal((await bare.get('/livez')).status, 200)
  assert.equal((await unixRequest(bare.socket, '/livez')).status, 200, 'the socket stays')
  assert.ok(statSync(join(bare.folder, 'pipe.fifo')).isFIFO())
  assert.equal(await bare.stop(), 0)
})
