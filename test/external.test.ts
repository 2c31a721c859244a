import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshFolder, startDaemon } from './helpers/daemon.ts'
import {
  bundlePlugin,
  digestOf,
  externalTables,
  writeModule,
  writePlugin,
} from './helpers/plugin-files.ts'

const LISTEN = '[[listen]]\naddress = "127.0.0.1:0"\n'
const ROUTE = (path: string, handler: string, method = 'get') =>
  `setup: () => ({ routes: new Hono().${method}('${path}', route({ summary: 'x' }), ${handler}) })`

interface Listed {
  readonly name: string
  readonly state: string
  readonly reason: string
  readonly routes: readonly unknown[]
}

/** Every way a plugin can be bad before it serves: its text, and what must be said about it. */
const BAD: readonly (readonly [name: string, body: string, reason: RegExp])[] = [
  ['setup-throws', "setup() { throw new Error('boom in setup') }", /set up plugin.*boom in setup/],
  ['setup-null', 'setup: () => null', /set up plugin.*returned no routes/],
  ['setup-async', "async setup() { throw new Error('x') }", /setup is async/],
  ['setup-fake', 'setup: () => ({ routes: { fetch() {} } })', /returned no routes/],
  ['bad-start', `setup: () => ({ routes: new Hono(), start: 'now' })`, /start that is no function/],
  ['bad-gauge', "setup({ metrics }) { metrics.gauge('a b', '', () => 1) }", /measure "a b"/],
  [
    'start-throws',
    "setup: () => ({ routes: new Hono(), start() { throw new Error('boom in start') } })",
    /Cannot start plugin "start-throws": boom in start/,
  ],
  [
    'start-hangs',
    'setup: () => ({ routes: new Hono(), start: () => new Promise(() => {}) })',
    /Cannot start plugin "start-hangs": it did not start within 1500 ms/,
  ],
  ['takes-route', ROUTE('/livez', "(c) => c.text('mine')"), /"cvmd" already claims GET \/livez/],
  [
    'takes-other',
    ROUTE('/api/v1/events', "(c) => c.text('mine')"),
    /"eventlog" already claims GET \/api\/v1\/events/,
  ],
  [
    'takes-core',
    ROUTE('/cvmd/mine', "(c) => c.text('mine')"),
    /GET \/cvmd\/mine is below \/cvmd\//,
  ],
  [
    'takes-service',
    'setup: () => ({ routes: new Hono(), provides: { eventLog: {} } })',
    /"cvmd" already provides "eventLog"/,
  ],
  [
    'needs-service',
    "uses: ['nope'], setup: () => ({ routes: new Hono() })",
    /nothing provides nope/,
  ],
  [
    'bad-needs',
    'requires: () => ({ or: [] }), setup: () => ({ routes: new Hono() })',
    /requires is no requirement/,
  ],
  [
    'bad-config',
    'setup: () => ({ routes: new Hono() })',
    /plugins\.bad-config\.color: unknown key/,
  ],
]

/** Plugins of a wrong shape: refused by their file before anything of them runs. */
const MISSHAPEN: typeof BAD = [
  ['bad-uses', "uses: 'nope', setup: () => ({ routes: new Hono() })", /uses is no list/],
  ['bad-requires', 'requires: { or: [] }, setup: () => ({ routes: new Hono() })', /requires is no/],
  [
    'bad-schema',
    'config: z.object({}), setup: () => ({ routes: new Hono() })',
    /no valibot schema/,
  ],
]

