/** The application's sockets and a visitor's port of a real daemon, on a simulated TDX machine. */
import assert from 'node:assert/strict'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { PluginReport } from '../src/core-plugin.ts'
import { type DaemonProcess, freshFolder, startDaemon, unixRequest } from './helpers/daemon.ts'
import { RawClient, rawRequest } from './helpers/raw-http.ts'

const PATIENCE_MS = 15_000

/** A path of a route that can be asked for. */
const concrete = (path: string) => path.replace(/:\w+(\{.*?\})?\*?/g, 'x').replace(/\*/g, 'x')

/** Every route of every plugin, as the operator sees them. */
async function allRoutes(daemon: DaemonProcess, socket = daemon.socket) {
  const { plugins } = JSON.parse((await unixRequest(socket, '/cvmd/plugins')).body) as {
    plugins: PluginReport[]
  }
  const routes = plugins.flatMap(({ name, routes }) => routes.map((route) => ({ name, ...route })))
  assert.ok(routes.length > 50)
  return routes
}

const CORE = [
  '/livez',
  '/cvmd/version',
  '/cvmd/plugins',
  '/cvmd/openapi.json',
  '/cvmd/ready',
  '/cvmd/metrics',
  '/cvmd/attested-log?nonce=01',
]

function restarted(options: Parameters<typeof startDaemon>[0]) {
  return startDaemon({ ...options, args: ['--simulate', 'tdx', ...(options?.args ?? [])] })
}

describe('with the default listeners', () => {
  let daemon: DaemonProcess
  const at = (name: string) => join(daemon.folder, 'run', `${name}.sock`)

  before(async () => {
    daemon = await restarted({ args: ['--listen-addr', '127.0.0.1:0'] })
  })
  after(() => daemon.stop())

  test('both sockets of the guest agent stand beside the own one', async () => {
    for (const name of ['cvmd', 'dstack', 'tappd']) {
      const info = statSync(at(name))
      assert.ok(info.isSocket())
      assert.equal(info.mode & 0o777, 0o660, name)
    }
    for (const name of ['dstack', 'tappd']) {
      for (const path of ['/Info', '/v1/Info', '/GetQuote', '/v0/GetQuote', '/prpc/Tappd.Info']) {
        assert.equal((await unixRequest(at(name), path)).status, 200, path)
      }
    }
  })

  test('on them there is nothing of the operator, and on his none of theirs', async () => {
    const routes = await allRoutes(daemon)
    const served = ['tdx', 'guest', 'kms']
    for (const name of ['dstack', 'tappd']) {
      for (const path of CORE) {
        assert.equal((await unixRequest(at(name), path)).status, 404, path)
      }
      for (const { name: plugin, method, path } of routes) {
        if (served.includes(plugin) && !path.startsWith('/cvmd/')) continue
        // The page at the root is the guest's own here.
        if (path === '/') continue
        const { status } = await unixRequest(at(name), concrete(path), { method })
        assert.equal(status, 404, `${method} ${path}`)
      }
    }
    const base = `http://127.0.0.1:${daemon.ports[0]}`
    for (const { name: plugin, method, path } of routes) {
      if (!served.includes(plugin) || path === '/' || path === '/metrics') continue
      const answer = await fetch(`${base}${concrete(path)}`, { method })
      await answer.body?.cancel()
      assert.ok([403, 404].includes(answer.status), `${method} ${path} ${answer.status}`)
      if (path.startsWith('/cvmd/')) continue
      const { status } = await unixRequest(daemon.socket, concrete(path), { method })
      assert.equal(status, 404, `${method} ${path}`)
    }
  })

  test("a local caller of the legacy service sees all of its machine, a visitor's call what is public", async () => {
    const info = async (path: string) => {
      const { status, body, headers } = await unixRequest(at('tappd'), path)
      assert.equal(status, 200, path)
      assert.equal(headers['content-length'], String(Buffer.byteLength(body)))
      return JSON.parse(body) as Record<string, string>
    }
    assert.deepEqual(await info('/prpc/Info'), await info('/prpc/Tappd.Info'))
    assert.deepEqual(await info('/prpc/Info'), await info('/Info'))
  })
})

/** Request lines and bodies as the published client sends them: six writes, then it waits. */
async function sixWrites(socket: string, path: string, body: string, length = body.length) {
  const client = await RawClient.connect({ unix: socket })
  try {
    for (const part of [
      `POST ${path} HTTP/1.1\r\n`,
      'Host: localhost\r\n',
      'Content-Type: application/json\r\n',
      `Content-Length: ${length}\r\n`,
      '\r\n',
      new Uint8Array(Buffer.from(body)),
    ]) {
      client.send(part)
    }
    const answer = await client.answer(PATIENCE_MS)
    client.halfClose()
    const closed = await client.closed(PATIENCE_MS)
    return { answer, closed }
  } finally {
    client.destroy()
  }
}

