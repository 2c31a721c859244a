// The yardstick: a bare Hono application on the same server adapter as cvmd, with answers of the
// sizes cvmd's have. `hello.ts PORT [BYTES OF /logs] [BYTES OF /api/v1/events]`.

import { createServer } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import { runtime } from '../src/runtime.ts'

const [port = 0, logs = 0, events = 0] = process.argv.slice(2).map(Number)
const text = new Uint8Array(logs).fill(97)
const json = new Uint8Array(events).fill(97)
const app = new Hono()
  .get('/livez', () => new Response('hello world'))
  .get('/api/v1/new_event', () => new Response(null))
  .get('/logs', () => new Response(text))
  .get('/api/v1/events', () => new Response(json))

if (runtime === 'bun') Bun.serve({ hostname: '127.0.0.1', port, fetch: app.fetch })
else createServer(getRequestListener(app.fetch)).listen(port, '127.0.0.1')
