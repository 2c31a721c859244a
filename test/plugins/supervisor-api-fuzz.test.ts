/** No request, whatever it says, makes anything but an answer of the API. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseObject } from '../../plugins/supervisor/api/body.ts'
import { parseForm } from '../../plugins/supervisor/api/form.ts'
import { apiHost } from './supervisor-api-fixtures.ts'

const STATUSES = new Set([200, 202, 204, 400, 401, 404, 405, 409, 423, 429, 500, 503])

const id = fc.oneof(
  fc.constantFrom('101', '202', '0', '-1', '1e3', '9'.repeat(40), 'zz', '%00', '__proto__', '..'),
  fc.string({ maxLength: 12 }).map(encodeURIComponent),
)
const path = fc.oneof(
  fc.constantFrom(
    '/ping',
    '/v1/healthy',
    '/v1/blink',
    '/v1/regenerate-api-key',
    '/v1/update',
    '/v1/reboot',
    '/v1/shutdown',
    '/v1/purge',
    '/v1/restart',
    '/v1/device',
    '/v1/device/host-config',
    '/v2/applications/state',
    '/v2/state/status',
    '/v2/containerId',
    '/v2/version',
    '/v2/device/name',
    '/v2/device/tags',
    '/v2/device/vpn',
    '/v2/cleanup-volumes',
    '/v2/journal-logs',
    '/v2/local/target-state',
    '/v2/local/device-info',
  ),
  fc
    .tuple(
      id,
      fc.constantFrom('', '/start', '/stop', '/state', '/restart', '/purge', '/stop-service'),
      fc.constantFrom('/v1/apps/', '/v2/applications/'),
    )
    .map(([app, action, prefix]) => `${prefix}${app}${action}`),
  fc.webPath(),
)
const value = fc.oneof(
  fc.constantFrom(101, '101', true, 'on', 'main', null, 'null', -0, 1e308, '__proto__', {}),
  fc.jsonValue({ maxDepth: 3 }),
)
const fields = fc.dictionary(
  fc.constantFrom('appId', 'force', 'cancel', 'serviceName', 'imageId', 'network', 'local', 'unit'),
  value,
)
const body = fc.oneof(
  fields.map((given) => JSON.stringify(given)),
  fc.jsonValue().map((given) => JSON.stringify(given)),
  fc.string(),
  fc.constantFrom('{', '{"__proto__":{"force":true},"appId":101}', '[[[[', '\u0000', '[]'),
)
const type = fc.constantFrom(
  'application/json',
  'application/x-www-form-urlencoded',
  'application/json; charset=utf-16',
  'text/plain',
  ';',
)

test('any request gets an answer the API has, and nothing is left broken', async () => {
  const host = await apiHost({ machine: { dry_run: true, journalctl: ['true'] } })
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('GET', 'POST', 'PATCH', 'PUT', 'DELETE', 'HEAD', 'OPTIONS'),
        path,
        type,
        body,
        fc.boolean(),
        async (method, at, contentType, text, keyed) => {
          const answer = await host.host.request(at, {
            method,
            headers: {
              'content-type': contentType,
              ...(keyed ? { authorization: `Bearer ${host.fake.keyOf(101, 'main')}` } : {}),
            },
            ...(method === 'GET' || method === 'HEAD' ? {} : { body: text }),
          })
          assert.ok(STATUSES.has(answer.status), `${answer.status}`)
          const said = await answer.text()
          assert.doesNotMatch(said, /INTERNAL_ERROR|Cannot read prop|undefined is not|TypeError/)
          const isJson = answer.headers.get('content-type')?.includes('json')
          if (isJson && method !== 'HEAD') JSON.parse(said)
        },
      ),
      { numRuns: 400, endOnFailure: true },
    )
    const after = await host.host.request(`/v1/device?apikey=${host.fake.keyOf(101, 'main')}`)
    assert.equal(after.status, 200)
    assert.equal(({} as Record<string, unknown>).force, undefined)
  } finally {
    await host.stop()
  }
})

test('a form of any text is read within bounds, and has no prototype', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.webQueryParameters()), (text) => {
      try {
        const form = parseForm(text)
        assert.equal(Object.getPrototypeOf(form), null)
      } catch (error) {
        assert.ok(error instanceof RangeError)
      }
    }),
  )
  const plain = (text: string) => JSON.parse(JSON.stringify(parseForm(text)))
  assert.deepEqual(plain('a=1&b=2&a=3'), { a: ['1', '3'], b: '2' })
  assert.deepEqual(plain('a[b][c]=1&a[d]=2'), { a: { b: { c: '1' }, d: '2' } })
  assert.deepEqual(plain('a[]=1&a[]=2&[x]=3&b[=4'), { a: ['1', '2'], '[x]': '3', 'b[': '4' })
  assert.deepEqual(Object.keys(parseForm('__proto__[force]=1')), ['__proto__'])
  assert.throws(() => parseForm('a[b][c][d][e][f]=1'), /deeper than 5/)
})

test('JSON is an object or a list, and every such text is read', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (given) => {
      const text = JSON.stringify(given)
      if (typeof given === 'object' && given !== null) {
        assert.deepEqual(JSON.stringify(parseObject(text)), text)
      } else assert.throws(() => parseObject(text), { code: 'INVALID_BODY', status: 400 })
    }),
  )
  assert.deepEqual(parseObject('  '), {})
})
