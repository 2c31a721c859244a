import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Hono } from 'hono'
import * as v from 'valibot'
import { z } from 'zod'
import { openapi } from '../src/openapi.ts'
import { type AnyApp, definePlugin } from '../src/plugin.ts'
import { type LoadedPlugin, routesOf } from '../src/registry.ts'
import { route } from '../src/route.ts'
import { looseJson, validate } from '../src/validate.ts'
import { startDaemon } from './helpers/daemon.ts'
import { accepts, type Json, openapiProblems } from './helpers/openapi.ts'
import { hostPlugin } from './helpers/plugin-host.ts'

interface Listed {
  readonly state: string
  readonly routes: readonly { readonly method: string; readonly path: string }[]
}

type Paths = Record<string, Record<string, Record<string, unknown>>>

function plugin(routes: AnyApp) {
  return definePlugin({
    name: 'x',
    summary: 'x',
    config: v.strictObject({}),
    setup: () => ({ routes }),
  })
}

function documentOf(routes: AnyApp): Json {
  const loaded = { plugin: plugin(routes), instance: { routes } } as unknown as LoadedPlugin
  return openapi(routesOf(loaded))
}

test('the document of a daemon is sound and tells every route of every plugin', async () => {
  const daemon = await startDaemon({
    config: `[[listen]]
address = "127.0.0.1:0"
[plugins.eventlog]
pprof = true
[plugins.actions.commands.none]
argv = ["/bin/true"]
[plugins.uploads.files.none]
path = "{folder}/none"
`,
  })
  try {
    const document = (await (await daemon.get('/cvmd/openapi.json')).json()) as Json
    assert.deepEqual(openapiProblems(document), [])
    const { plugins } = (await (await daemon.get('/cvmd/plugins')).json()) as { plugins: Listed[] }
    const paths = document.paths as Paths
    const enabled = plugins.filter(({ state }) => state === 'enabled')
    assert.ok(enabled.length >= 3)
    for (const { method, path } of enabled.flatMap(({ routes }) => routes)) {
      const template = path.replace(/:([^/{]+)(\{[^/]*\})?/g, '{$1}')
      assert.ok(paths[template]?.[method.toLowerCase()], `${method} ${path}`)
    }
  } finally {
    await daemon.stop()
  }
})

test('odd routes keep the document sound', () => {
  const facts = route({ summary: 'x' })
  const ok = () => new Response('ok')
  interface Tree {
    readonly name: string
    readonly children: readonly Tree[]
  }
  const Tree: z.ZodType<Tree> = z.lazy(() =>
    z.object({ name: z.string(), children: z.array(Tree) }),
  )
  const Shared = z.object({ a: z.int() }).meta({ id: 'Shared' })
  const document = documentOf(
    new Hono()
      .get('/x/a/b', facts, ok)
      .get('/x/a.b', facts, ok)
      .get('/x/a/b/', facts, ok)
      .get('/x/:id{[0-9]+}', facts, ok)
      .get('/x/optional/:id?', facts, validate('param', z.object({ id: z.string() })), ok)
      .all('/x/all/*', facts, () => ok())
      .on('PURGE', '/x/odd', facts, ok)
      .post('/x/tree', facts, looseJson(Tree), ok)
      .post('/x/shared', facts, looseJson(z.object({ one: Shared, two: Shared })), ok)
      .post('/x/alien', facts, looseJson({ alien: true } as unknown as z.ZodType), ok)
      .post('/x/bigint', facts, looseJson(z.object({ n: z.bigint(), d: z.date() })), ok)
      .get(
        '/x/answers',
        route({
          summary: 'x',
          answers: { 200: { description: 'x', schema: z.object({ n: z.int().default(1) }) } },
        }),
        ok,
      ),
  )
  assert.deepEqual(openapiProblems(document), [])
  const paths = document.paths as Paths
  assert.deepEqual(Object.keys(paths), [
    '/x/a/b',
    '/x/a.b',
    '/x/a/b/',
    '/x/{id}',
    '/x/optional',
    '/x/optional/{id}',
    '/x/all/{rest}',
    '/x/tree',
    '/x/shared',
    '/x/alien',
    '/x/bigint',
    '/x/answers',
  ])
  assert.equal(Object.keys(paths['/x/all/{rest}'] ?? {}).length, 5)
  const tree = { $ref: '#/components/schemas/x.post.x.tree.body' }
  const good = { name: 'a', children: [{ name: 'b', children: [] }] }
  assert.ok(accepts(document, tree, good))
  assert.ok(!accepts(document, tree, { name: 'a', children: [{ name: 1, children: [] }] }))
  // An answer always has its defaults, a request need not.
  assert.match(JSON.stringify(paths['/x/answers']), /"required":\["n"\]/)
})

test('what the document says about a body is what is enforced', async () => {
  const Body = z.strictObject({
    name: z.string().min(1).max(8),
    mode: z.enum(['a', 'b']).default('a'),
    count: z.int().min(0).max(9).optional(),
    tags: z.array(z.string().regex(/^[a-z]+$/)).optional(),
  })
  const routes = new Hono().post('/x/body', route({ summary: 'x' }), looseJson(Body), (c) =>
    c.text('ok'),
  )
  const document = documentOf(routes)
  const schema = JSON.parse(JSON.stringify(document.paths))['/x/body'].post.requestBody.content[
    'application/json'
  ].schema as Json
  const host = hostPlugin(plugin(routes))
  await host.start()
  const near = fc.record(
    {
      name: fc.oneof(fc.string({ maxLength: 10 }), fc.integer()),
      mode: fc.constantFrom('a', 'b', 'c', 1),
      count: fc.oneof(fc.integer({ min: -2, max: 11 }), fc.double(), fc.constant(null)),
      tags: fc.array(fc.oneof(fc.constantFrom('ok', 'no1', ''), fc.integer()), { maxLength: 3 }),
      extra: fc.constant(true),
    },
    { requiredKeys: [] },
  )
  try {
    await fc.assert(
      fc.asyncProperty(fc.oneof({ weight: 9, arbitrary: near }, fc.jsonValue()), async (value) => {
        const body = JSON.stringify(value)
        const answer = await host.request('/x/body', { method: 'POST', body })
        assert.equal(answer.status, accepts(document, schema, JSON.parse(body)) ? 200 : 400, body)
      }),
      { numRuns: 500 },
    )
  } finally {
    await host.stop()
  }
})
