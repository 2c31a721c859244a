/** Listeners of a plugin at home on addresses of its own, and addresses that come later. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { Hono } from 'hono'
import * as v from 'valibot'
import { resolveConfig } from '../src/config/resolve.ts'
import { Listen } from '../src/config/schema.ts'
import { openLate } from '../src/http/late.ts'
import { openListener } from '../src/http/listen.ts'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { route } from '../src/route.ts'
import { serveTest } from './helpers/http-server.ts'

const own = definePlugin({
  name: 'own',
  summary: 'Is at home on addresses of its own',
  config: v.strictObject({ port: v.optional(v.number(), 4711) }),
  exposure: 'network',
  home: 'own',
  auth: 'own',
  addresses: ({ port }) => [
    { address: `127.0.0.1:${port}` },
    { address: `192.0.2.1:${port}`, late: true },
  ],
  setup: () => ({
    routes: new Hono<PluginEnv>()
      .get('/own', route({ summary: 'Its own' }), (c) => c.text('own'))
      .get('/cvmd/own', route({ summary: 'Of the operator' }), (c) => c.text('operator'))
      .get('/remote/*', route({ summary: 'As well', listener: 'operator' }), (c) =>
        c.text('remote'),
      )
      .all('*', route({ summary: 'The rest', listener: 'own' }), (c) => c.text('rest', 404)),
  }),
})

const MACHINE = { has: () => true, explain: () => '', path: (path: string) => path } as never

function resolve(table: Record<string, unknown>) {
  const source = {
    file: '(test)',
    text: '',
    table: table as never,
    issues: [],
    warnings: [],
    systemApi: false,
  }
  return resolveConfig(source, [own], MACHINE)
}

async function statuses(listen: v.InferInput<typeof Listen> | Record<string, unknown>) {
  const server = await serveTest([own], listen)
  try {
    const found: Record<string, number> = {}
    for (const path of ['/own', '/cvmd/own', '/remote/x', '/else']) {
      const answer = await fetch(`http://127.0.0.1:${server.listener.port}${path}`)
      await answer.text()
      found[path] = answer.status
    }
    return found
  } finally {
    await server.stop()
  }
}

test('without [[listen]] a plugin at home elsewhere gets its addresses, open and without core', () => {
  const { listeners } = resolve({ plugins: { own: { port: 1234 } } })
  const named = new Map(listeners.map((listener) => [listener.name, listener]))
  assert.deepEqual(named.get('127.0.0.1:3535')?.mounted, ['own'])
  const first = named.get('127.0.0.1:1234')
  assert.deepEqual([first?.mounted, first?.core, first?.auth], [['own'], false, ['none']])
  assert.equal(first?.late, false)
  assert.equal(named.get('192.0.2.1:1234')?.late, true)
})

test('a password of the daemon is not asked for where the plugin has its own keys', () => {
  const { listeners } = resolve({ auth: { password_file: '/nowhere' } })
  const auth = Object.fromEntries(listeners.map(({ name, auth }) => [name, auth]))
  assert.deepEqual(auth['127.0.0.1:4711'], ['none'])
  assert.deepEqual(auth['127.0.0.1:3535'], ['basic'])
})

test('an open address needs no consent where only plugins with keys of their own are served', () => {
  const at = { address: '0.0.0.0:1', plugins: ['own'] }
  assert.doesNotThrow(() => resolve({ listen: [{ ...at, core: false }] }))
  assert.throws(() => resolve({ listen: [at] }), /can be reached by others/)
  assert.throws(() => resolve({ listen: [{ address: '0.0.0.0:1' }] }), /can be reached by others/)
})

test("an operator's listener has the operator's routes alone, and behind its own auth", async () => {
  const open = await statuses({})
  assert.deepEqual(open, { '/own': 404, '/cvmd/own': 200, '/remote/x': 200, '/else': 404 })
  const guarded = await statuses({ auth: 'key', plugins: ['own'] })
  assert.deepEqual(guarded, { '/own': 200, '/cvmd/own': 401, '/remote/x': 401, '/else': 401 })
})

test('its own listener has everything else, with its catch-all', async () => {
  const found = await statuses({ core: false, plugins: ['own'], auth: 'key' })
  assert.deepEqual(found, { '/own': 200, '/cvmd/own': 404, '/remote/x': 404, '/else': 404 })
  const unnamed = await statuses({ core: false, auth: 'key' })
  assert.deepEqual(unnamed, { '/own': 401, '/cvmd/own': 401, '/remote/x': 401, '/else': 401 })
})

test('a late address is waited for, any other problem is an error', async () => {
  const listen = (address: string, late: boolean) => {
    const config = v.parse(Listen, { address, late })
    return openListener({ ...config, name: address, mounted: [] }, undefined, () => new Response())
  }
  // TEST-NET-1: no machine has it.
  const waiting = await listen('192.0.2.1:48484', true)
  assert.equal(waiting.port, 0)
  await waiting.close(0)
  await assert.rejects(listen('192.0.2.1:48484', false), { name: 'ListenError' })
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as { port: number }
  await assert.rejects(listen(`127.0.0.1:${port}`, true), { name: 'ListenError' })
  taken.close()
})

test('a late address serves once it is there, with the newest certificate', async () => {
  const replaced: unknown[] = []
  const closed: number[] = []
  let tries = 0
  let opened: () => void = () => undefined
  const open = new Promise<void>((resolve) => {
    opened = resolve
  })
  const listener = await openLate(
    async () => {
      if (++tries < 3) throw Object.assign(new Error('away'), { code: 'EADDRNOTAVAIL' })
      return {
        port: 7,
        replaceTls: (pair) => void replaced.push(pair),
        close: async (ms) => void closed.push(ms),
      }
    },
    { waiting: () => assert.equal(tries, 1), opened, failed: assert.ifError },
    1,
  )
  const pair = { cert: 'c', key: 'k' }
  listener.replaceTls(pair)
  assert.equal(listener.port, 0)
  const keepAlive = setTimeout(() => undefined, 5000)
  await open
  clearTimeout(keepAlive)
  assert.deepEqual([tries, listener.port, replaced], [3, 7, [pair]])
  await listener.close(5)
  assert.deepEqual(closed, [5])
})

test('what stands in the way later is told, and ends the waiting', async () => {
  let tries = 0
  const failure = new Promise<unknown>((resolve) => {
    openLate(
      async () => {
        const code = ++tries === 1 ? 'EADDRNOTAVAIL' : 'EADDRINUSE'
        throw Object.assign(new Error(code), { code })
      },
      { waiting: () => undefined, opened: () => undefined, failed: resolve },
      1,
    )
  })
  const keepAlive = setTimeout(() => undefined, 5000)
  assert.equal(String(await failure), 'Error: EADDRINUSE')
  clearTimeout(keepAlive)
  assert.equal(tries, 2)
})