describe('on the wire', () => {
  let daemon: DaemonProcess
  let socket: string

  before(async () => {
    const folder = freshFolder()
    writeFileSync(join(folder, 'app.json'), '{"name":"über-app 😀"}')
    const config = `[[listen]]
unix = "{folder}/run/dstack.sock"
core = false
plugins = ["tdx", "guest"]
dialect = "dstack"
[plugins.guest]
app_compose = "{folder}/app.json"
emit_event = true
`
    daemon = await restarted({ config, folder })
    socket = join(folder, 'run/dstack.sock')
  })
  after(() => daemon.stop())

  const parsed = (answer: Awaited<ReturnType<typeof sixWrites>>['answer']) => {
    assert.ok(answer)
    assert.equal(answer.headers.get('content-length'), String(answer.body.length))
    assert.equal(answer.headers.get('transfer-encoding'), undefined)
    assert.match(answer.body, /^[\x20-\x7e]*$/)
    return JSON.parse(answer.body) as Record<string, string>
  }

  test('six writes are one request, and a half-close ends the connection', async () => {
    for (const [path, body, status] of [
      ['/Info', '{}', 200],
      ['/GetQuote', '{"report_data":"01"}', 200],
      ['/Attest', '{"report_data":"01"}', 200],
      ['/EmitEvent', '{"event":"e","payload":""}', 200],
      ['/prpc/Tappd.TdxQuote', '{"report_data":"01","hash_algorithm":"sha256"}', 200],
      ['/EmitEvent', '{"event":"\\u00fcber","payload":"x"}', 400],
      ['/NoSuch', '{}', 404],
    ] as const) {
      const { answer, closed } = await sixWrites(socket, path, body)
      assert.equal(answer?.status, status, path)
      const message = parsed(answer)
      if (status !== 200) assert.equal(typeof message.error, 'string')
      if (path === '/Info') assert.equal(message.app_name, 'über-app 😀')
      assert.ok(closed, path)
    }
  })

  test('chunks may be cut anywhere', async () => {
    const body = '{"report_data":"0102"}'
    const request = `POST /GetQuote HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    for (const step of [1, 7, 40]) {
      const client = await RawClient.connect({ unix: socket })
      for (let from = 0; from < request.length; from += step) {
        client.send(request.slice(from, from + step))
        // Each on its own: the next one goes out in another turn of the event loop.
        await new Promise((next) => setImmediate(next))
      }
      assert.match(parsed(await client.answer(PATIENCE_MS)).report_data ?? '', /^0102(00){62}$/)
      client.destroy()
    }
  })

  test('a length that counts characters is refused and ends the connection', async () => {
    const body = '{"event":"über","payload":""}'
    const { answer, closed } = await sixWrites(socket, '/EmitEvent', body)
    assert.equal(answer?.status, 400)
    assert.ok(closed)
    const length = Buffer.byteLength(body)
    assert.equal((await sixWrites(socket, '/EmitEvent', body, length)).answer?.status, 200)
  })

  test('an early half-close still gets its answer', async () => {
    const client = await RawClient.connect({ unix: socket })
    client.send('GET /Attest?report_data=01 HTTP/1.1\r\nHost: localhost\r\n\r\n')
    client.halfClose()
    const answer = await client.answer(PATIENCE_MS)
    assert.equal(answer?.status, 200)
    parsed(answer)
    assert.ok(await client.closed(PATIENCE_MS))
    client.destroy()
  })

  test('the page is ASCII, with its length', async () => {
    const request = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
    const answer = await rawRequest({ unix: socket }, request, PATIENCE_MS)
    assert.equal(answer?.status, 200)
    assert.equal(answer?.headers.get('content-length'), String(answer?.body.length))
    assert.match(answer?.body ?? '', /^[\n\x20-\x7e]*$/)
  })
})

describe('narrowed', () => {
  let daemon: DaemonProcess
  const at = (name: string) => join(daemon.folder, 'run', `${name}.sock`)

  before(async () => {
    const config = `[[listen]]
unix = "{folder}/run/cvmd.sock"
[[listen]]
unix = "{folder}/run/quote.sock"
core = false
dialect = "dstack"
routes = ["GetQuote", "Info", "Version"]
[[listen]]
unix = "{folder}/run/one.sock"
core = false
routes = ["/v0/GetQuote"]
[[listen]]
unix = "{folder}/run/words.sock"
core = false
routes = ["version", "metrics", "plugins", "reload", "attested-log"]
[[listen]]
address = "127.0.0.1:0"
plugins = ["guest"]
core = false
dialect = "dstack"
[plugins.guest]
public_tcbinfo = false
`
    daemon = await restarted({ config })
  })
  after(() => daemon.stop())

  /** Which of all routes a listener has, by a request with a method that none of them takes. */
  async function found(socket: string): Promise<Set<string>> {
    const routes = await allRoutes(daemon)
    assert.ok(routes.every(({ method }) => method !== 'PATCH'))
    const paths = new Set(routes.map(({ path }) => path))
    const here = new Set<string>()
    for (const path of [...paths, ...CORE]) {
      const { status } = await unixRequest(socket, concrete(path), { method: 'PATCH' })
      if (status !== 404) here.add(path)
    }
    return here
  }

  test('a socket has the routes that were named, and no other of any plugin', async () => {
    const last = (path: string) => path.slice(path.lastIndexOf('/') + 1).replace(/^.*\./, '')
    const here = await found(at('quote'))
    assert.deepEqual(
      new Set([...here].map(last)),
      new Set(['GetQuote', 'Info', 'Version']),
      [...here].join(' '),
    )
    for (const path of ['/GetQuote', '/v0/GetQuote', '/Info', '/Version', '/v1/Info']) {
      assert.ok(here.has(path), path)
      assert.equal((await unixRequest(at('quote'), path)).status, 200)
    }
    for (const path of ['/Attest', '/EmitEvent', '/attestation', '/prpc/RawQuote', '/GetKey']) {
      const answer = await unixRequest(at('quote'), path, { method: 'POST', body: '{}' })
      assert.equal(answer.status, 404, path)
    }
    assert.deepEqual([...(await found(at('one')))], ['/v0/GetQuote'])
  })

  test('without the core its routes are not there, even when they are named', async () => {
    const here = [...(await found(at('words')))]
    assert.deepEqual(
      here.filter((path) => path.startsWith('/cvmd/')),
      [],
    )
  })

  test('a port for visitors has what is meant for them, and no more', async () => {
    const base = `http://127.0.0.1:${daemon.ports[0]}`
    const here = new Set<string>()
    for (const { method, path } of await allRoutes(daemon)) {
      const answer = await fetch(`${base}${concrete(path)}`, { method })
      await answer.body?.cancel()
      if (answer.status !== 404 && answer.status !== 405) here.add(path)
    }
    assert.deepEqual(
      [...here].sort(),
      [
        '/',
        '/attestation',
        ...['/prpc/Worker.Info', '/prpc/Info', '/prpc/v1/Worker.Info', '/prpc/v1/Info'],
        ...['/prpc/Worker.Version', '/prpc/Version', '/prpc/v1/Worker.Version', '/prpc/v1/Version'],
      ].sort(),
    )
    const info = (await (await fetch(`${base}/prpc/Info`)).json()) as Record<string, string>
    assert.equal(info.tcb_info, '{}', 'public_tcbinfo is off')
    assert.equal((await fetch(`${base}/metrics`)).status, 404, 'public_sysinfo is off')
    for (const path of CORE) assert.equal((await fetch(`${base}${path}`)).status, 404, path)
  })
})

