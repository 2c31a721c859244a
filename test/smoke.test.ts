import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Hono } from 'hono'
import * as v from 'valibot'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { hostPlugin } from './helpers/plugin-host.ts'

const hello = definePlugin({
  name: 'hello',
  summary: 'x',
  config: v.strictObject({}),
  setup({ events }) {
    return {
      routes: new Hono<PluginEnv>().get('/hello/:name', (c) => {
        events.append('x')
        return c.json({ hi: c.req.param('name'), l: c.env.listener })
      }),
    }
  },
})
test('a plugin answers', async () => {
  const host = hostPlugin(hello)
  assert.equal((await host.request('/hello/x')).status, 503)
  await host.start()
  assert.deepEqual(await (await host.request('/hello/x')).json(), { hi: 'x', l: 'test' })
  assert.equal(
    (await host.request('/hello/x', { method: 'POST', body: 'x' })).headers.get('allow'),
    'GET, HEAD',
  )
  assert.equal((await host.request('/nope')).status, 404)
  assert.ok((await host.metrics.render()).includes('process_'))
  await host.stop()
})
