import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { test } from 'node:test'
import { getRequestListener } from '@hono/node-server'
import { parse } from 'smol-toml'
import * as v from 'valibot'
import eventlog from '../../plugins/eventlog/index.ts'
import { followEvents } from '../../src/events/follow.ts'
import type { EventPage } from '../../src/events/wire.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'

async function withHost(
  config: Record<string, unknown>,
  use: (host: PluginHost) => Promise<void>,
): Promise<void> {
  const host = hostPlugin(eventlog, config)
  await host.start()
  try {
    await use(host)
  } finally {
    await host.stop()
  }
}

async function page(host: PluginHost, query = ''): Promise<EventPage> {
  const response = await host.request(`/cvmd/events${query}`)
  assert.equal(response.status, 200)
  return (await response.json()) as EventPage
}

async function bytes(host: PluginHost, path: string): Promise<Buffer> {
  return Buffer.from(await (await host.request(path)).arrayBuffer())
}

const text = async (host: PluginHost, path: string) => (await bytes(host, path)).toString()

test('/ says that the daemon is up', () =>
  withHost({}, async (host) => {
    const response = await host.request('/')
    assert.equal(response.headers.get('content-type'), 'application/json')
    assert.equal(await response.text(), '{"status":"ok"}\n')
    assert.equal((await host.request('/', { method: 'HEAD' })).status, 405)
  }))

test('an empty log has empty views', () =>
  withHost({}, async (host) => {
    host.eventLog.append('cvmd', 'not shown')
    const logs = await host.request('/logs')
    assert.equal(logs.headers.get('content-type'), 'text/plain')
    assert.equal(await logs.text(), '')
    const events = await host.request('/api/v1/events')
    assert.equal(events.headers.get('content-type'), 'application/json')
    assert.equal(await events.text(), '[]\n')
    assert.equal(await text(host, '/api/v1/events?format=text'), '')
  }))

test('the views are those of system-api to the byte', () =>
  withHost({}, async (host) => {
    const { eventLog } = host
    eventLog.append('fifo', 'one', { time: Date.UTC(2024, 10, 5, 22, 3, 23, 120) })
    eventLog.append('cvmd', 'hidden')
    eventLog.append('actions', 'a<b>&"\n\t\u2028\u0001', { time: Date.UTC(2024, 10, 5, 22, 3, 24) })
    const lines = '2024-11-05T22:03:23Z \t one\n2024-11-05T22:03:24Z \t a<b>&"\n\t\u2028\u0001\n'
    assert.equal(await text(host, '/logs'), lines)
    assert.equal(await text(host, '/api/v1/events?format=text'), lines)
    const json =
      '[{"received_at":"2024-11-05T22:03:23.12Z","message":"one"},' +
      '{"received_at":"2024-11-05T22:03:24Z",' +
      '"message":"a\\u003cb\\u003e\\u0026\\"\\n\\t\\u2028\\u0001"}]\n'
    assert.equal(await text(host, '/api/v1/events'), json)
    assert.equal(await text(host, '/api/v1/events?format=TEXT'), json)
    assert.equal(await text(host, '/logs?tail=1'), lines.slice(lines.indexOf('\n') + 1))
    assert.equal(await text(host, '/logs?tail=0'), '')
    for (const query of ['tail=9', 'tail=x', 'tail=-1', 'x=1']) {
      assert.equal(await text(host, `/logs?${query}`), lines)
    }
  }))

test('new_event records what the query says', () =>
  withHost({ max_line_bytes: 100 }, async (host) => {
    const queries: [string, string][] = [
      ['message=hello', 'hello'],
      ['message=a+b%20c%0Ad', 'a b c\nd'],
      ['', ''],
      ['message', ''],
      ['Message=x', ''],
      ['message=first&message=second', 'first'],
      ['message=%zz', '%zz'],
      ['message=a;b', 'a;b'],
      ['x=1&m%65ssage=coded', 'coded'],
      ['message=%E2%82%AC', '€'],
      [`message=${'x'.repeat(101)}`, `${'x'.repeat(100)} [cut]`],
    ]
    for (const [query, message] of queries) {
      const response = await host.request(`/api/v1/new_event?${query}`)
      assert.equal(response.status, 200)
      assert.equal(response.headers.get('content-type'), null)
      assert.equal(await response.text(), '')
      const event = host.eventLog.get(host.eventLog.next - 1)
      assert.deepEqual([event?.message, event?.source], [message, 'http'], query)
    }
    const foreign = { headers: { origin: 'https://evil.example' } }
    assert.equal((await host.request('/api/v1/new_event?message=x', foreign)).status, 403)
    assert.equal((await host.request('/api/v1/new_event', { method: 'POST' })).status, 405)
  }))

