import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { Hono } from 'hono'
import * as v from 'valibot'
import { z } from 'zod'
import { prpcBody, prpcQuery } from '../src/compat/prpc/arguments.ts'
import { base64, bytesField, hex } from '../src/compat/prpc/bytes.ts'
import { padReportData, prpcError, prpcJson, serviceNotFound } from '../src/compat/prpc.ts'
import { ApiError } from '../src/errors.ts'
import { openapi } from '../src/openapi.ts'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { routesOf } from '../src/registry.ts'
import { route } from '../src/route.ts'
import { hostPlugin } from './helpers/plugin-host.ts'

const Request = z.object({
  path: z.string().default(''),
  data: bytesField('Anything'),
  flag: z.boolean().default(false),
  count: z.int().optional(),
  alt_names: z.array(z.string()).default([]),
})

/** One method that answers with its arguments. */
const echo = definePlugin({
  name: 'echo',
  summary: 'Answers with its arguments',
  config: v.strictObject({}),
  renderError: prpcError,
  setup() {
    const shown = (given: z.output<typeof Request>) => {
      return prpcJson({ ...given, data: hex(given.data) })
    }
    const routes = new Hono<PluginEnv>()
      .get('/Echo', route({ summary: 'By GET' }), prpcQuery(Request), (c) =>
        shown(c.req.valid('query')),
      )
      .post('/Echo', route({ summary: 'By POST' }), prpcBody(Request), (c) =>
        shown(c.req.valid('json')),
      )
      .get('/Empty', route({ summary: 'Says nothing' }), () => prpcJson())
      .get('/Lost', (c) => prpcError(new ApiError(404, 'ROUTE_NOT_FOUND', 'x'), c))
    return { routes }
  },
})

const DEFAULTS = { path: '', data: '', flag: false, alt_names: [] }
const host = hostPlugin(echo)
await host.start()
after(() => host.stop())

const get = (query: string) => host.request(`/Echo${query}`)
const post = (body: string | Uint8Array<ArrayBuffer>, type = 'application/x-www-form-urlencoded') =>
  host.request('/Echo', { method: 'POST', body, headers: { 'content-type': type } })

async function errorOf(answer: Response, status: number, code: string): Promise<string> {
  assert.equal(answer.status, status)
  assert.equal(answer.headers.get('content-type'), 'application/json')
  const body = (await answer.json()) as { error: string; code: string }
  assert.deepEqual(Object.keys(body), ['error', 'code'])
  assert.equal(body.code, code)
  return body.error
}

test('every field has a default, by GET and by POST', async () => {
  const answers = [
    get(''),
    get('?unknown=1&json'),
    post(''),
    post(' \n'),
    post('{}'),
    post('null'),
    post('{"unknown":{"deep":[1]},"data":null}'),
  ]
  for (const answer of answers) assert.deepEqual(await (await answer).json(), DEFAULTS)
})

test('a query says the same as JSON', async () => {
  const query = '?path=a%20b+c&data=0xDeadBEEF&flag=true&count=-7&alt_names[1]=b&alt_names[0]=a'
  const json = '{"path":"a b c","data":"deadbeef","flag":true,"count":-7,"alt_names":["a","b"]}'
  const expected = { ...JSON.parse(json) }
  assert.deepEqual(await (await get(query)).json(), expected)
  for (const type of ['application/json', 'text/plain', 'application/octet-stream', 'x']) {
    assert.deepEqual(await (await post(json, type)).json(), expected, type)
  }
  assert.deepEqual(await (await get('?alt_names=a&alt_names=b')).json(), {
    ...DEFAULTS,
    alt_names: ['a', 'b'],
  })
  assert.deepEqual(await (await get('?alt_names=a')).json(), { ...DEFAULTS, alt_names: ['a'] })
})

test('a wrong field is named', async () => {
  for (const [query, field] of [
    ['?data=0x123', /^Invalid data: 3 hex digits, an odd number$/],
    ['?data=12zz', /^Invalid data: "z" at digit 3 is no hex digit$/],
    ['?data=%F0%9F%98%80', /^Invalid data: "😀" at digit 1 is no hex digit$/],
    ['?data=0x0x12', /^Invalid data: "x" at digit 2/],
    ['?data=aa&data=bb', /^Invalid data: /],
    ['?flag=maybe&count=1.5', /^Invalid flag: .*; count: /],
    [`?${'alt_names=a&'.repeat(257)}`, /^Invalid alt_names: 257 values/],
  ] as const) {
    assert.match(await errorOf(await get(query), 400, 'INVALID_REQUEST'), field)
  }
  const wrong = await errorOf(await post('{"path":1,"flag":"true"}'), 400, 'INVALID_REQUEST')
  assert.match(wrong, /^Invalid path: .*; flag: /)
  const many = JSON.stringify({ alt_names: Array(100_000).fill(1) })
  assert.match(await errorOf(await post(many), 400, 'INVALID_REQUEST'), /100000 values/)
  const some = JSON.stringify({ alt_names: Array(200).fill(1) })
  assert.ok((await errorOf(await post(some), 400, 'INVALID_REQUEST')).length < 1000)
})

