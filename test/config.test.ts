import assert from 'node:assert/strict'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { Hono } from 'hono'
import * as v from 'valibot'
import { parseAddress } from '../src/config/address.ts'
import { applyEnv } from '../src/config/env.ts'
import { configSchema } from '../src/config/json-schema.ts'
import { readConfig, requirementsOf, resolveConfig } from '../src/config/resolve.ts'
import { Secret, secret } from '../src/config/secret.ts'
import { translateSystemApi } from '../src/config/system-api.ts'
import { ConfigError, locate, parseToml } from '../src/config/toml.ts'
import { Machine } from '../src/device/probe.ts'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'

const folder = mkdtempSync(join(tmpdir(), 'cvmd-config-'))
const routes = () => ({ routes: new Hono<PluginEnv>() })

const log = definePlugin({
  name: 'eventlog',
  summary: 'Events',
  exposure: 'network',
  config: v.strictObject({
    max_entries: v.optional(v.pipe(v.number(), v.integer()), 1000),
    fifo: v.optional(v.string()),
    pprof: v.optional(v.boolean(), false),
  }),
  setup: routes,
})
const local = definePlugin({
  name: 'tdx',
  summary: 'Quotes',
  requires: { any: ['tdx', 'tsm'] },
  config: v.strictObject({ key: v.optional(secret()) }),
  setup: routes,
})
const machine = new Machine('/', [
  { capability: 'tdx', state: 'absent', path: '/dev/tdx_guest', meaning: 'no /dev/tdx_guest' },
])

function resolve(text: string, env: Record<string, string> = {}) {
  const file = join(folder, 'cvmd.toml')
  writeFileSync(file, text)
  return resolveConfig(readConfig(file, env), [log, local], machine)
}

function issuesOf(text: string, env: Record<string, string> = {}) {
  try {
    resolve(text, env)
  } catch (error) {
    if (error instanceof ConfigError) return error.issues
    throw error
  }
  return []
}

test('an empty file gives the documented listeners and follows the hardware', () => {
  const { listeners, plugins, core } = resolve('')
  assert.equal(listeners[0]?.name, '127.0.0.1:3535')
  assert.match(listeners[1]?.name ?? '', /^unix:.*cvmd\.sock$/)
  assert.deepEqual(listeners[0]?.mounted, ['eventlog'])
  assert.equal(core.shutdown_timeout_ms, 10_000)
  const tdx = plugins.find(({ plugin }) => plugin.name === 'tdx')
  assert.equal(tdx?.state, 'unavailable')
  assert.equal(tdx?.reason, 'no /dev/tdx_guest')
})

test('every problem is reported at once, with line, column and owner', () => {
  const issues = issuesOf(`log = { level = "loud" }
[plugins.eventlog]
max_entris = 5
max_entries = "many"

[plugins.nosuch]

[[listen]]
address = "127.0.0.1:3535"

[[listen]]
address = "0.0.0.0:8080"
plugins = ["tdx"]
`)
  const seen = issues.map((i) => `${i.line}:${i.column} ${i.path} ${i.owner}`)
  assert.deepEqual(seen, [
    '1:1 log.level cvmd',
    '6:1 plugins.nosuch cvmd',
    '4:1 plugins.eventlog.max_entries eventlog',
    '3:1 plugins.eventlog.max_entris eventlog',
  ])
  assert.match(issues[3]?.message ?? '', /unknown key/)
  assert.match(issues[2]?.message ?? '', /expected number, found "many"/)
  // Listeners are only judged once the core's own tables are in order.
  const listen = issuesOf(
    '[[listen]]\naddress = "0.0.0.0:80"\n[[listen]]\nunix = "/x"\naddress = "a:1"',
  )
  assert.match(listen[0]?.message ?? '', /either "address" or "unix"/)
  const open = issuesOf('[[listen]]\naddress = "0.0.0.0:8080"\nplugins = ["tdx", "gone"]\n')
  assert.deepEqual(
    open.map(({ line, message }) => `${line} ${message.split(':')[0]}`),
    ['3 "tdx" may only be served on a Unix socket', '3 no plugin "gone"', '1 "0.0.0.0'],
  )
})