test('bytes that are not UTF-8 come back as they were', () =>
  withHost({}, async (host) => {
    await host.request('/api/v1/new_event?message=%ff%41%00')
    const logs = await bytes(host, '/logs')
    assert.deepEqual([...logs.subarray(-4)], [0xff, 0x41, 0, 10])
    assert.match(await text(host, '/api/v1/events'), /"message":"\\ufffdA\\u0000"\}\]\n$/)
    const { events } = await page(host)
    assert.equal(events[0]?.raw, Buffer.from([0xff, 0x41, 0]).toString('base64'))
  }))

test('the views show the last max_entries events and follow appends', () =>
  withHost({ max_entries: 5 }, async (host) => {
    for (let i = 0; i < 3000; i++) {
      host.eventLog.append('t', `m${i}`)
      if (i % 3 === 0) host.eventLog.append('cvmd', 'own')
      if (i % 7 !== 0) continue
      const last = Array.from({ length: Math.min(5, i + 1) }, (_, k) => `m${i - k}`).reverse()
      const lines = (await text(host, '/logs')).split('\n').slice(0, -1)
      assert.deepEqual(
        lines.map((line) => line.split('\t ')[1]),
        last,
      )
      if (i % 70 !== 0) continue
      const items = JSON.parse(await text(host, '/api/v1/events')) as { message: string }[]
      assert.deepEqual(
        items.map(({ message }) => message),
        last,
      )
    }
  }))

test('a ring for no entries shows none', async () => {
  for (const max_entries of [0, -5]) {
    await withHost({ max_entries }, async (host) => {
      host.eventLog.append('t', 'x')
      assert.equal(await text(host, '/logs'), '')
      assert.equal(await text(host, '/api/v1/events'), '[]\n')
    })
  }
})

test('a view that was handed out does not change', () =>
  withHost({ max_entries: 3 }, async (host) => {
    host.eventLog.append('t', 'first')
    const response = await host.request('/logs')
    for (let i = 0; i < 500; i++) {
      host.eventLog.append('t', `later ${i}`)
      await host.request('/logs')
    }
    assert.match(await response.text(), /^\S+ \t first\n$/)
  }))

test('errors speak the dialect of the route', () =>
  withHost({}, async (host) => {
    const native = await host.request('/cvmd/events?limit=0')
    assert.equal(native.headers.get('content-type'), 'application/problem+json')
    assert.equal(((await native.json()) as { code: string }).code, 'INVALID_REQUEST')
    const foreign = { headers: { origin: 'https://evil.example' } }
    const compatible = await host.request('/api/v1/new_event?message=x', foreign)
    assert.equal(compatible.status, 403)
    assert.deepEqual(Object.keys((await compatible.json()) as object), ['code', 'message'])
    assert.equal(host.eventLog.next, 1)
  }))

test('pages filter, limit and go on with a stable cursor', () =>
  withHost({}, async (host) => {
    const { eventLog } = host
    for (let i = 0; i < 10; i++) {
      eventLog.append(i % 2 ? 'odd' : 'even', `m${i}`, { level: i < 5 ? 'debug' : 'warn', time: i })
    }
    const first = await page(host, '?limit=3&source=odd')
    assert.deepEqual(
      first.events.map(({ message }) => message),
      ['m1', 'm3', 'm5'],
    )
    assert.equal(first.events[0]?.time, '1970-01-01T00:00:00.001Z')
    assert.equal(first.events[0]?.hash, eventLog.hash(2))
    const second = await page(host, `?limit=3&source=odd&after=${first.next}`)
    assert.deepEqual(
      second.events.map(({ message }) => message),
      ['m7', 'm9'],
    )
    assert.equal(second.next, 10)
    assert.deepEqual((await page(host, '?after=10')).events, [])
    assert.equal((await page(host, '?level=info')).events.length, 5)
    assert.equal((await page(host, '?contains=m7&level=debug')).events.length, 1)
    assert.deepEqual(Object.keys(await page(host)), [
      'events',
      'next',
      'first',
      'dropped',
      'previous',
    ])
    for (const query of ['level=loud', 'after=-1', 'after=x', 'limit=10001', 'wait=61']) {
      assert.equal((await host.request(`/cvmd/events?${query}`)).status, 400, query)
    }
  }))