/** Modules that never become a plugin; they are known by their file alone. */
const UNLOADABLE: readonly (readonly [file: string, text: string, reason: RegExp])[] = [
  ['throws', "throw new Error('boom on load')", /boom on load/],
  ['syntax', 'export default (', /./],
  ['nothing', 'export const a = 1', /exports no plugin/],
  ['number', 'export default 42', /exports no plugin/],
  ['hangs', 'await new Promise(() => {})', /did not load within 1500 ms/],
  ['factory-hangs', 'export default () => new Promise(() => {})', /did not load within 1500 ms/],
  ['factory-throws', "export default () => { throw new Error('boom in kit') }", /boom in kit/],
  ['wrong-version', 'export default { apiVersion: 2, name: "x" }', /apiVersion is 2/],
  ['bad-name', 'export default (kit) => ({ apiVersion: 1, name: "Bad" })', /name "Bad" does not/],
  ['reserved', taken('cvmd'), /the name "cvmd" is taken/],
  ['builtin', taken('eventlog'), /the name "eventlog" is taken/],
  ['second', taken('good'), /the name "good" is taken/],
  ['changes-kit', 'export default (kit) => { "use strict"; kit.Hono = 1 }', /./],
]

function taken(name: string): string {
  return `export default ({ definePlugin, Hono, v }) => definePlugin({
    name: '${name}', summary: 'x', config: v.strictObject({}), setup: () => ({ routes: new Hono() }) })`
}

const GOOD = `
  setup({ events }) {
    const routes = new Hono()
      .use('*', async (c, next) => { c.header('x-good', '1'); await next() })
      .get('/good/ping', route({ summary: 'x' }), (c) => { events.append('good was here'); return c.text('pong') })
    return { routes, notReady() { throw new Error('confused') } }
  }`

const RUDE = `
  setup({ metrics }) {
    const start = () => {
      Promise.reject(new Error('dropped by rude'))
      setTimeout(() => { throw new Error('thrown late by rude') }, 0)
    }
    metrics.gauge('cvmd_rude', 'x', () => { throw new Error('no figure') })
    const routes = new Hono()
      .get('/rude/throws', route({ summary: 'x' }), () => { throw new Error('secret detail') })
      .get('/rude/null', route({ summary: 'x' }), () => { throw null })
      .get('/rude/nothing', route({ summary: 'x' }), () => undefined)
      .get('/rude/object', route({ summary: 'x' }), () => ({ not: 'a response' }))
      .get('/rude/status', route({ summary: 'x' }), () => { throw new ApiError(9999, 'X', 'x') })
      .get('/rude/never', route({ summary: 'x' }), () => new Promise(() => {}))
      .get('/rude/:rest{.+}', route({ summary: 'x' }), (c) => c.text('rest'))
      .all('/*', (c) => c.text('everything is mine'))
    return { routes, start, stop: () => new Promise(() => {}) }
  },
  renderError(error, c) {
    if (c.req.path === '/rude/throws') throw new Error('cannot even render')
    return new Response(error.code, { status: error.status })
  },
  auth: 'own'`

