import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { createServer as createTlsServer, type TLSSocket, connect as tlsConnect } from 'node:tls'
import { WebSocket, WebSocketServer } from 'ws'
import { createSelfSigned } from '../src/tls/self-signed.ts'
import { RawClient } from './helpers/raw-http.ts'
import { ANY, listenTo, rawBackend, routeTo, soon, startProxy } from './helpers/zos-gateway.ts'

const HOST = 'app.example.org'
const WAIT_MS = 15_000

/** An HTTP backend that answers with what it was asked. */
function mirror(t: TestContext): Promise<number> {
  const server = createServer((incoming, outgoing) => {
    const parts: Buffer[] = []
    incoming.on('data', (part) => parts.push(part))
    incoming.on('end', () => {
      const { method, url, rawHeaders } = incoming
      outgoing.setHeader('Set-Cookie', ['a=1', 'b=2'])
      outgoing.setHeader('X-Hop', 'gone')
      outgoing.setHeader('Connection', 'x-hop')
      outgoing.writeHead(201, 'Made')
      outgoing.end(
        JSON.stringify({ method, url, rawHeaders, body: Buffer.concat(parts).toString() }),
      )
    })
  })
  return listenTo(t, server)
}

interface Mirrored {
  readonly method: string
  readonly url: string
  readonly rawHeaders: readonly string[]
  readonly body: string
}

