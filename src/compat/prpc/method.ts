import type { Context, Hono } from 'hono'
import type { z } from 'zod'
import type { PluginEnv } from '../../plugin.ts'
import { type RouteFacts, route } from '../../route.ts'
import { prpcBody, prpcQuery } from './arguments.ts'

/** One method of an API in this dialect. */
export interface PrpcMethod<Schema extends z.ZodObject | undefined> {
  /** Every path it answers at; each by GET and by POST (spec dstack §4). */
  readonly paths: readonly string[]
  /** Its arguments; undefined for a method with none, which never looks at a body. */
  readonly request: Schema
  readonly facts: RouteFacts
  answer(
    args: Schema extends z.ZodObject ? z.output<Schema> : undefined,
    c: Context<PluginEnv>,
  ): Response | Promise<Response>
}

/** Puts a method on a plugin's routes. */
export function prpcMethod<Schema extends z.ZodObject | undefined>(
  app: Hono<PluginEnv>,
  { paths, request, facts, answer }: PrpcMethod<Schema>,
): void {
  const call = answer as (args: unknown, c: Context<PluginEnv>) => Response | Promise<Response>
  for (const path of paths) {
    if (request === undefined) {
      app.get(path, route(facts), (c) => call(undefined, c))
      app.post(path, route(facts), (c) => call(undefined, c))
    } else {
      app.get(path, route(facts), prpcQuery(request), (c) => call(c.req.valid('query'), c))
      app.post(path, route(facts), prpcBody(request), (c) => call(c.req.valid('json'), c))
    }
  }
}