test('a page has the hash before its first event, while that is known', () =>
  withHost({}, async (host) => {
    for (const message of ['one', 'two', 'three']) host.eventLog.append('test', message)
    const [one, two] = (await page(host)).events
    assert.equal((await page(host)).previous, '0'.repeat(64))
    assert.equal((await page(host, '?after=1')).previous, one?.hash)
    assert.equal((await page(host, '?contains=three')).previous, two?.hash)
    assert.equal((await page(host, '?after=3')).previous, undefined)
    const { first } = host.eventLog
    while (host.eventLog.first === first) host.eventLog.append('test', 'flood')
    assert.equal((await page(host)).previous, undefined)
  }))

test('pages tell what was dropped, and a cursor of another run (F2)', () =>
  withHost({ max_entries: 10 }, async (host) => {
    for (let i = 0; i < 2660; i++) host.eventLog.append('t', `m${i}`)
    const late = await page(host, '?after=5')
    assert.deepEqual(late.gap, { from: 6, to: 2660 - 266 })
    assert.equal(late.events.length, 266)
    assert.equal(late.dropped, 2660 - 266)
    assert.equal(late.first, late.events[0]?.seq)
    assert.equal((await page(host)).gap, undefined)
    const other = await page(host, '?after=90000')
    assert.equal(other.reset, true)
    assert.equal(other.events.length, 266)
  }))

test('a long poll answers when something comes, and in time when nothing does', () =>
  withHost({ max_streams: 2 }, async (host) => {
    host.eventLog.append('t', 'before')
    const waiting = page(host, '?after=1&wait=30&source=wanted')
    host.eventLog.append('t', 'not this')
    await new Promise((resolve) => setTimeout(resolve, 20))
    host.eventLog.append('wanted', 'this')
    const answer = await waiting
    assert.deepEqual(
      answer.events.map(({ message }) => message),
      ['this'],
    )
    assert.equal(answer.next, 3)
    const empty = await page(host, '?after=3&wait=0.05')
    assert.deepEqual([empty.events, empty.next], [[], 3])
    const all = [1, 2, 3].map(() => host.request('/cvmd/events?after=3&wait=30'))
    const refused = await (all[2] as Promise<Response>)
    assert.equal(refused.status, 429)
    assert.equal(refused.headers.get('retry-after'), '5')
    host.eventLog.append('t', 'done')
    for (const response of await Promise.all(all.slice(0, 2))) assert.equal(response.status, 200)
    assert.match(await host.metrics.render(), /cvmd_event_streams 0/)
  }))

test('a long poll ends with its request', () =>
  withHost({ max_streams: 1 }, async (host) => {
    const away = new AbortController()
    const waiting = host.request('/cvmd/events?after=0&wait=60', { signal: away.signal })
    await new Promise((resolve) => setTimeout(resolve, 10))
    away.abort()
    await waiting.catch(() => undefined)
    assert.equal((await host.request('/cvmd/events?after=0&wait=0.01')).status, 200)
  }))

test('POST records an event with level and source', () =>
  withHost({ max_line_bytes: 50 }, async (host) => {
    const post = (body: unknown) =>
      host.request('/cvmd/events', { method: 'POST', body: JSON.stringify(body) })
    const response = await post({ message: 'hi\nthere', level: 'error', source: 'backup' })
    assert.equal(response.status, 201)
    const event = (await response.json()) as { seq: number; hash: string }
    assert.equal(event.hash, host.eventLog.hash(event.seq))
    assert.deepEqual((await page(host, '?source=backup&level=error')).events, [event])
    assert.equal(
      ((await (await post({ message: '' })).json()) as { source: string }).source,
      'http',
    )
    for (const source of ['cvmd', 'eventlog', 'fifo']) {
      const refused = await post({ message: 'x', source })
      assert.equal(refused.status, 403, source)
      assert.equal(((await refused.json()) as { code: string }).code, 'SOURCE_RESERVED')
    }
    const wrong = [
      {},
      { message: 1 },
      { message: 'x', level: 'loud' },
      { message: 'x', source: 'A b' },
      { message: 'x', more: 1 },
      { message: 'ü'.repeat(26) },
    ]
    for (const body of wrong) assert.equal((await post(body)).status, 400, JSON.stringify(body))
    assert.equal((await host.request('/cvmd/events', { method: 'POST', body: '{' })).status, 400)
  }))

/** Reads a stream until its text matches. */
async function readUntil(response: Response, pattern: RegExp): Promise<string> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  let got = ''
  while (!pattern.test(got)) {
    const { done, value } = await reader.read()
    if (done) throw new Error(`the stream ended after: ${got}`)
    got += Buffer.from(value).toString()
  }
  await reader.cancel()
  return got
}

