import assert from 'node:assert/strict'
import { closeSync, existsSync, openSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, it } from 'node:test'
import { Hono } from 'hono'
import * as v from 'valibot'
import { builtins } from '../plugins/index.ts'
import { testPlugin } from '../src/conformance/suite.ts'
import { definePlugin, type Services } from '../src/plugin.ts'
import { route } from '../src/route.ts'
import { lacks } from './helpers/counterpart.ts'

/** What built-in plugins offer each other; nothing asks for it before a request does. */
const SERVICES: Partial<Services> = {
  appIdentity: {
    current: () => {
      throw new Error('the plugin guest has not started')
    },
  },
}

describe('every built-in plugin keeps the contract', () => {
  for (const plugin of builtins) {
    it(plugin.name, async () => {
      const folder = resolve('plugins', plugin.name)
      const results = await testPlugin(plugin, { folder, builtin: true, services: SERVICES })
      const failed = results.filter(({ ok }) => !ok)
      assert.deepEqual(failed, [])
    })
  }
})

/** A plugin that keeps every rule, with one part replaced. */
function almost(parts: Readonly<Record<string, unknown>>): unknown {
  return {
    ...definePlugin({
      name: 'almost',
      summary: 'Keeps the rules',
      config: v.strictObject({}),
      setup: () => ({
        routes: new Hono().get('/almost/x', route({ summary: 'x' }), (c) => c.text('x')),
      }),
    }),
    ...parts,
  }
}

const NO_ROUTES = { routes: new Hono() }

/** What each breach makes the suite say. */
const BREACHES: Readonly<Record<string, readonly [parts: Record<string, unknown>, check: RegExp]>> =
  {
    'a wrong version': [{ apiVersion: 2 }, /contract version/],
    'a full stop': [{ summary: 'Ends.' }, /summary is one line/],
    'a loose config': [{ config: v.object({}) }, /strictObject/],
    'a relative permission': [{ permissions: () => ({ read: ['etc'] }) }, /permissions/],
    'an error that is no response': [{ renderError: () => 'text' }, /renderError/],
    'another status': [{ renderError: () => new Response('', { status: 200 }) }, /renderError/],
    'a timer in setup': [
      { setup: () => ({ routes: new Hono(), timer: clearTimeout(setTimeout(ok, 1)) }) },
      /setup is pure/,
    ],
    'a file left open in setup': [
      {
        setup: () => {
          const fd = openSync('package.json', 'r')
          return { routes: new Hono(), stop: () => closeOnce(fd) }
        },
      },
      /setup is pure/,
    ],
    'one instance for all': [{ setup: () => NO_ROUTES }, /independent/],
    'a stop that needs a start': [
      { setup: () => ({ routes: new Hono(), stop: () => Promise.reject(new Error('no')) }) },
      /stop is safe without start/,
    ],
    'a stop that works once': [
      { setup: () => ({ routes: new Hono(), stop: once(() => Promise.resolve()) }) },
      /stops twice/,
    ],
    'no summary': [{ setup: () => ({ routes: new Hono().get('/almost', ok) }) }, /has a summary/],
    'a parameter without schema': [
      { setup: () => ({ routes: new Hono().get('/almost/:x', route({ summary: 'x' }), ok) }) },
      /path parameter/,
    ],
    'a foreign path': [
      { setup: () => ({ routes: new Hono().get('/other', route({ summary: 'x' }), ok) }) },
      /below \/<name>\//,
    ],
  }

const ok = () => new Response('ok')

function once(run: () => Promise<void>): () => Promise<void> {
  let done = false
  return async () => {
    if (done) throw new Error('called twice')
    done = true
    await run()
  }
}

const closed = new Set<number>()
function closeOnce(fd: number): void {
  if (!closed.has(fd)) closeSync(fd)
  closed.add(fd)
}

describe('the suite finds a breach', () => {
  it('and none in a plugin that keeps every rule', async () => {
    const failed = (await testPlugin(almost({}))).filter((result) => !result.ok)
    assert.deepEqual(failed, [])
  })
  for (const [breach, [parts, check]] of Object.entries(BREACHES)) {
    it(breach, async (t) => {
      if (breach.includes('left open') && lacks(t, 'proc', existsSync('/proc/self/fd'))) return
      const failed = (await testPlugin(almost(parts))).filter((result) => !result.ok)
      assert.ok(
        failed.some((result) => check.test(result.check)),
        JSON.stringify(failed),
      )
    })
  }
})