test('broken TOML is reported with its place', () => {
  for (const [text, line, column] of [
    ['a = \n', 1, 5],
    ['a = 1\na = 2\n', 2, 1],
    ['[plugins\n', 1, 9],
  ] as const) {
    const [issue] = issuesOf(text)
    assert.equal(issue?.line, line, text)
    assert.ok(Math.abs((issue?.column ?? 0) - column) <= 4, `${text}: column ${issue?.column}`)
  }
})

test('enabled = true makes missing hardware fatal, false switches off', () => {
  assert.match(issuesOf('[plugins.tdx]\nenabled = true\n')[0]?.message ?? '', /no \/dev\/tdx_guest/)
  const off = resolve('[plugins.eventlog]\nenabled = false\n').plugins[0]
  assert.equal(off?.state, 'disabled')
  assert.match(issuesOf('[plugins.eventlog]\nenabled = "yes"\n')[0]?.message ?? '', /expected true/)
})

test('a plugin is left out with those that give what it uses', () => {
  const plugin = (name: string, uses: readonly 'appIdentity'[], gives: boolean) =>
    definePlugin({
      name,
      summary: name,
      uses,
      ...(gives && { provides: ['appIdentity' as const] }),
      config: v.strictObject({}),
      setup: routes,
    })
  const known = [plugin('user', ['appIdentity'], false), plugin('giver', [], true)]
  const states = (text: string) => {
    const file = join(folder, 'cvmd.toml')
    writeFileSync(file, text)
    const { plugins } = resolveConfig(readConfig(file, {}), known, machine)
    return plugins.map(({ state, reason }) => reason || state)
  }
  assert.deepEqual(states(''), ['enabled', 'enabled'])
  assert.deepEqual(states('[plugins.giver]\nenabled = false'), [
    'plugin "giver" is not enabled',
    'enabled = false in the configuration',
  ])
  assert.throws(
    () => states('[plugins.giver]\nenabled = false\n[plugins.user]\nenabled = true'),
    (error) =>
      error instanceof ConfigError &&
      error.issues[0]?.message === 'cannot be enabled: plugin "giver" is not enabled',
  )
})

test('the table of an unavailable plugin is checked all the same', () => {
  assert.equal(issuesOf('[plugins.tdx]\nkeyy = 1\n')[0]?.path, 'plugins.tdx.keyy')
})

test('a plugin that waits for what it needs can be enabled before it is there', () => {
  const patient = definePlugin({
    name: 'patient',
    summary: 'Waits',
    config: v.strictObject({}),
    requires: 'tdx',
    waits: true,
    setup: routes,
  })
  const states = ['', 'enabled = true', 'enabled = false'].map((line) => {
    const table = parseToml(`[plugins.patient]\n${line}`, 'cvmd.toml')
    const source = { ...readConfig(undefined, {}), table }
    return resolveConfig(source, [patient], machine).plugins[0]?.state
  })
  assert.deepEqual(states, ['unavailable', 'enabled', 'disabled'])
})

test('what a plugin needs may follow from its configuration', () => {
  const shifty = definePlugin({
    name: 'shifty',
    summary: 'Needs what it is told to',
    config: v.strictObject({ prove: v.optional(v.boolean(), false) }),
    requires: ({ prove }) => (prove ? 'tdx' : undefined),
    uses: ({ prove }) => (prove ? ['attestation', 'appIdentity'] : []),
    setup: routes,
  })
  const source = (text: string) => ({
    ...readConfig(undefined, {}),
    table: parseToml(text, 'cvmd.toml'),
  })
  const [plain] = resolveConfig(source(''), [shifty], machine).plugins
  assert.deepEqual([plain?.state, plain?.requires, plain?.uses], ['enabled', undefined, []])
  const proving = source('[plugins.shifty]\nprove = true\n')
  const [lacking] = resolveConfig(proving, [shifty], machine).plugins
  assert.deepEqual([lacking?.state, lacking?.reason], ['unavailable', 'no /dev/tdx_guest'])
  assert.deepEqual(lacking?.uses, ['attestation', 'appIdentity'])
  assert.deepEqual(requirementsOf(proving, [shifty, local]), ['tdx', { any: ['tdx', 'tsm'] }])
  const wrong = source('[plugins.shifty]\nprove = 1\n')
  assert.deepEqual(requirementsOf(wrong, [shifty]), [undefined])
})