test('a plugin that is switched off is not there by any path', async () => {
  const sockets = ['cvmd', 'dstack']
  const listen = sockets.map(
    (name) => `[[listen]]\nunix = "{folder}/run/${name}.sock"\ncore = ${name === 'cvmd'}\n`,
  )
  const plugins = (guest: boolean) =>
    `[plugins.eventlog]\nenabled = false\n[plugins.guest]\nenabled = ${guest}\n`
  const folder = freshFolder()
  const on = await restarted({ folder, config: [...listen, plugins(true)].join('\n') })
  const own = (await allRoutes(on)).filter(({ name }) => name === 'guest')
  assert.ok(own.length > 30)
  await on.stop()
  const off = await restarted({ folder, config: [...listen, plugins(false)].join('\n') })
  try {
    for (const { method, path } of own) {
      for (const name of sockets) {
        const { status } = await unixRequest(join(folder, 'run', `${name}.sock`), path, { method })
        assert.equal(status, 404, `${method} ${path} on ${name}`)
      }
    }
    const quote = await unixRequest(join(folder, 'run', 'dstack.sock'), '/GetQuote')
    assert.equal(quote.status, 200, 'the other plugin is')
  } finally {
    await off.stop()
  }
  assert.ok(!existsSync(join(folder, 'run', 'dstack.sock')), 'gone after the stop')
})