test('the stream sends what there is, then what comes, with filters and resume', () =>
  withHost({}, async (host) => {
    const { eventLog } = host
    for (let i = 1; i <= 3; i++) eventLog.append(i === 2 ? 'x' : 't', `m${i}`)
    const response = await host.request('/cvmd/events/stream?source=t')
    assert.equal(response.headers.get('content-type'), 'text/event-stream')
    setTimeout(() => eventLog.append('t', 'line\nfeed'), 20)
    const got = await readUntil(response, /id: 4\n.*\n.*\n\n/)
    assert.match(
      got,
      /^retry: 1000\n\nid: 1\nevent: event\ndata: \{"seq":1,.*"hash":"\w{64}"\}\n\n/,
    )
    assert.ok(!got.includes('"m2"') && got.includes('line\\nfeed'))
    const again = await host.request('/cvmd/events/stream?after=1', {
      headers: { 'last-event-id': '2' },
    })
    const rest = await readUntil(again, /id: 4\n/)
    assert.ok(!rest.includes('id: 2\n') && rest.includes('id: 3\n'))
  }))

test('the stream marks a gap and a foreign cursor (F2)', () =>
  withHost({ max_entries: 1 }, async (host) => {
    for (let i = 0; i < 2570; i++) host.eventLog.append('t', `m${i}`)
    const headers = { 'last-event-id': '7' }
    const resumed = await host.request('/cvmd/events/stream', { headers })
    const got = await readUntil(resumed, /"m2569"/)
    assert.match(got, /\n\nid: 2313\nevent: gap\ndata: \{"from":8,"to":2313\}\n\nid: 2314\n/)
    const foreign = await host.request('/cvmd/events/stream?after=99999')
    assert.match(await readUntil(foreign, /"m2569"/), /event: reset\ndata: \{"first":2314\}/)
  }))