test('bad plugins are named, once each, and take nothing else down', async () => {
  const folder = freshFolder()
  const good = writePlugin(folder, 'good', GOOD)
  const rude = writePlugin(folder, 'rude', RUDE)
  const bad = BAD.map(([name, body]) => writePlugin(folder, name, body))
  const misshapen = MISSHAPEN.map(([name, body]) => writePlugin(folder, name, body))
  const dead = UNLOADABLE.map(([file, text]) => writeModule(folder, file, text))
  const missing = join(folder, 'missing.mjs')
  const pinned = writePlugin(folder, 'pinned', 'setup: () => ({ routes: new Hono() })')
  const config = `
start_timeout_ms = 1500
shutdown_timeout_ms = 500
${LISTEN}request_timeout_ms = 500
plugins = ["eventlog", "good", "rude", "takes-route", "takes-other", "takes-core", "unheard-of"]
[[listen]]
address = "localhost:0"
auth = "key"
plugins = ["good", "rude"]
${externalTables([good, rude, ...bad, ...misshapen, ...dead, missing, folder])}
[[external]]
path = "${pinned}"
sha256 = "${'0'.repeat(64)}"
[plugins.bad-config]
color = "red"
[plugins.unheard-of]
key = "perhaps of a file that does not load"
`
  const daemon = await startDaemon({ folder, config })
  try {
    const { plugins } = (await (await daemon.get('/cvmd/plugins')).json()) as { plugins: Listed[] }
    const ready = await daemon.get('/cvmd/ready')
    const { waiting } = (await ready.json()) as { waiting: Record<string, string> }
    assert.equal(ready.status, 503)
    const events = await (await daemon.get('/cvmd/events?limit=1000')).text()
    const errors = daemon
      .output()
      .split('\n')
      .filter((line) => line.includes(' ERROR '))

    const check = (name: string, reason: RegExp) => {
      const listed = plugins.filter((plugin) => plugin.name === name)
      assert.equal(listed.length, 1, `${name} is listed once`)
      assert.equal(listed[0]?.state, 'failed', name)
      assert.match(listed[0]?.reason ?? '', reason)
      assert.ok(name in waiting, `${name} is not ready`)
      const text = listed[0]?.reason ?? ''
      const lines = errors.filter((line) => line.includes(text.split('\n')[0] as string))
      assert.equal(lines.length, 1, `one log line for ${name}:\n${lines.join('\n')}`)
      assert.ok(text.includes(name), `the reason names ${name}: ${text}`)
      assert.ok(events.includes(JSON.stringify(name).slice(1, -1)), `an event names ${name}`)
    }
    for (const [name, , reason] of BAD) check(name, reason)
    for (const [i, [, , reason]] of MISSHAPEN.entries()) check(misshapen[i] as string, reason)
    for (const [i, [, , reason]] of UNLOADABLE.entries()) check(dead[i] as string, reason)
    check(missing, /ENOENT|No such file/)
    check(folder, /it is not a file/)
    check(pinned, /SHA-256 is [0-9a-f]{64}, the configuration wants 0{64}/)
    assert.match(daemon.output(), /no plugin "unheard-of"/)
    assert.match(daemon.output(), /A promise was dropped.*dropped by rude/)
    assert.match(daemon.output(), /An error was not caught.*thrown late by rude/)

    const pong = await daemon.get('/good/ping')
    assert.equal(await pong.text(), 'pong')
    assert.equal(waiting.good, 'notReady failed: confused')
    const livez = await daemon.get('/livez')
    assert.equal(await livez.text(), '{"status":"ok"}\n')
    assert.equal(livez.headers.get('x-good'), null)
    assert.match(await (await daemon.get('/api/v1/events')).text(), /good was here/)
    const metrics = await daemon.get('/cvmd/metrics')
    assert.equal(metrics.status, 200)
    assert.match(await metrics.text(), /process_start_time_seconds/)
    const document = await daemon.get('/cvmd/openapi.json')
    assert.ok('/good/ping' in ((await document.json()) as { paths: object }).paths)

    for (const [path, status] of [
      ['/rude/throws', 500],
      ['/rude/null', 500],
      ['/rude/nothing', 500],
      ['/rude/object', 500],
      ['/rude/status', 500],
      ['/rude/never', 408],
      ['/rude/anything', 200],
      ['/unclaimed', 200],
    ] as const) {
      const answer = await daemon.get(path)
      assert.equal(answer.status, status, `${path}\n${daemon.output()}`)
      assert.doesNotMatch(await answer.text(), /secret detail/)
    }
    assert.equal((await daemon.get('/livez')).status, 200)

    // "rude" authenticates its own callers and claims `/*`; that opens nobody else's routes.
    const guarded = `http://localhost:${daemon.ports[1]}`
    assert.equal((await fetch(`${guarded}/rude/anything`)).status, 200)
    assert.equal((await fetch(`${guarded}/good/ping`)).status, 401)
    assert.equal((await fetch(`${guarded}/cvmd/plugins`)).status, 401)
  } finally {
    assert.equal(await daemon.stop(), 0, daemon.output())
    rmSync(folder, { recursive: true, force: true })
  }
})