test('the environment overrides the file', () => {
  const { plugins, core } = resolve('[plugins.eventlog]\nmax_entries = 5\n', {
    CVMD_PLUGINS__EVENTLOG__MAX_ENTRIES: '500',
    CVMD_LOG__JSON: 'true',
    CVMD_STATE_DIR: '/tmp/somewhere',
    CVMD_REQUIRE: 'engine',
    OTHER: 'x',
  })
  assert.deepEqual(plugins[0]?.config, { max_entries: 500, pprof: false })
  assert.equal(core.log.json, true)
  assert.equal(core.state_dir, '/tmp/somewhere')
  assert.equal(issuesOf('', { CVMD_NOSUCH: '1' })[0]?.path, 'nosuch')
  assert.deepEqual(applyEnv({}, { CVMD___PROTO____X: '1' }), {})
})

test('a TCP address that others reach wants authentication or a written exception', () => {
  assert.equal(issuesOf('[[listen]]\naddress = ":3535"\nallow_anonymous = true\n').length, 0)
  assert.match(issuesOf('[[listen]]\naddress = ":3535"\n')[0]?.message ?? '', /allow_anonymous/)
  assert.match(
    issuesOf('[[listen]]\naddress = ":3535"\nauth = "basic"\n')[0]?.message ?? '',
    /password_file/,
  )
  assert.equal(issuesOf('[[listen]]\naddress = "127.0.0.1:3535"\n').length, 0)
})

test('addresses', () => {
  assert.deepEqual(parseAddress('[::1]:80'), { host: '::1', port: 80, loopback: true })
  assert.deepEqual(parseAddress(':3535'), { host: '0.0.0.0', port: 3535, loopback: false })
  assert.deepEqual(parseAddress('localhost:1'), { host: '127.0.0.1', port: 1, loopback: true })
  for (const bad of ['', '3535', 'a b:1', '::1:80', 'x:99999', 'x:']) {
    assert.equal(parseAddress(bad), undefined, bad)
  }
})

const SAMPLE = `[general]
listen_addr = "0.0.0.0:3535"
pipe_file = "pipe.fifo"
pprof = true
log_json = false
LOG_DEBUG = true
basic_auth_secret_path = "basic-auth-secret.txt"
basic_auth_secret_salt = "D;%yL9TS:5PalS/d"
surprise = 1
[actions]
echo_test = "echo test"
[File_Uploads]
testfile = "/tmp/testfile.txt"
`

test('a system-api file is translated', () => {
  const { table, issues, warnings } = translateSystemApi(parseToml(SAMPLE, 'x'), {
    MAX_EVENTS: '7',
    SHELL_TO_USE: '/bin/bash',
  })
  assert.deepEqual(issues, [])
  assert.deepEqual(warnings, ['unknown key "general.surprise" is ignored'])
  assert.deepEqual(table.auth, {
    realm: 'system-api',
    password_file: 'basic-auth-secret.txt',
    password_salt: 'D;%yL9TS:5PalS/d',
  })
  const plugins = table.plugins as Record<string, unknown>
  assert.deepEqual(plugins.eventlog, { max_entries: 7, pprof: true, fifo: 'pipe.fifo' })
  assert.deepEqual(table.log, { json: false, level: 'debug', requests: true })
  const [listen] = table.listen as Record<string, unknown>[]
  assert.equal(listen?.address, '0.0.0.0:3535')
  assert.equal(listen?.open_until_password, true)
})

