import { Hono } from 'hono'
import { z } from 'zod'
import { ApiError } from '../../src/errors.ts'
import type { EventLog } from '../../src/events/log.ts'
import { LEVELS } from '../../src/events/sink.ts'
import { toWire } from '../../src/events/wire.ts'
import { lazySchema } from '../../src/lazy-schema.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { route } from '../../src/route.ts'
import { looseJson, validate } from '../../src/validate.ts'
import { type EventFilter, matcher, readPage } from './query.ts'
import type { Recorder } from './recorder.ts'
import { eventStream } from './stream.ts'
import type { WaitingRoom } from './waiting.ts'

const Seq = lazySchema(() => z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER))
const filter = {
  source: z.string().max(64).optional(),
  level: z.enum(LEVELS).optional(),
  contains: z.string().max(256).optional(),
  after: Seq.optional(),
}
const List = lazySchema(() =>
  z.object({
    ...filter,
    limit: z.coerce.number().int().min(1).max(10_000).default(1000),
    wait: z.coerce.number().min(0).max(60).default(0),
  }),
)
const Stream = lazySchema(() => z.object(filter))
const StreamHeader = lazySchema(() =>
  z.object({ 'last-event-id': Seq.optional().catch(undefined) }),
)

const Wire = lazySchema(() =>
  z.object({
    seq: z.number().int(),
    time: z.string(),
    source: z.string(),
    level: z.enum(LEVELS),
    message: z.string(),
    hash: z.string(),
    raw: z.string().optional(),
  }),
)
const Gap = lazySchema(() => z.object({ from: z.number().int(), to: z.number().int() }))
const Page = lazySchema(() =>
  z.object({
    events: z.array(Wire),
    next: z.number().int(),
    first: z.number().int(),
    dropped: z.number().int(),
    previous: z.string().optional(),
    gap: Gap.optional(),
    reset: z.literal(true).optional(),
  }),
)

export interface NativeOptions {
  readonly log: EventLog
  readonly recorder: Recorder
  readonly room: WaitingRoom
  readonly heartbeatMs: number
  /** Longest message of a new event, in bytes. */
  readonly maxBytes: number
}

/** The daemon's own routes: pages, long polls, a stream and recording. */
export function nativeRoutes({ log, recorder, room, heartbeatMs, maxBytes }: NativeOptions) {
  const NewEvent = z.strictObject({
    message: z
      .string()
      .refine((text) => Buffer.byteLength(text) <= maxBytes, `Longer than ${maxBytes} bytes`),
    level: z.enum(LEVELS).default('info'),
    source: z
      .string()
      .regex(/^[a-z][a-z0-9._-]{0,63}$/)
      .default('http'),
  })

  return new Hono<PluginEnv>()
    .get(
      '/cvmd/events',
      route({
        summary: 'One page of events; with "wait", as soon as there is one',
        scope: 'events:read',
        long: true,
        answers: { 200: { description: 'Events and the cursor after them', schema: Page } },
      }),
      validate('query', List),
      async (c) => {
        const { after, limit, wait, ...wanted } = c.req.valid('query')
        const match = matcher(wanted satisfies EventFilter)
        let page = readPage(log, after, match, limit)
        if (wait === 0 || found(page)) return c.json(page)
        const place = room.enter(c.req.raw.signal)
        try {
          const deadline = performance.now() + wait * 1000
          while (!found(page) && !place.ended) {
            const left = deadline - performance.now()
            if (left <= 0 || (await place.untilAppended(log, left))) break
            page = readPage(log, page.next, match, limit)
          }
        } finally {
          place.end()
        }
        return c.json(page)
      },
    )
    .get(
      '/cvmd/events/stream',
      route({
        summary: 'Events as they come, as server-sent events',
        scope: 'events:read',
        long: true,
        head: false,
        answers: { 200: { description: 'A stream', type: 'text/event-stream' } },
      }),
      validate('query', Stream),
      validate('header', StreamHeader),
      (c) => {
        const { after, ...wanted } = c.req.valid('query')
        // A reconnecting client repeats its first query; the header is newer.
        const seen = c.req.valid('header')['last-event-id'] ?? after
        const place = room.enter(c.req.raw.signal)
        const match = matcher(wanted satisfies EventFilter)
        return new Response(eventStream({ log, after: seen, match, heartbeatMs, place }), {
          headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' },
        })
      },
    )
    .post(
      '/cvmd/events',
      route({
        summary: 'Records an event',
        scope: 'events:write',
        answers: { 201: { description: 'The event', schema: Wire } },
      }),
      looseJson(NewEvent),
      async (c) => {
        const { message, level, source } = c.req.valid('json')
        if (source === 'fifo' || log.reserved(source)) {
          throw new ApiError(
            403,
            'SOURCE_RESERVED',
            `Cannot record an event as "${source}": the name belongs to a part of the daemon`,
          )
        }
        const event = recorder.append(source, message, { level })
        const sent = toWire(log, event)
        await recorder.saved(event)
        return c.json(sent, 201)
      },
    )
}

function found(page: { events: readonly unknown[]; gap?: unknown; reset?: unknown }): boolean {
  return page.events.length > 0 || page.gap !== undefined || page.reset !== undefined
}
