/** TLS gateways of a whole daemon, seen from their visitors. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo, Server, Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls'
import { within } from '../src/deadline.ts'
import { createSelfSigned } from '../src/tls/self-signed.ts'
import { freshFolder } from './helpers/daemon.ts'
import { deploy, features, fetchFrom } from './helpers/zos-drivers.ts'
import { Grid, isErased, reaches } from './helpers/zos-grid.ts'
import { startNode, workload } from './helpers/zos-machine.ts'
import { freePort } from './helpers/zos-redis.ts'
import { eventually } from './supervisor/eventually.ts'

const CONTRACT = 1101
const SITE = 'site.gw.example'
const OWN = 'www.own.example'

/** What a visitor of a name is answered over TLS; rejects when the certificate is none of these. */
async function visit(port: number, servername: string, ca: string): Promise<string> {
  const socket = tlsConnect({ host: '127.0.0.1', port, servername, ca })
  try {
    let text = ''
    socket.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    const closed = once(socket, 'close')
    closed.catch(() => {})
    await within(10_000, once(socket, 'secureConnect'), 'shake hands')
    socket.write(`GET / HTTP/1.1\r\nHost: ${servername}\r\nConnection: close\r\n\r\n`)
    await within(10_000, closed, 'end')
    return text
  } finally {
    socket.destroy()
  }
}

/** Listens on all addresses until the test ends. */
async function listening(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  server.listen(0)
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** A page for each backend: plain HTTP, and TLS with a certificate of its own. */
async function backends(t: TestContext) {
  const http = createServer((request, response) => {
    response.end(`page-of-site ${request.headers['x-forwarded-proto']}`)
  })
  const pair = createSelfSigned([OWN], Date.now())
  const page = 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npage-of-own'
  const tls = createTlsServer(pair, (socket) => {
    socket.on('error', () => socket.destroy())
    socket.once('data', () => socket.end(page))
  })
  return { http: await listening(t, http), tls: await listening(t, tls), cert: pair.cert }
}

/** Without TLS a loopback address is no backend, by rule of structure. */
function outerAddress(): string | undefined {
  const all = Object.values(networkInterfaces()).flatMap((given) => given ?? [])
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address
}

test('TLS ends at the node with its certificate, or passes through to the tenant', async (t) => {
  const outer = outerAddress()
  if (outer === undefined) return t.skip('this machine has no address')
  const behind = await backends(t)
  const folder = freshFolder()
  const [http, tls] = [await freePort(), await freePort()]
  const write = (pair: ReturnType<typeof createSelfSigned>) => {
    writeFileSync(join(folder, 'gateway.key'), pair.key)
    writeFileSync(join(folder, 'gateway.pem'), pair.cert)
    return pair.cert
  }
  let ca = write(createSelfSigned(['*.gw.example'], Date.now()))
  const grid = new Grid(join(folder, 'registry.json'))
  grid.names.set('site', 900)
  const start = () =>
    startNode(join(folder, 'no-engine.sock'), folder, {
      tables: `[plugins.zos.gateway]
http = "127.0.0.1:${http}"
tls = "127.0.0.1:${tls}"
cert = "${folder}/gateway.pem"
key = { file = "${folder}/gateway.key" }
domain = "gw.example"
allow_local = true`,
    })
  let node = await start()
  t.after(() => node.stop())
  assert.deepEqual((await features(node.socket)).slice(-2), [
    'gateway-name-proxy',
    'gateway-fqdn-proxy',
  ])
  const own = workload('own', 'gateway-fqdn-proxy', {
    fqdn: OWN,
    tls_passthrough: true,
    backends: [`127.0.0.1:${behind.tls}`],
  })
  const site = workload('site', 'gateway-name-proxy', {
    name: 'site',
    tls_passthrough: false,
    backends: [`http://${outer}:${behind.http}`],
  })
  await deploy(node.socket, grid, CONTRACT, [own, site])
  const up = { own: 'ok', site: 'ok' }
  await reaches(node.socket, CONTRACT, up)

  const all = async () => {
    assert.match(await visit(tls, SITE, ca), /page-of-site https$/)
    assert.match(await visit(tls, OWN, behind.cert), /page-of-own$/)
    await assert.rejects(visit(tls, OWN, ca), 'the certificate is the tenant’s')
    await assert.rejects(visit(tls, 'other.gw.example', ca))
    assert.equal((await fetchFrom('127.0.0.1', http, SITE)).body, 'page-of-site http')
    assert.equal((await fetchFrom('127.0.0.1', http, OWN)).status, 404)
  }
  await all()

  // A renewed certificate is used without a restart.
  const before = ca
  ca = write(createSelfSigned(['*.gw.example'], Date.now() - 1000))
  await all()
  await assert.rejects(visit(tls, SITE, before))

  node.signal('SIGKILL')
  await within(10_000, node.exited(), 'end')
  await assert.rejects(visit(tls, SITE, ca))
  node = await start()
  await reaches(node.socket, CONTRACT, up)
  await eventually('both are back', all, () => true)

  grid.setState(CONTRACT, 'deleted')
  await isErased(node.socket, CONTRACT)
  await assert.rejects(visit(tls, SITE, ca))
  await assert.rejects(visit(tls, OWN, behind.cert))
  assert.equal((await fetchFrom('127.0.0.1', http, SITE)).status, 404)
  assert.ok(!node.output().includes('PRIVATE KEY'))
})
