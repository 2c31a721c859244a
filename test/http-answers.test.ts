import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Hono } from 'hono'
import * as v from 'valibot'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { route } from '../src/route.ts'
import { serveTest, type TestServer } from './helpers/http-server.ts'
import { type RawAnswer, rawRequest } from './helpers/raw-http.ts'

const probe = definePlugin({
  name: 'probe',
  summary: 'One route of each kind',
  config: v.strictObject({}),
  exposure: 'network',
  setup() {
    const plain = { 'content-type': 'text/plain' }
    const routes = new Hono<PluginEnv>()
      .get('/thing', (c) => c.json({ a: 1 }))
      .post('/thing', (c) => c.body(null, 201))
      .get('/only-get', route({ summary: 'Without HEAD', head: false }), (c) => c.json({}))
      .post('/only-post', (c) => c.json({}))
      .get('/nothing', () => new Response(null))
      .get('/gone', () => new Response(null, { status: 204 }))
      .get('/plain', () => new Response('line\n', { headers: plain }))
      .get('/bytes', () => new Response(new Uint8Array([1, 2, 3]), { headers: plain }))
      .get('/chunks', () => new Response(new Blob(['a', 'b']).stream(), { headers: plain }))
      .get('/throws', () => {
        throw new Error('the secret cause')
      })
    return { routes }
  },
})

/** What an answer says beside what every answer says. */
function own(answer: RawAnswer | undefined): Record<string, string> {
  const usual = ['date', 'connection', 'keep-alive', 'content-length', 'transfer-encoding']
  return Object.fromEntries([...(answer?.headers ?? [])].filter(([name]) => !usual.includes(name)))
}

for (const unix of [false, true]) {
  describe(unix ? 'on a Unix socket' : 'on TCP', () => {
    let server: TestServer
    let dialect: TestServer

    before(async () => {
      server = await serveTest([probe], {}, { unix })
      dialect = await serveTest([probe], { dialect: 'system-api' }, { unix })
    })
    after(() => Promise.all([server.stop(), dialect.stop()]))

    const ask = (where: TestServer, method: string, path: string) =>
      rawRequest(where.target, `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)

    test('HEAD is GET without the body', async () => {
      const get = await ask(server, 'GET', '/thing')
      const head = await ask(server, 'HEAD', '/thing')
      assert.equal(get?.body, '{"a":1}')
      assert.equal(head?.status, 200)
      assert.deepEqual(own(head), own(get))
    })

    test('a known path with another method is 405 and says which are', async () => {
      for (const [path, allow] of [
        ['/thing', 'GET, HEAD, POST'],
        ['/only-get', 'GET'],
        ['/only-post', 'POST'],
      ] as const) {
        for (const method of ['HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
          if (allow.split(', ').includes(method)) continue
          const answer = await ask(server, method, path)
          assert.equal(answer?.status, 405, `${method} ${path}`)
          assert.equal(answer?.headers.get('allow'), allow, `${method} ${path}`)
        }
      }
    })

    test('an unknown path is 404, a method beyond the standard 405 without Allow', async () => {
      for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS']) {
        assert.equal((await ask(server, method, '/unknown'))?.status, 404, method)
      }
      for (const path of ['/thing', '/unknown']) {
        const answer = await ask(server, 'PROPFIND', path)
        assert.equal(answer?.status, 405)
        assert.equal(answer?.headers.get('allow'), undefined)
      }
    })

    test('the answers of system-api where no plugin has a say', async () => {
      const missing = await ask(dialect, 'GET', '/unknown')
      assert.equal(missing?.status, 404)
      assert.equal(missing?.body, '404 page not found\n')
      assert.deepEqual(own(missing), {
        'content-type': 'text/plain; charset=utf-8',
        'x-content-type-options': 'nosniff',
      })
      const wrong = await ask(dialect, 'DELETE', '/only-get')
      assert.equal(wrong?.status, 405)
      assert.equal(wrong?.body, '')
      assert.deepEqual(own(wrong), { allow: 'GET' })
      assert.deepEqual(own(await ask(dialect, 'OPTIONS', '/only-post')), { allow: 'POST' })
      for (const path of ['/only-get', '/unknown']) {
        const odd = await ask(dialect, 'PROPFIND', path)
        assert.equal(odd?.status, 405)
        assert.equal(odd?.body, '')
        assert.deepEqual(own(odd), {})
      }
    })

    test('with that dialect HEAD is refused wherever GET is answered', async () => {
      const answer = await ask(dialect, 'HEAD', '/only-get')
      assert.equal(answer?.status, 405)
      assert.equal(answer?.headers.get('allow'), 'GET')
    })

    test('no runtime adds headers of its own', async () => {
      for (const path of ['/nothing', '/gone']) {
        const answer = await ask(server, 'GET', path)
        assert.deepEqual(own(answer), {}, path)
        assert.equal(answer?.body, '')
      }
      for (const [path, body] of [
        ['/plain', 'line\n'],
        ['/bytes', '\x01\x02\x03'],
        ['/chunks', 'ab'],
      ] as const) {
        const answer = await ask(server, 'GET', path)
        assert.deepEqual(own(answer), { 'content-type': 'text/plain' }, path)
        assert.equal(answer?.body, body)
      }
      assert.deepEqual(own(await ask(server, 'GET', '/thing')), {
        'content-type': 'application/json',
      })
      assert.deepEqual(own(await ask(server, 'POST', '/thing')), {})
    })

    test('an answer of known size carries its Content-Length', async () => {
      assert.equal((await ask(server, 'GET', '/plain'))?.headers.get('content-length'), '5')
      assert.equal((await ask(server, 'GET', '/thing'))?.headers.get('content-length'), '7')
    })

    test('what a plugin throws is a 500 that does not tell why', async () => {
      const answer = await ask(server, 'GET', '/throws')
      assert.equal(answer?.status, 500)
      assert.doesNotMatch(answer?.body ?? '', /secret/)
    })

    test('Expect: 100-continue is answered before the body', async () => {
      const head = 'POST /thing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n'
      const answer = await rawRequest(server.target, `${head}Expect: 100-continue\r\n\r\n`)
      assert.equal(answer?.status, 100)
    })
  })
}
