/** Bodies the core reads for a handler: whole, within the limit and in time. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Hono } from 'hono'
import * as v from 'valibot'
import { OPEN } from '../src/auth/guard.ts'
import { Exchange } from '../src/http/exchange.ts'
import { buildPipeline } from '../src/http/pipeline.ts'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { routesOf } from '../src/registry.ts'
import { serveTest, type TestServer } from './helpers/http-server.ts'
import { RawClient, rawRequest } from './helpers/raw-http.ts'

const MOST = 1000
const TIMEOUT_MS = 1000

/** Tells of every body that reaches its handler. */
function echo(seen: string[] = []) {
  return definePlugin({
    name: 'echo',
    summary: 'Tells what it was sent',
    config: v.strictObject({}),
    exposure: 'network',
    setup: () => ({
      routes: new Hono<PluginEnv>().post('/echo', async (c) => {
        const text = await c.req.text()
        seen.push(text)
        return c.json({ text, type: c.req.header('content-type') })
      }),
    }),
  })
}

test('a body whose length was said is not read piece by piece', async () => {
  const pieces: string[] = []
  const plugin = echo()
  const instance = plugin.setup({} as never)
  const loaded = { plugin, instance, log: undefined as never, unavailable: undefined }
  const app = buildPipeline(routesOf(loaded), {
    guard: OPEN,
    maxBodyBytes: MOST,
    requestTimeoutMs: TIMEOUT_MS,
  })
  const ask = async (headers: Record<string, string>) => {
    const request = new Request('http://localhost/echo', { method: 'POST', body: 'text' })
    const { body } = request
    const watched = Object.defineProperty(request, 'body', {
      get() {
        pieces.push(JSON.stringify(headers))
        return body
      },
    })
    const header = (name: string) => headers[name]
    const peer = () => ({ address: 'unix', port: 0 })
    const answer = await app.fetch(
      watched,
      new Exchange('test', { peer, header, hold: () => undefined }),
    )
    return ((await answer.json()) as { text: string }).text
  }
  assert.equal(await ask({ 'content-length': '4' }), 'text')
  assert.deepEqual(pieces, [])
  assert.equal(await ask({ 'transfer-encoding': 'chunked' }), 'text')
  assert.deepEqual(pieces, ['{"transfer-encoding":"chunked"}'])
})

for (const unix of [false, true]) {
  describe(unix ? 'on a Unix socket' : 'on TCP', () => {
    let server: TestServer
    const seen: string[] = []
    before(async () => {
      const limits = { max_body_bytes: MOST, request_timeout_ms: TIMEOUT_MS }
      server = await serveTest([echo(seen)], limits, { unix })
    })
    after(() => server.stop())

    const HEAD = 'POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/x\r\n'
    const sized = (text: string) => `${HEAD}Content-Length: ${text.length}\r\n\r\n${text}`
    const chunked = (...parts: string[]) =>
      [
        `${HEAD}Transfer-Encoding: chunked\r\n\r\n`,
        ...parts.map((part) => `${part.length.toString(16)}\r\n${part}\r\n`),
        '0\r\n\r\n',
      ].join('')

    test('one of the largest size arrives with its type, with and without a length', async () => {
      const text = 'x'.repeat(MOST)
      for (const request of [sized(text), chunked('x', text.slice(1))]) {
        const answer = await rawRequest(server.target, request)
        assert.deepEqual(JSON.parse(answer?.body ?? ''), { text, type: 'text/x' })
      }
    })

    test('several on one connection stay apart, in pieces or all at once', async () => {
      const client = await RawClient.connect(server.target)
      const texts = ['one', 'two', 'three']
      for (const [i, text] of texts.entries()) {
        const request = i === 1 ? chunked(text) : sized(text)
        client.send(request.slice(0, -2))
        await new Promise((resolve) => setTimeout(resolve, 20))
        client.send(request.slice(-2))
        assert.equal(JSON.parse((await client.answer(5000))?.body ?? '').text, text)
      }
      client.destroy()
    })

    test('one byte more is refused, and no handler hears of it', async () => {
      const before = seen.length
      for (const request of [sized('x'.repeat(MOST + 1)), chunked('x'.repeat(MOST), 'x')]) {
        const answer = await rawRequest(server.target, request)
        assert.equal(answer?.status, 413)
        assert.equal(JSON.parse(answer.body).code, 'BODY_TOO_LARGE')
      }
      assert.equal(seen.length, before)
    })

    test('one that never ends is refused in time, one that breaks off is dropped', async () => {
      const before = seen.length
      const slow = await RawClient.connect(server.target)
      slow.send(sized('unfinished').slice(0, -3))
      const answer = await slow.answer(TIMEOUT_MS + 5000)
      assert.equal(answer?.status, 408)
      assert.equal(JSON.parse(answer.body).code, 'REQUEST_TIMEOUT')
      slow.destroy()
      const gone = await RawClient.connect(server.target)
      gone.send(sized('unfinished').slice(0, -3))
      await new Promise((resolve) => setTimeout(resolve, 100))
      gone.destroy()
      await rawRequest(server.target, sized('after'))
      assert.deepEqual(seen.slice(before), ['after'])
    })
  })
}