test('system-api corner cases: ring size, ports, wrong types', () => {
  const ring = (value: string, env = {}) => {
    const { table } = translateSystemApi(parseToml(`[general]\n${value}`, 'x'), env)
    return (table.plugins as Record<string, Record<string, unknown>>).eventlog?.max_entries
  }
  assert.equal(ring(''), 1000)
  assert.equal(ring('log_max_entries = 0', { MAX_EVENTS: '' }), 1000)
  assert.equal(ring('log_max_entries = -1'), -1)
  assert.equal(ring('log_max_entries = 5', { MAX_EVENTS: '9' }), 5)
  assert.equal(ring('', { MAX_EVENTS: '-3' }), -3)
  const address = (text: string) => {
    const { table } = translateSystemApi(parseToml(text, 'x'), {})
    return (table.listen as Record<string, unknown>[])[0]?.address
  }
  assert.equal(address('[general]'), ':80')
  assert.equal(address('[general]\ntls_enabled = true'), ':443')
  const wrong = translateSystemApi(parseToml('[general]\npprof = "yes"\n[actions]\na = 1', 'x'), {})
  assert.deepEqual(
    wrong.issues.map(({ path }) => path),
    ['general.pprof', 'actions.a'],
  )
})

test('both styles in one file are an error that names the native key', () => {
  const [issue] = issuesOf('state_dir = "/x"\n[general]\nlisten_addr = ":1"\n')
  assert.match(issue?.message ?? '', /beside "state_dir": use \[\[listen\]\]/)
})

test('a secret is read on each use and never shown', () => {
  const file = join(folder, 'token')
  writeFileSync(file, 'canary-1\n')
  const value = v.parse(secret(), { file })
  assert.equal(value.read(), 'canary-1')
  writeFileSync(file, 'canary-2')
  assert.equal(value.read(), 'canary-2')
  assert.equal(`${value} ${JSON.stringify({ value })}`, '[secret] {"value":"[secret]"}')
  assert.throws(() => new Secret(join(folder, 'none')).read(), /Cannot read the secret in/)
})

test('the JSON Schema covers the core and each plugin', () => {
  const schema = configSchema([log, local]) as {
    properties: Record<string, { properties: Record<string, unknown>; items: object }>
  }
  const plugins = schema.properties.plugins?.properties as Record<
    string,
    { properties: Record<string, { type?: string; default?: unknown }> }
  >
  assert.deepEqual(Object.keys(plugins), ['eventlog', 'tdx'])
  assert.equal(plugins.eventlog?.properties.max_entries?.default, 1000)
  assert.ok('enabled' in (plugins.tdx?.properties ?? {}))
  assert.ok('items' in (schema.properties.listen ?? {}))
})

test('locating a key never throws and stays inside the text', () => {
  fc.assert(
    fc.property(
      fc.string(),
      fc.array(fc.oneof(fc.string(), fc.nat(3)), { maxLength: 4 }),
      (text, path) => {
        const place = locate(text, path)
        if (place) assert.ok(place.line >= 1 && place.line <= text.split('\n').length)
      },
    ),
  )
})

test('any text is a good configuration or a ConfigError', () => {
  const words = fc.constantFrom(
    '[listen]',
    '[[listen]]',
    'a = 1',
    'plugins',
    '[plugins.eventlog]',
    '=',
    '"',
    '[general]',
    'max_entries = 1',
    '\n',
  )
  fc.assert(
    fc.property(fc.array(fc.oneof(words, fc.string()), { maxLength: 12 }), (parts) => {
      const file = join(folder, 'fuzz.toml')
      writeFileSync(file, parts.join('\n'))
      try {
        resolveConfig(readConfig(file, {}), [log, local], machine)
      } catch (error) {
        assert.ok(error instanceof ConfigError, String(error))
      }
    }),
    { numRuns: 300 },
  )
})