test('what is no JSON object is explained', async () => {
  const protobuf = new Uint8Array([0x0a, 0x02, 0xde, 0xad])
  for (const body of [protobuf, 'report_data=12', '[]', '"x"', '1', new Uint8Array([0xff])]) {
    const answer = await post(body, 'application/protobuf')
    assert.match(await errorOf(answer, 415, 'BODY_NOT_JSON'), /send a JSON object/)
  }
  const cut = await post('{"path":"secret')
  assert.equal(cut.headers.get('connection'), 'close')
  assert.doesNotMatch(await errorOf(cut, 400, 'INVALID_JSON'), /secret/)
  // Cut in the middle of a character.
  const half = await post(new Uint8Array([...Buffer.from('{"path":"'), 0xc3]))
  await errorOf(half, 400, 'INVALID_JSON')
  assert.equal((await post('{'.repeat(1_000_000))).status, 400)
  assert.equal((await post(`{"path":"${'x'.repeat(1024 * 1024)}"}`)).status, 413)
})

test('no query and no body is answered by anything but 200 or 400', async () => {
  const field = fc.constantFrom('path', 'data', 'flag', 'count', 'alt_names', '__proto__', '[0]')
  const value = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('0x', '1', '[', '%'))
  const pairs = fc.array(fc.tuple(field, value), { maxLength: 6 })
  await fc.assert(
    fc.asyncProperty(pairs, async (given) => {
      const search = given.map((pair) => pair.map(encoded).join('=')).join('&')
      assert.ok([200, 400].includes((await get(`?${search}`)).status))
    }),
    { numRuns: 200 },
  )
  const json = fc.dictionary(field, fc.jsonValue(), { maxKeys: 6 })
  await fc.assert(
    fc.asyncProperty(json, async (given) => {
      assert.ok([200, 400].includes((await post(JSON.stringify(given))).status))
    }),
    { numRuns: 200 },
  )
})

/** Lone surrogates, which have no UTF-8, as the replacement character. */
function encoded(text: string): string {
  return encodeURIComponent(Buffer.from(text).toString())
}

test('hex is read back as it was written', () => {
  const field = bytesField('Anything')
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      for (const text of [hex(bytes), `0x${hex(bytes)}`, hex(bytes).toUpperCase()]) {
        assert.deepEqual(field.parse(text), bytes)
      }
      assert.deepEqual(new Uint8Array(Buffer.from(base64(bytes), 'base64')), bytes)
    }),
  )
  assert.equal(hex(new Uint8Array([1, 2, 3, 4]).subarray(1, 3)), '0203')
})

test('an answer is ASCII, with its length, and means what it meant', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary' }), async (text) => {
      const answer = prpcJson({ text })
      const bytes = new Uint8Array(await answer.arrayBuffer())
      assert.equal(answer.headers.get('content-length'), String(bytes.length))
      assert.ok(bytes.every((byte) => byte < 0x80))
      assert.deepEqual(JSON.parse(Buffer.from(bytes).toString()), { text })
    }),
  )
  assert.equal(await prpcJson({ b: 'é😀', a: 1 }).text(), '{"b":"\\u00e9\\ud83d\\ude00","a":1}')
  const empty = await host.request('/Empty')
  assert.equal(await empty.text(), 'null')
  assert.equal(empty.headers.get('content-length'), '4')
  assert.equal(empty.headers.get('content-type'), 'application/json')
})

test('an error keeps its status and headers', async () => {
  const error = new ApiError(429, 'DEVICE_QUEUE_FULL', 'Führung', {
    headers: { 'retry-after': '3' },
  })
  const answer = prpcError(error)
  assert.equal(answer.status, 429)
  assert.equal(answer.headers.get('retry-after'), '3')
  const text = await answer.text()
  assert.equal(text, '{"error":"F\\u00fchrung","code":"DEVICE_QUEUE_FULL"}')
  assert.equal(answer.headers.get('content-length'), String(text.length))
})

test('an unknown method is a service not found', async () => {
  assert.equal(
    await errorOf(await host.request('/Lost'), 404, 'SERVICE_NOT_FOUND'),
    'Service not found: Lost',
  )
  assert.equal(serviceNotFound('/prpc/Tappd.Nothing').message, 'Service not found: Tappd.Nothing')
  assert.ok(serviceNotFound(`/${'x'.repeat(10_000)}`).message.length < 100)
})

test('report data is padded on the right and never cut', () => {
  assert.deepEqual(padReportData(new Uint8Array()), new Uint8Array(64))
  const full = new Uint8Array(64).fill(7)
  assert.deepEqual(padReportData(full), full)
  const padded = padReportData(new Uint8Array([1, 2]))
  assert.deepEqual([padded.length, padded[0], padded[1], padded[2]], [64, 1, 2, 0])
  assert.throws(() => padReportData(new Uint8Array(65)), {
    code: 'REPORT_DATA_TOO_LONG',
    message: 'Report data is too long',
  })
})

test('the OpenAPI document tells parameters and body', () => {
  const loaded = {
    plugin: echo,
    instance: echo.setup({} as never),
    log: {},
    unavailable: undefined,
  }
  const { paths } = openapi(routesOf(loaded as never)) as {
    readonly paths: Record<string, Record<string, { parameters: unknown; requestBody?: unknown }>>
  }
  const { get: byGet, post: byPost } = paths['/Echo'] ?? {}
  const named = (byGet?.parameters ?? []) as readonly { name: string }[]
  const names = named.map(({ name }) => name)
  assert.deepEqual(names, ['path', 'data', 'flag', 'count', 'alt_names'])
  assert.equal(byGet?.requestBody, undefined)
  assert.ok(byPost?.requestBody)
  assert.deepEqual(byPost?.parameters, [])
})
