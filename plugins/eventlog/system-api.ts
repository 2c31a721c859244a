import { Hono } from 'hono'
import { z } from 'zod'
import { systemApiJson } from '../../src/compat/system-api.ts'
import { cutBytes, decodeText } from '../../src/events/text.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { route } from '../../src/route.ts'
import { documented } from '../../src/validate.ts'
import { queryBytes } from './query-text.ts'
import type { Recorder } from './recorder.ts'
import type { SystemApiView } from './view.ts'

/** Where an answer's headers are exact, they are: `text/plain` without a charset. */
const TEXT = { 'content-type': 'text/plain' }
const JSON_TYPE = { 'content-type': 'application/json' }

/** Like the original, anything unreadable in a query is ignored. */
const Tail = z.object({
  tail: z.coerce.number().int().min(0).optional().catch(undefined),
})
const Format = z.object({ format: z.string().optional() })
const NewEvent = z.object({ message: z.string().optional() })

/** The routes of flashbots/system-api (spec system-api §5.1 to §5.3). */
export function systemApiRoutes(view: SystemApiView, recorder: Recorder, maxBytes: number) {
  return new Hono<PluginEnv>()
    .get(
      '/',
      route({ summary: 'Answers when the daemon is up', scope: 'events:read', head: false }),
      () => systemApiJson(200, { status: 'ok' }),
    )
    .get(
      '/api/v1/new_event',
      route({
        summary: 'Records an event',
        scope: 'events:write',
        sideEffect: true,
        head: false,
        answers: { 200: { description: 'Recorded; empty' } },
      }),
      documented('query', NewEvent),
      async (c) => {
        const bytes = queryBytes(c.req.url, 'message') ?? new Uint8Array(0)
        const { message, raw } = decodeText(cutBytes(bytes, maxBytes))
        await recorder.saved(recorder.append('http', message, raw && { raw }))
        // Said outright, or node:http sends an empty body in chunks.
        return c.body(null, 200, { 'content-length': '0' })
      },
    )
    .get(
      '/api/v1/events',
      route({
        summary: 'Lists the events kept, oldest first',
        scope: 'events:read',
        head: false,
        answers: { 200: { description: 'An array of {received_at, message}' } },
      }),
      documented('query', Format),
      (c) =>
        c.req.query('format') === 'text'
          ? new Response(view.text(), { headers: TEXT })
          : new Response(view.json(), { headers: JSON_TYPE }),
    )
    .get(
      '/logs',
      route({
        summary: 'The events kept as text, one line each',
        scope: 'events:read',
        head: false,
        answers: { 200: { description: 'Lines', type: 'text/plain' } },
      }),
      documented('query', Tail),
      (c) => {
        // Most readers want all of it, and checking what is not there costs a tenth of the answer.
        const given = c.req.query('tail')
        const tail = given === undefined ? undefined : Tail.parse({ tail: given }).tail
        return new Response(view.text(tail), { headers: TEXT })
      },
    )
}