const valuesOf = ({ rawHeaders }: Mirrored, name: string) =>
  rawHeaders.filter((_value, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name)

async function client(t: TestContext, port: number): Promise<RawClient> {
  const opened = await RawClient.connect({ port })
  t.after(() => opened.destroy())
  return opened
}

/** Opens TLS to the proxy for a host, and gives the socket after the handshake. */
function secure(t: TestContext, port: number, servername: string, ca?: string): Promise<TLSSocket> {
  const options = { port, host: '127.0.0.1', servername, ...(ca !== undefined && { ca }) }
  const socket = tlsConnect({ ...options, rejectUnauthorized: ca !== undefined })
  t.after(() => socket.destroy())
  return soon(
    'shake hands',
    new Promise((resolve, reject) => {
      socket.once('secureConnect', () => resolve(socket))
      socket.once('error', reject)
      socket.once('close', () => reject(new Error('closed in the handshake')))
    }),
  )
}

/** Collects until a text comes, or the other side ends. */
function textOf(socket: Socket, until?: string): Promise<string> {
  let text = ''
  return soon(
    'say it',
    new Promise((resolve) => {
      socket.on('data', (data) => {
        text += data
        if (until !== undefined && text.includes(until)) resolve(text)
      })
      socket.on('error', () => resolve(text))
      socket.on('close', () => resolve(text))
      socket.on('end', () => resolve(text))
    }),
  )
}

test('requests go to the backend of their host, and say whom they are from', async (t) => {
  const { proxy, http } = await startProxy(t)
  await proxy.set(routeTo(await mirror(t), HOST))
  const raw = await client(t, http)
  const lines = [
    `POST /a/../b?q=%2F&x HTTP/1.1`,
    `Host: ${HOST.toUpperCase()}:8080`,
    'X-Forwarded-For: 6.6.6.6',
    'x-real-ip: 6.6.6.6',
    'Forwarded: for=6.6.6.6',
    'X-Twice: one',
    'X-Twice: two',
    'Connection: keep-alive, X-Private',
    'X-Private: gone',
    'TE: trailers',
    'Content-Length: 4',
  ]
  raw.send(`${lines.join('\r\n')}\r\n\r\nbody`)
  const answer = await raw.answer(WAIT_MS)
  assert.equal(answer?.status, 201)
  assert.equal(answer?.headers.get('set-cookie'), 'a=1, b=2')
  assert.equal(answer?.headers.get('x-hop'), undefined)
  const seen: Mirrored = JSON.parse(answer?.body ?? '')
  assert.equal(seen.method, 'POST')
  assert.equal(seen.url, '/a/../b?q=%2F&x', 'byte for byte')
  assert.equal(seen.body, 'body')
  assert.deepEqual(valuesOf(seen, 'host'), [`${HOST.toUpperCase()}:8080`])
  assert.deepEqual(valuesOf(seen, 'x-forwarded-for'), ['127.0.0.1'])
  assert.deepEqual(valuesOf(seen, 'x-real-ip'), ['127.0.0.1'])
  assert.deepEqual(valuesOf(seen, 'x-forwarded-proto'), ['http'])
  assert.deepEqual(valuesOf(seen, 'x-forwarded-port'), [String(http)])
  assert.deepEqual(valuesOf(seen, 'forwarded'), [])
  assert.deepEqual(valuesOf(seen, 'x-private'), [])
  assert.deepEqual(valuesOf(seen, 'te'), [])
  assert.equal(valuesOf(seen, 'x-twice').join(', '), 'one, two')

  // The same connection, a body of unknown length, and one after it without any.
  raw.send(
    `PUT / HTTP/1.1\r\nHost: ${HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`,
  )
  assert.equal(JSON.parse((await raw.answer(WAIT_MS))?.body ?? '{}').body, 'abc')
  raw.send(`HEAD / HTTP/1.1\r\nHost: ${HOST}.\r\n\r\n`)
  assert.equal((await raw.answer(WAIT_MS, true))?.status, 201)
})

test('what no route is for, or is no request, gets an answer of its own', async (t) => {
  const { proxy, http } = await startProxy(t)
  const port = await mirror(t)
  await proxy.set(routeTo(port, HOST))
  await proxy.set(routeTo(port, 'tls.example.org', { tlsPassthrough: true }))
  const status = async (text: string) => {
    const raw = await client(t, http)
    raw.send(text)
    return (await raw.answer(WAIT_MS))?.status
  }
  const get = (host: string, more = '') => `GET / HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`
  assert.equal(await status(get('other.example.org')), 404)
  assert.equal(await status(get('tls.example.org')), 404, 'it is for TLS only')
  assert.equal(await status(get(HOST)), 201)
  assert.equal(await status(get(HOST, `Host: other.example.org\r\n`)), 400)
  assert.equal(await status(`GET http://${HOST}/ HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`), 400)
  assert.equal(await status('nonsense\r\n\r\n'), 400)
  const both = 'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n'
  assert.equal(await status(`POST / HTTP/1.1\r\nHost: ${HOST}\r\n${both}\r\n0\r\n\r\n`), 400)
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n'
  assert.equal(await status(get('other.example.org', upgrade)), 404)

  await proxy.remove(routeTo(port, HOST).id)
  assert.equal(await status(get(HOST)), 404)
  assert.deepEqual(await proxy.ids(), ['1-1-tls_example_org'])
  // A route may move to another host.
  await proxy.set(routeTo(port, 'new.example.org', { id: '1-1-tls_example_org' }))
  assert.equal(await status(get('new.example.org')), 201)
})

test('a dead, a slow and a lying backend become 502 and 504', async (t) => {
  const limits = { answerTimeoutMs: 300, connectTimeoutMs: 1000, idleTimeoutMs: 60_000 }
  const { proxy, http } = await startProxy(t, { limits })
  const gone = await rawBackend(t, (socket) => socket.destroy())
  const silent = await rawBackend(t, (socket) => void socket.resume())
  const liar = await rawBackend(t, (socket) => socket.end('SSH-2.0-OpenSSH\r\n\r\n'))
  const cut = await rawBackend(t, (socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nabc'))
  })
  const unused = await rawBackend(t, () => undefined)
  const guarded = routeTo(unused, 'guarded.example')
  for (const [name, port] of Object.entries({ gone, silent, liar, cut, dead: 1 })) {
    await proxy.set(routeTo(port, `${name}.example`))
  }
  const ask = async (name: string, more = '') => {
    const raw = await client(t, http)
    raw.send(`GET / HTTP/1.1\r\nHost: ${name}.example\r\n${more}\r\n`)
    return raw
  }
  const status = async (name: string, more = '') =>
    (await (await ask(name, more)).answer(WAIT_MS))?.status
  assert.equal(await status('dead'), 502)
  assert.equal(await status('gone'), 502)
  assert.equal(await status('liar'), 502)
  assert.equal(await status('silent'), 504)
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n'
  assert.equal(await status('dead', upgrade), 502)
  assert.equal(await status('gone', upgrade), 502)
  assert.equal(await status('liar', upgrade), 502)
  assert.equal(await status('silent', upgrade), 504)
  // An answer that breaks off must not look whole.
  const broken = await ask('cut')
  assert.ok(await broken.closed(WAIT_MS))
  assert.match(broken.text, /content-length: 12\r\n.*abc$/is)

  const refusing = await startProxy(t, { guard: () => 'it is ours' })
  await refusing.proxy.set(guarded)
  const raw = await client(t, refusing.http)
  raw.send('GET / HTTP/1.1\r\nHost: guarded.example\r\n\r\n')
  assert.equal((await raw.answer(WAIT_MS))?.status, 502)
})

test('both ways are streams', async (t) => {
  const { proxy, http } = await startProxy(t)
  let say: (text: string) => void = () => undefined
  let heard = ''
  const server = createServer((incoming, outgoing) => {
    outgoing.writeHead(200, { 'content-type': 'text/event-stream' })
    outgoing.flushHeaders()
    say = (text) => void outgoing.write(text)
    incoming.on('data', (data) => {
      heard += data
      outgoing.write(`heard ${data}\n`)
    })
    incoming.on('end', () => outgoing.end('bye\n'))
  })
  await proxy.set(routeTo(await listenTo(t, server), HOST))
  const raw = await client(t, http)
  raw.send(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n`)
  assert.ok(await raw.received('heard a', WAIT_MS))
  say('on its own\n')
  assert.ok(await raw.received('on its own', WAIT_MS))
  raw.send('1\r\nb\r\n0\r\n\r\n')
  assert.ok(await raw.received('bye', WAIT_MS))
  assert.equal(heard, 'ab')
})

test('a client that goes away takes its request at the backend with it', async (t) => {
  const { proxy, http } = await startProxy(t)
  let closed: () => void = () => undefined
  const left = new Promise<void>((resolve) => {
    closed = resolve
  })
  let arrived: () => void = () => undefined
  const there = new Promise<void>((resolve) => {
    arrived = resolve
  })
  const port = await rawBackend(t, (socket) => {
    socket.once('data', () => arrived())
    socket.on('close', () => closed())
    socket.on('end', () => socket.end())
  })
  await proxy.set(routeTo(port, HOST))
  const raw = await client(t, http)
  raw.send(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
  await soon('reach the backend', there)
  raw.destroy()
  await soon('close', left)
})

test('a slow reader slows its backend, and nothing is kept in memory', async (t) => {
  const { proxy, http } = await startProxy(t)
  const CHUNK = Buffer.alloc(64 * 1024, 'x')
  const MOST = 256 * 1024 * 1024
  let sent = 0
  let stalled: () => void = () => undefined
  const full = new Promise<void>((resolve) => {
    stalled = resolve
  })
  const port = await rawBackend(t, (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      const fill = () => {
        while (sent < MOST) {
          sent += CHUNK.length
          if (!socket.write(CHUNK)) break
        }
      }
      socket.on('drain', fill)
      fill()
      // Nothing moved for a while: everybody between is full.
      let before = -1
      const timer = setInterval(() => {
        if (sent === before) stalled()
        before = sent
      }, 300)
      socket.on('close', () => clearInterval(timer))
    })
  })
  await proxy.set(routeTo(port, HOST))
  const socket = connect(http, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.pause()
  socket.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
  await soon('stall', full)
  assert.ok(sent < MOST / 2, `${sent} bytes were taken from the backend`)
})

test('a WebSocket goes through', async (t) => {
  const { proxy, http } = await startProxy(t)
  const server = createServer()
  const sockets = new WebSocketServer({ server })
  t.after(() => sockets.close())
  sockets.on('connection', (socket, incoming: IncomingMessage) => {
    socket.send(`hello ${incoming.url} for ${incoming.headers['x-forwarded-for']}`)
    socket.on('message', (data) => socket.send(`echo ${data}`))
  })
  await proxy.set(routeTo(await listenTo(t, server), HOST))
  const socket = new WebSocket(`ws://127.0.0.1:${http}/chat`, { headers: { Host: HOST } })
  t.after(() => socket.terminate())
  const messages: string[] = []
  await soon(
    'echo',
    new Promise<void>((resolve, reject) => {
      socket.on('error', reject)
      socket.on('message', (data) => {
        messages.push(String(data))
        if (messages.length === 1) socket.send('x'.repeat(100_000))
        else resolve()
      })
    }),
  )
  assert.equal(messages[0], 'hello /chat for 127.0.0.1')
  assert.equal(messages[1], `echo ${'x'.repeat(100_000)}`)
})

test('a protocol that the backend does not take is answered by it', async (t) => {
  const { proxy, http } = await startProxy(t)
  await proxy.set(routeTo(await mirror(t), HOST))
  const raw = await client(t, http)
  // As a client that would like HTTP/2 sends even a body.
  raw.send(
    `POST /x HTTP/1.1\r\nHost: ${HOST}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n` +
      'HTTP2-Settings: AAMA\r\nContent-Length: 6\r\n\r\nabc',
  )
  raw.send('def')
  const answer = await raw.answer(WAIT_MS)
  assert.equal(answer?.status, 201)
  assert.equal(answer?.headers.get('connection'), 'close')
  const seen: Mirrored = JSON.parse(answer?.body ?? '')
  assert.equal(seen.body, 'abcdef')
  assert.equal(seen.url, '/x')
})

test('TLS is passed through by the name that the client asks for', async (t) => {
  const { proxy, tls, http } = await startProxy(t)
  const backend = async (name: string) => {
    const pair = createSelfSigned([name], Date.now())
    const server = createTlsServer(pair, (socket) => {
      socket.on('error', () => socket.destroy())
      socket.write(`this is ${name}\n`)
      socket.on('data', (data) => socket.write(`echo ${data}`))
    })
    const port = await listenTo(t, server)
    await proxy.set(routeTo(port, name, { tlsPassthrough: true }))
    return pair.cert
  }
  const [one, two] = [await backend('one.example'), await backend('two.example')]
  // The client sees the backends' own certificates.
  const first = await secure(t, tls, 'one.example', one)
  assert.match(await textOf(first, '\n'), /^this is one\.example/)
  first.write('hello')
  assert.equal(await textOf(first, 'hello'), 'echo hello')
  const second = await secure(t, tls, 'two.example', two)
  assert.match(await textOf(second, '\n'), /^this is two\.example/)
  await assert.rejects(secure(t, tls, 'two.example', one), /certificate|self.signed|verify/i)

  // Nobody by that name, no name at all, and no TLS.
  await assert.rejects(secure(t, tls, 'none.example'))
  await assert.rejects(secure(t, tls, ''))
  const plain = await client(t, tls)
  plain.send('GET / HTTP/1.1\r\nHost: one.example\r\n\r\n')
  assert.ok(await plain.closed(WAIT_MS))
  assert.equal(plain.text, '')
  const dead = routeTo(1, 'dead.example', { tlsPassthrough: true })
  await proxy.set(dead)
  await assert.rejects(secure(t, tls, 'dead.example'))
  assert.ok(http > 0)
})

test('one direction may end before the other', async (t) => {
  const { proxy, tls } = await startProxy(t)
  // What is passed through need not be TLS after the first message.
  let hello = Buffer.alloc(0)
  const port = await rawBackend(t, (socket) => {
    let all = ''
    socket.on('data', (data) => {
      all += data.toString('latin1')
    })
    socket.on('end', () => {
      socket.write(`${all.length} bytes, `)
      setTimeout(() => socket.end('and goodbye'), 50)
    })
  })
  await proxy.set(routeTo(port, HOST, { tlsPassthrough: true }))
  const catcher = await rawBackend(t, (socket) => {
    socket.on('data', (data) => {
      hello = Buffer.concat([hello, data])
      socket.destroy()
    })
  })
  await assert.rejects(secure(t, catcher, HOST))
  const raw = await client(t, tls)
  // In pieces, as a slow network brings it.
  for (const byte of [...hello.subarray(0, 40)]) {
    raw.send(Uint8Array.of(byte))
    await new Promise((resolve) => setImmediate(resolve))
  }
  raw.send(hello.subarray(40))
  raw.send('x'.repeat(1000))
  raw.halfClose()
  assert.ok(await raw.received('and goodbye', WAIT_MS))
  assert.equal(raw.text, `${hello.length + 1000} bytes, and goodbye`)
})

test('TLS ends here where there is a certificate for it', async (t) => {
  const pair = createSelfSigned([HOST, '*.node.example'], Date.now())
  let current: typeof pair | undefined
  const { proxy, tls } = await startProxy(t, { certificate: () => current })
  await proxy.set(routeTo(await mirror(t), HOST))
  await assert.rejects(secure(t, tls, HOST, pair.cert))
  current = pair
  const socket = await secure(t, tls, HOST, pair.cert)
  for (const path of ['/first', '/second']) {
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
    const text = await textOf(socket, '"body":""}')
    assert.match(text, /^HTTP\/1\.1 201 Made/)
    assert.ok(text.includes(`"url":"${path}"`))
    assert.ok(text.includes('"X-Forwarded-Proto","https"'))
    socket.removeAllListeners('data')
  }
  // A new certificate is used without a restart.
  current = createSelfSigned([HOST], Date.now() - 1000)
  assert.ok(await secure(t, tls, HOST, current.cert))
  await assert.rejects(secure(t, tls, HOST, pair.cert), /certificate|self.signed|verify/i)
})

test('clients that say nothing are cut, and there are not more than may be', async (t) => {
  const limits = { headTimeoutMs: 300, maxConnections: 6, maxConnectionsPerPeer: 4 }
  const { proxy, http, tls } = await startProxy(t, { limits })
  await proxy.set(routeTo(await mirror(t), HOST))
  for (const [port, text] of [
    [http, 'GET / HTTP/1.1\r\nHost:'],
    [tls, '\x16\x03\x01'],
    [http, ''],
    [tls, ''],
  ] as const) {
    const raw = await client(t, port)
    if (text !== '') raw.send(text)
    assert.ok(await raw.closed(WAIT_MS))
  }
  const patient = await startProxy(t, { limits: { ...limits, headTimeoutMs: 60_000 } })
  await patient.proxy.set(routeTo(await mirror(t), HOST))
  const held = await Promise.all([1, 2, 3, 4].map(() => client(t, patient.http)))
  const more = await client(t, patient.http)
  assert.ok(await more.closed(WAIT_MS))
  held[0]?.send(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
  assert.equal((await held[0]?.answer(WAIT_MS))?.status, 201)
  const huge = held[1]
  huge?.send(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`)
  assert.ok(await huge?.closed(WAIT_MS))
})

test('an address that is taken is told, and stopping frees it', async (t) => {
  const first = await startProxy(t)
  const taken = { http: [{ ...ANY, port: first.http }], tls: [] }
  await assert.rejects(
    startProxy(t, taken),
    /Cannot listen on 127\.0\.0\.1:\d+: the port is in use/,
  )
  await assert.rejects(startProxy(t, { http: [], tls: [] }), /No gateway is configured/)
  const raw = await client(t, first.http)
  await first.proxy.stop()
  await first.proxy.stop()
  assert.ok(await raw.closed(WAIT_MS))
  const second = await startProxy(t, taken)
  await assert.rejects(
    second.proxy.set(routeTo(1, HOST, { tlsPassthrough: true })),
    /no gateway that TLS could pass through/,
  )
})

test('an ordinary client of the runtime is served as by the backend itself', async (t) => {
  const { proxy, http } = await startProxy(t)
  const large = Buffer.alloc(3 * 1024 * 1024, 'abcdefgh')
  const server = createServer((incoming, outgoing) => {
    if (incoming.url === '/empty') outgoing.writeHead(204).end()
    else if (incoming.url === '/same') outgoing.writeHead(304, { etag: '"x"' }).end()
    else incoming.pipe(outgoing)
  })
  await proxy.set(routeTo(await listenTo(t, server), HOST))
  const ask = (path: string, body?: Buffer) =>
    soon(
      'answer',
      new Promise<{ status: number | undefined; body: Buffer }>((resolve, reject) => {
        const asked = request(
          {
            host: '127.0.0.1',
            port: http,
            path,
            method: body ? 'POST' : 'GET',
            headers: { Host: HOST },
          },
          (answer) => {
            const parts: Buffer[] = []
            answer.on('data', (part) => parts.push(part))
            answer.on('end', () =>
              resolve({ status: answer.statusCode, body: Buffer.concat(parts) }),
            )
          },
        )
        asked.on('error', reject)
        asked.end(body)
      }),
    )
  assert.equal((await ask('/empty')).status, 204)
  assert.equal((await ask('/same')).status, 304)
  const echoed = await ask('/', large)
  assert.equal(echoed.status, 200)
  assert.ok(echoed.body.equals(large))
  const many = await Promise.all(
    Array.from({ length: 20 }, () => ask('/', large.subarray(0, 100_000))),
  )
  assert.ok(many.every(({ body }) => body.length === 100_000))
})