test('a stream nobody reads keeps nothing and then shows a gap', () =>
  withHost({ max_entries: 1 }, async (host) => {
    const response = await host.request('/cvmd/events/stream?after=0')
    for (let i = 0; i < 20_000; i++) host.eventLog.append('t', `m${i}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
    for (let i = 0; i < 20_000; i++) host.eventLog.append('t', `m${i}`)
    const got = await readUntil(response, /id: 40000\n/)
    const sent = [...got.matchAll(/event: event/g)].length
    const missed = [...got.matchAll(/"from":(\d+),"to":(\d+)/g)].reduce(
      (sum, [, from, to]) => sum + Number(to) - Number(from) + 1,
      0,
    )
    assert.equal(sent + missed, 40_000)
    assert.ok(sent < 2000)
  }))

test('streams are bounded, beat and end when the daemon stops', async () => {
  const host = hostPlugin(eventlog, { max_streams: 2, heartbeat_s: 1 })
  await host.start()
  host.eventLog.append('t', 'x')
  const open = await host.request('/cvmd/events/stream?after=1')
  const quiet = await host.request('/cvmd/events/stream?source=none')
  const third = await host.request('/cvmd/events/stream')
  assert.equal(third.status, 429)
  assert.equal(third.headers.get('retry-after'), '5')
  assert.match(await host.metrics.render(), /cvmd_event_streams 2/)
  assert.match(await readUntil(quiet, /heartbeat/), /: heartbeat\nid: 1\n\n/)
  const next = await host.request('/cvmd/events/stream?after=1')
  assert.equal(next.status, 200)
  const rest = [open, next].map((response) => response.text())
  await host.stop()
  for (const body of await Promise.all(rest)) assert.match(body, /^retry: 1000\n\n/)
})

test('follow reads pages and the stream over broken connections, each event once', () =>
  withHost({}, async (host) => {
    const { eventLog } = host
    for (let i = 1; i <= 5; i++) eventLog.append('t', `m${i}`)
    let calls = 0
    const send = async (path: string, init: RequestInit) => {
      calls++
      if (calls === 4) throw new TypeError('connection refused')
      const response = await host.request(path, init)
      if (!path.includes('/stream') || calls > 6) return response
      // Breaks off after the first bytes beyond the greeting.
      const reader = (response.body as ReadableStream<Uint8Array>).getReader()
      const body = new ReadableStream<Uint8Array>({
        async pull(controller) {
          const { value } = await reader.read()
          controller.enqueue((value as Uint8Array).slice(0, 400))
          controller.close()
          await reader.cancel()
        },
      })
      return new Response(body)
    }
    const feed = setInterval(() => eventLog.append('t', `m${eventLog.next}`), 5)
    const seqs: number[] = []
    const stop = new AbortController()
    const options = { follow: true, retryMs: 1, signal: stop.signal }
    for await (const item of followEvents(send, options)) {
      if (item.type === 'event') seqs.push(item.event.seq)
      if (seqs.length === 30) break
    }
    clearInterval(feed)
    assert.deepEqual(
      seqs,
      Array.from({ length: 30 }, (_, i) => i + 1),
    )
    assert.ok(calls > 5)
  }))

test('follow ends without "follow" and reports a refusal', () =>
  withHost({}, async (host) => {
    for (let i = 0; i < 1500; i++) host.eventLog.append('t', 'x')
    host.eventLog.append('u', 'wanted')
    const send = (path: string, init: RequestInit) => host.request(path, init)
    let count = 0
    for await (const item of followEvents(send, { source: 'u' }))
      count += item.type === 'event' ? 1 : 0
    assert.equal(count, 1)
    await assert.rejects(async () => {
      for await (const _ of followEvents(send, { level: 'loud', follow: true }));
    }, /answered 400: Invalid query/)
  }))

test('the debug routes are there only with pprof', async () => {
  await withHost({}, async (host) => {
    assert.equal((await host.request('/debug/pprof/')).status, 404)
  })
  await withHost({ pprof: true }, async (host) => {
    for (const path of ['/debug', '/debug/', '/debug/pprof']) {
      const response = await host.request(path)
      assert.equal(response.status, 301)
      assert.equal(response.headers.get('location'), '/debug/pprof/')
    }
    assert.match(await text(host, '/debug/pprof/'), /heap/)
    const heap = (await (await host.request('/debug/pprof/heap')).json()) as {
      process: { rss: number }
    }
    assert.ok(heap.process.rss > 1e6)
    const profile = await host.request('/debug/pprof/profile?seconds=0.05')
    if (profile.status === 200) assert.ok('nodes' in ((await profile.json()) as object))
    else assert.equal(profile.status, 501)
    assert.equal((await host.request('/debug/pprof/profile?seconds=121')).status, 400)
    assert.equal((await host.request('/debug/pprof/goroutine')).status, 501)
  })
})

test('a client that does not read /logs delays nobody', async () => {
  await withHost({ max_entries: 2000 }, async (host) => {
    const line = 'x'.repeat(10_000)
    for (let i = 0; i < 1500; i++) host.eventLog.append('t', line)
    const server = createServer(
      getRequestListener(
        (request) => {
          const { pathname, search } = new URL(request.url)
          return host.request(pathname + search, { headers: request.headers })
        },
        // Those of Bun stay as they are for the tests after this one in its process.
        { overrideGlobalObjects: false },
      ),
    )
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const lazy = Array.from({ length: 8 }, () => {
      const socket = connect(port, '127.0.0.1')
      socket.pause()
      socket.write('GET /logs HTTP/1.1\r\nHost: localhost\r\n\r\n')
      return socket
    })
    try {
      await new Promise((resolve) => setTimeout(resolve, 100))
      const base = `http://127.0.0.1:${port}`
      const recorded = await fetch(`${base}/api/v1/new_event?message=quick`)
      assert.equal(recorded.status, 200)
      assert.equal(recorded.headers.get('content-type'), null)
      await recorded.arrayBuffer()
      const logs = await fetch(`${base}/logs?tail=1`)
      assert.equal(logs.headers.get('content-type'), 'text/plain')
      assert.match(await logs.text(), /^\S+ \t quick\n$/)
    } finally {
      for (const socket of lazy) socket.destroy()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
})

test('the sample parses to the defaults, and the README shows it', () => {
  const folder = new URL('../../plugins/eventlog/', import.meta.url)
  const sample = readFileSync(new URL('config.sample.toml', folder), 'utf8')
  const table = (text: string) => {
    const { plugins } = parse(text) as { plugins: { eventlog: unknown } }
    return v.parse(eventlog.config, plugins.eventlog)
  }
  assert.deepEqual(table(sample), v.parse(eventlog.config, {}))
  assert.deepEqual(table(sample.replace(/^# /gm, '')), v.parse(eventlog.config, {}))
  assert.ok(readFileSync(new URL('README.md', folder), 'utf8').includes(sample))
  const wrong = [{ max_line_bytes: 0 }, { fifo_mode: '0999' }, { fifo: '' }, { entries: 5 }]
  for (const config of wrong) assert.throws(() => v.parse(eventlog.config, config))
})

test('start and stop are safe in any order', async () => {
  const host = hostPlugin(eventlog)
  await host.stop()
  const other = hostPlugin(eventlog)
  await other.start()
  await other.stop()
  await other.stop()
})