test('a bundle with its own Hono, zod and valibot works, pinned by its digest', async () => {
  const folder = freshFolder()
  const path = bundlePlugin(folder)
  const good = writePlugin(folder, 'good', GOOD)
  const config = `${LISTEN}
[[external]]
path = "${path}"
sha256 = "${digestOf(path)}"
${externalTables([good])}
[plugins.bundled]
greeting = "good day"
`
  const daemon = await startDaemon({ folder, config })
  try {
    const hello = await daemon.get('/bundled/hello/ada')
    assert.deepEqual(await hello.json(), { message: 'good day ada' }, daemon.output())
    assert.equal(hello.headers.get('x-bundled'), 'yes')
    assert.equal((await daemon.get('/livez')).headers.get('x-bundled'), null)
    assert.equal((await daemon.get('/good/ping')).headers.get('x-bundled'), null)

    const invalid = await daemon.get('/bundled/hello/too-long-a-name')
    assert.equal(invalid.status, 400)
    assert.equal(invalid.headers.get('content-type'), 'application/problem+json')
    assert.equal(((await invalid.json()) as { code: string }).code, 'INVALID_REQUEST')
    const teapot = await daemon.get('/bundled/error')
    assert.deepEqual(await teapot.json(), {
      status: 418,
      title: 'Error',
      code: 'TEAPOT',
      detail: 'Cannot brew "coffee": this is a teapot',
    })
    const conflict = await daemon.get('/bundled/http-error')
    assert.equal(((await conflict.json()) as { code: string }).code, 'HTTP_409')
    const echo = await daemon.get('/bundled/echo', {
      method: 'POST',
      body: '{"text":"ab","times":2}',
    })
    assert.equal(await echo.text(), 'abab')
    // Hono alone would show the escape decoded.
    const seen = await daemon.get('/bundled/path/%61')
    assert.deepEqual(await seen.json(), { path: '/bundled/path/%61' })

    // A version that cannot be used does not end the one that runs; a good one takes its place.
    const reload = () =>
      fetch(`http://127.0.0.1:${daemon.ports[0]}/cvmd/reload`, { method: 'POST' })
    writeModule(folder, 'good', "throw new Error('worse than before')")
    const refused = await reload()
    assert.equal(refused.status, 409)
    assert.match(await refused.text(), /worse than before/)
    assert.equal(await (await daemon.get('/good/ping')).text(), 'pong')
    // In the same way one that loads, but cannot be set up, mounted or started.
    for (const [part, bad, why] of [
      ['const routes', "throw new Error('bad setup'); const routes", /bad setup/],
      ["'/good/ping'", "'/api/v1/events'", /already claims GET \/api\/v1\/events/],
      [
        'return { routes,',
        "return { routes, start() { throw new Error('bad start') },",
        /bad start/,
      ],
    ] as const) {
      assert.ok(GOOD.includes(part), part)
      writePlugin(folder, 'good', GOOD.replace(part, bad))
      const again = await reload()
      assert.equal(again.status, 409)
      assert.match(await again.text(), why)
      assert.equal(await (await daemon.get('/good/ping')).text(), 'pong', part)
    }
    writePlugin(folder, 'good', GOOD.replace("'pong'", "'pong 2'"))
    const changed = (await (await reload()).json()) as { started: string[]; kept: string[] }
    assert.deepEqual(changed.started, ['good'])
    assert.ok(changed.kept.includes('bundled'))
    assert.equal(await (await daemon.get('/good/ping')).text(), 'pong 2')

    const document = (await (await daemon.get('/cvmd/openapi.json')).json()) as {
      paths: Record<string, Record<string, { parameters: unknown; requestBody: unknown }>>
    }
    assert.deepEqual(document.paths['/bundled/hello/{name}']?.get?.parameters, [
      {
        name: 'name',
        in: 'path',
        required: true,
        schema: { type: 'string', minLength: 1, maxLength: 8 },
      },
    ])
    assert.deepEqual(document.paths['/bundled/echo']?.post?.requestBody, {
      content: {
        'application/json': {
          schema: {
            type: 'object',
            properties: {
              text: { type: 'string', maxLength: 100 },
              times: { type: 'integer', minimum: 1, maximum: 9, default: 1 },
            },
            required: ['text'],
          },
        },
      },
    })
  } finally {
    assert.equal(await daemon.stop(), 0, daemon.output())
    rmSync(folder, { recursive: true, force: true })
  }
})
