/** Requests that come before the answers of those before them were fetched. */
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { Hono } from 'hono'
import * as v from 'valibot'
import { MAX_WAITING_ANSWERS } from '../src/http/waiting-answers.ts'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { runtime } from '../src/runtime.ts'
import { createSelfSigned } from '../src/tls/self-signed.ts'
import { serveTest, type TestServer } from './helpers/http-server.ts'
import { pause, RawClient, type RawTarget } from './helpers/raw-http.ts'

const LARGE = 'x'.repeat(64 * 1024)
const FLOOD = 20_000
const DEADLINE_MS = 20_000

/** Handlers that answer at once, later, a lot, and only when told so; and who was asked. */
class Probe {
  asked = 0
  /** Ends the waiting of `/wait`. */
  open: () => void = () => {}
  #gate = Promise.resolve()

  /** From now on, `/wait` waits. */
  shut(): void {
    this.asked = 0
    this.#gate = new Promise((resolve) => {
      this.open = resolve
    })
  }

  readonly plugin = definePlugin({
    name: 'probe',
    summary: 'Answers sooner or later',
    config: v.strictObject({}),
    exposure: 'network',
    setup: () => ({
      routes: new Hono<PluginEnv>()
        .use('*', async (_c, next) => {
          this.asked++
          await next()
        })
        .get('/now/:n', (c) => c.text(c.req.param('n')))
        .get('/later/:n', async (c) => {
          // The later asked, the sooner answered.
          await pause(30 - 3 * (Number(c.req.param('n')) % 10))
          return c.text(c.req.param('n'))
        })
        .get('/large', (c) => c.text(LARGE))
        .get('/wait', async (c) => {
          await this.#gate
          return c.text('waited')
        }),
    }),
  })
}

const request = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`

/** A client that sends so many requests, as fast as they are taken, and never reads; whether it was cut. */
async function flood(
  target: RawTarget,
  path: string,
  { count = FLOOD, together = 100, patienceMs = DEADLINE_MS } = {},
): Promise<boolean> {
  const socket = opened(target)
  let cut = false
  for (const event of ['error', 'close']) {
    socket.on(event, () => {
      cut = true
    })
  }
  const some = Buffer.from(request(path).repeat(together))
  try {
    let until = performance.now() + patienceMs
    for (let sent = 0; !cut && performance.now() < until; ) {
      if (sent < count && socket.writableLength < 64 * 1024) {
        socket.write(some)
        sent += together
        until = performance.now() + patienceMs
      }
      await pause(sent < count ? 0 : 20)
    }
    return cut
  } finally {
    socket.destroy()
  }
}

function opened(target: RawTarget): Socket {
  if ('unix' in target) return connect({ path: target.unix })
  const at = { port: target.port, host: '127.0.0.1' }
  return target.tls ? connectTls({ ...at, ...target.tls }) : connect(at)
}

for (const where of ['TCP', 'Unix', 'TLS'] as const) {
  // Bun.serve shows no connections, and has bounds of its own.
  const bunServe = runtime === 'bun' && where === 'TCP'

  describe(`pipelining on ${where}`, () => {
    const probe = new Probe()
    let server: TestServer
    let target: RawTarget

    before(async () => {
      const tls = where === 'TLS' ? { tls: createSelfSigned(['localhost'], Date.now()) } : {}
      const options = { unix: where === 'Unix', ...tls }
      server = await serveTest([probe.plugin], { max_connections_per_peer: 4 }, options)
      const { port } = server.listener
      target = where === 'TLS' ? { port, tls: { rejectUnauthorized: false } } : server.target
    })
    after(async () => {
      probe.open()
      await server.stop()
    })

    test('who sends on and on while the first answer waits is cut', async () => {
      probe.shut()
      assert.ok(await flood(target, '/wait'), 'not cut')
      assert.ok(probe.asked <= MAX_WAITING_ANSWERS, `${probe.asked} requests were let in`)
      probe.open()
    })

    test('who fetches no answers is cut', async () => {
      probe.shut()
      assert.ok(await flood(target, '/large'), 'not cut')
      assert.ok(probe.asked < 1000, `${probe.asked} requests were let in`)
    })

    test('who asks for little at a time and fetches nothing gets no further either', async () => {
      probe.shut()
      // Node stops reading by itself here, and so cuts nobody before the idle limit.
      await flood(target, '/large', { count: 4000, together: 8, patienceMs: 300 })
      // What the kernel holds counts as fetched: some megabytes, that is about a hundred answers.
      assert.ok(probe.asked < 1000, `${probe.asked} requests were let in`)
    })

    test('ten at once are answered, in order, again and again', async () => {
      const client = await RawClient.connect(target)
      try {
        // Bun.serve ends a connection where a request follows one whose handler waits.
        for (const path of bunServe ? ['/now'] : ['/now', '/later']) {
          for (let round = 0; round < 5; round++) {
            const numbers = Array.from({ length: 10 }, (_, n) => String(10 * round + n))
            client.send(numbers.map((n) => request(`${path}/${n}`)).join(''))
            for (const n of numbers) {
              assert.equal((await client.answer(DEADLINE_MS))?.body, n, `${path}/${n}`)
            }
          }
        }
      } finally {
        client.destroy()
      }
    })

    test('ten that are always under way are not counted twice', async () => {
      const client = await RawClient.connect(target)
      const path = (n: number) => request(`/now/${n}`)
      try {
        client.send(Array.from({ length: 10 }, (_, n) => path(n)).join(''))
        for (let n = 0; n < 200; n++) {
          assert.equal((await client.answer(DEADLINE_MS))?.body, String(n))
          client.send(path(n + 10))
        }
      } finally {
        client.destroy()
      }
    })

    test('one after the other, a connection takes any number', async () => {
      const client = await RawClient.connect(target)
      try {
        for (let n = 0; n < 100; n++) {
          client.send(request(`/${n % 10 === 0 ? 'later' : 'now'}/${n}`))
          assert.equal((await client.answer(DEADLINE_MS))?.body, String(n))
        }
      } finally {
        client.destroy()
      }
    })

    const skip = bunServe && 'Bun.serve takes one'
    test(`${MAX_WAITING_ANSWERS} may wait, and one more may not`, { skip }, async () => {
      probe.shut()
      const [good, bad] = [await RawClient.connect(target), await RawClient.connect(target)]
      try {
        good.send(request('/wait').repeat(MAX_WAITING_ANSWERS))
        bad.send(request('/wait').repeat(MAX_WAITING_ANSWERS))
        const until = performance.now() + DEADLINE_MS
        while (probe.asked < 2 * MAX_WAITING_ANSWERS && performance.now() < until) await pause(5)
        assert.equal(probe.asked, 2 * MAX_WAITING_ANSWERS)
        bad.send(request('/wait'))
        assert.ok(await bad.closed(DEADLINE_MS), 'not cut')
        assert.equal(bad.text, '')
        probe.open()
        for (let n = 0; n < MAX_WAITING_ANSWERS; n++) {
          assert.equal((await good.answer(DEADLINE_MS))?.body, 'waited')
        }
      } finally {
        for (const client of [good, bad]) client.destroy()
      }
    })
  })
}
