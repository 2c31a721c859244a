/**
 * What the compiler must know about plugins. Each `expect<…>()` fails `npm run typecheck` when it
 * does not hold; at run time one call shows that the typed client matches the routes.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Hono } from 'hono'
import { hc } from 'hono/client'
import * as v from 'valibot'
import { z } from 'zod'
import {
  type ConfigOf,
  definePlugin,
  type Kit,
  looseJson,
  type PluginEnv,
  type RoutesOf,
  route,
  type Services,
  validate,
} from '../src/kit.ts'
import { hostPlugin } from './helpers/plugin-host.ts'

/** True only for two types that are the same in every position. */
type Equal<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const expect = <_T extends true>(): void => undefined

const typed = definePlugin({
  name: 'typed',
  summary: 'Knows its types',
  config: v.strictObject({
    port: v.optional(v.pipe(v.string(), v.transform(Number)), '80'),
    mode: v.optional(v.picklist(['a', 'b'])),
  }),
  uses: ['eventLog'],
  setup({ config, services }) {
    expect<Equal<typeof config.port, number>>()
    expect<Equal<typeof config.mode, 'a' | 'b' | undefined>>()
    expect<Equal<typeof services, Pick<Services, 'eventLog'>>>() >
      // @ts-expect-error: not in `uses`, and not a service at all
      services.other
    const routes = new Hono<PluginEnv>()
      .get(
        '/typed/sum/:a',
        route({ summary: 'Adds' }),
        validate('param', z.object({ a: z.coerce.number<string>() })),
        validate('query', z.object({ b: z.string().optional() })),
        (c) => {
          const { a } = c.req.valid('param')
          const { b } = c.req.valid('query')
          expect<Equal<typeof a, number>>()
          expect<Equal<typeof b, string | undefined>>()
          // @ts-expect-error: no form was validated
          c.req.valid('form')
          // @ts-expect-error: the core's facts have no such member
          c.env.nothing
          return c.json({ sum: a + Number(b ?? 0), port: config.port })
        },
      )
      .post('/typed/echo', looseJson(z.object({ text: z.string() })), (c) => {
        const { text } = c.req.valid('json')
        return c.json({ text })
      })
    return { routes }
  },
})

const plain = definePlugin({
  name: 'plain',
  summary: 'Uses nothing',
  config: v.strictObject({}),
  setup({ services }) {
    // @ts-expect-error: without `uses` there are no services
    services.eventLog
    return { routes: new Hono() }
  },
})

definePlugin({
  name: 'wrong-service',
  summary: 'x',
  config: v.strictObject({}),
  // @ts-expect-error: no such service
  uses: ['nothing'],
  setup: () => ({ routes: new Hono() }),
})

definePlugin({
  name: 'wrong-requirement',
  summary: 'x',
  config: v.strictObject({}),
  // @ts-expect-error: a device path must be absolute
  requires: 'path:dev/x',
  setup: () => ({ routes: new Hono() }),
})

expect<Equal<typeof typed.name, 'typed'>>()
expect<Equal<typeof typed.apiVersion, 1>>()
expect<Equal<ConfigOf<typeof typed>, { port: number; mode?: 'a' | 'b' | undefined }>>()
expect<Equal<keyof ConfigOf<typeof plain>, never>>()
expect<Equal<Kit['definePlugin'], typeof definePlugin>>()

test('the client made from RoutesOf knows paths, inputs and outputs', async () => {
  const host = hostPlugin(typed, { port: '81' })
  await host.start()
  const client = hc<RoutesOf<typeof typed>>('http://localhost', {
    fetch: (input: Request | URL | string, init?: RequestInit) => {
      const { pathname, search } = new URL(String(input))
      return host.request(pathname + search, init)
    },
  })
  try {
    const answer = await client.typed.sum[':a'].$get({ param: { a: '2' }, query: { b: '3' } })
    const body = await answer.json()
    expect<Equal<typeof body, { sum: number; port: number }>>()
    assert.deepEqual(body, { sum: 5, port: 81 })
    const echo = await client.typed.echo.$post({ json: { text: 'hello' } })
    assert.deepEqual(await echo.json(), { text: 'hello' })
    // @ts-expect-error: the body must have a text
    const refused = await client.typed.echo.$post({ json: {} })
    assert.equal(refused.status, 400)
    // @ts-expect-error: there is no such route
    void client.typed.nothing
  } finally {
    await host.stop()
  }
})
