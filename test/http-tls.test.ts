import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { connect } from 'node:tls'
import { Hono } from 'hono'
import * as v from 'valibot'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { createSelfSigned } from '../src/tls/self-signed.ts'
import { serveTest, type TestServer } from './helpers/http-server.ts'
import { RawClient } from './helpers/raw-http.ts'

const probe = definePlugin({
  name: 'probe',
  summary: 'Answers',
  config: v.strictObject({}),
  exposure: 'network',
  setup: () => ({ routes: new Hono<PluginEnv>().get('/now', (c) => c.text('now')) }),
})

let server: TestServer

before(async () => {
  const limits = { head_timeout_ms: 1000, request_timeout_ms: 1000, idle_timeout_ms: 2000 }
  server = await serveTest([probe], limits, { tls: createSelfSigned(['localhost'], Date.now()) })
})
after(() => server.stop())

/** Sends a request over TLS and gives what came back until the end. */
function secure(request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const { port } = server.listener
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () =>
      socket.write(request),
    )
    let text = ''
    socket.on('data', (data: Buffer) => {
      text += data
    })
    socket.on('close', () => resolve(text))
    socket.on('error', reject)
  })
}

test('a request over TLS is answered', async () => {
  const answer = await secure('GET /now HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\nnow$/)
})

test('plain HTTP on a TLS port is told so, in the words of Go', async () => {
  const client = await RawClient.connect(server.target)
  client.send('GET /now HTTP/1.1\r\nHost: localhost\r\n\r\n')
  assert.ok(await client.closed(3000))
  assert.equal(
    client.text,
    'HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n',
  )
  client.destroy()
})

test('whoever does not finish the handshake, or the head after it, is cut off', async () => {
  const silent = await RawClient.connect(server.target)
  const stalled = await RawClient.connect(server.target)
  stalled.send('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')
  const broken = await RawClient.connect(server.target)
  broken.send(`\x16\x03\x01\x00\x05${'a'.repeat(100)}`)
  const [a, b, c, head] = await Promise.all([
    silent.closed(6000),
    stalled.closed(6000),
    broken.closed(6000),
    secure('GET /now HTTP/1.1\r\nHost: lo'),
  ])
  assert.deepEqual([a, b, c], [true, true, true])
  assert.match(head, /^(HTTP\/1\.1 408 |$)/)
  for (const client of [silent, stalled, broken]) client.destroy()
})

test('the server goes on after all of them', async () => {
  const answer = await secure('GET /now HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
  assert.match(answer, /\r\n\r\nnow$/)
})
