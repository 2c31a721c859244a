import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createAudit } from '../src/auth/audit.ts'
import { createGuard } from '../src/auth/guard.ts'
import { PasswordStore } from '../src/auth/password.ts'
import { passwordPlugin } from '../src/auth/password-routes.ts'
import { Throttle } from '../src/auth/throttle.ts'
import { systemApiError } from '../src/compat/system-api.ts'
import { EventLog } from '../src/events/log.ts'
import { hostPlugin, type PluginHost } from './helpers/plugin-host.ts'

const PATH = '/api/v1/set-basic-auth'
const UPDATED = '[system-api] basic auth secret updated'

const hashOf = (password: Uint8Array | string) =>
  createHash('sha256').update(password).update('salt').digest('hex')

async function withPlugin(
  work: (host: PluginHost, store: PasswordStore, path: string) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-auth-'))
  mkdirSync(join(folder, 'sub'))
  const path = join(folder, 'sub', 'secret')
  const store = new PasswordStore(path, 'salt')
  await store.load()
  const guard = createGuard({
    methods: ['basic'],
    passwords: store,
    throttle: new Throttle(),
    realm: 'system-api',
    openUntilSet: true,
  })
  const host = hostPlugin(passwordPlugin(store), {}, { guard, renderError: systemApiError })
  try {
    await host.start()
    await work(host, store, path)
  } finally {
    await host.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

const post = (body: string | Uint8Array<ArrayBuffer>, password?: string): RequestInit => ({
  method: 'POST',
  body,
  ...(password === undefined
    ? {}
    : {
        headers: { authorization: `Basic ${Buffer.from(`admin:${password}`).toString('base64')}` },
      }),
})

test('the first password closes the API, and the next needs the first', () =>
  withPlugin(async (host, store, path) => {
    const first = await host.request(PATH, post('one\n'))
    assert.equal(first.status, 200)
    assert.equal(first.headers.get('content-type'), 'application/json')
    assert.equal(await first.text(), '{"message":"Basic auth secret updated"}\n')
    assert.equal(readFileSync(path, 'utf8'), hashOf('one\n'))
    const refused = await host.request(PATH, post('two', 'one'))
    assert.equal(refused.status, 401)
    assert.equal(refused.headers.get('www-authenticate'), 'Basic realm="system-api"')
    assert.equal(await refused.text(), '{"code":401,"message":"Unauthorized"}\n')
    assert.equal((await host.request(PATH, post('two', 'one\n'))).status, 200)
    assert.equal((await host.request(PATH, post('three', 'one\n'))).status, 401)
    assert.equal(store.verify(Buffer.from('two')), true)
    assert.deepEqual(host.messages(), [UPDATED, UPDATED])
  }))

test('the body is the password byte for byte, nothing included', () =>
  withPlugin(async (host, _store, path) => {
    const binary = Uint8Array.of(0xff, 0xfe, 0, 10, 58)
    assert.equal((await host.request(PATH, post(binary))).status, 200)
    assert.equal(readFileSync(path, 'utf8'), hashOf(binary))
  }))

test('an empty password is one, as in the original', () =>
  withPlugin(async (host, store) => {
    assert.equal((await host.request(PATH, { method: 'POST' })).status, 200)
    assert.equal(store.isSet, true)
    assert.equal((await host.request('/', {})).status, 401)
  }))

test('a password that is too long is refused and not set', () =>
  withPlugin(async (host, store) => {
    const long = await host.request(PATH, post('x'.repeat(1025)))
    assert.equal(long.status, 413)
    assert.match(await long.text(), /^{"code":413,"message":"Cannot set a password of 1025 bytes/)
    assert.equal(store.isSet, false)
    assert.equal((await host.request(PATH, post('x'.repeat(1024)))).status, 200)
  }))

test('a file that cannot be written gives 500 with an empty body and no event', () =>
  withPlugin(async (host, store, path) => {
    rmSync(join(path, '..'), { recursive: true })
    const failed = await host.request(PATH, post('canary'))
    assert.equal(failed.status, 500)
    assert.equal(await failed.text(), '')
    assert.equal(store.isSet, false)
    assert.deepEqual(host.messages(), [])
  }))

test('without a secret file it answers 501 with an empty body', async () => {
  const host = hostPlugin(passwordPlugin(undefined), {}, { renderError: systemApiError })
  try {
    await host.start()
    const response = await host.request(PATH, post('pw'))
    assert.equal(response.status, 501)
    assert.equal(await response.text(), '')
    assert.deepEqual(host.messages(), [])
  } finally {
    await host.stop()
  }
})

test('other methods get 405 with what is allowed', () =>
  withPlugin(async (host) => {
    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE']) {
      const response = await host.request(PATH, { method })
      assert.equal(response.status, 405, method)
      assert.equal(response.headers.get('allow'), 'POST')
    }
  }))

test('neither password nor hash shows in events, answers or errors', () =>
  withPlugin(async (_host, store) => {
    const eventLog = new EventLog()
    const { refused } = createAudit(eventLog.sink('cvmd'))
    const guard = createGuard({
      methods: ['basic'],
      passwords: store,
      throttle: new Throttle(),
      realm: 'system-api',
      openUntilSet: true,
    })
    const host = hostPlugin(
      passwordPlugin(store),
      {},
      { guard, refused, renderError: systemApiError },
    )
    try {
      await host.start()
      const shown: string[] = []
      for (let i = 0; i < 15; i++) {
        const response = await host.request(
          `${PATH}?password=canary`,
          post('canary', i === 1 ? 'canary' : 'canary-wrong'),
        )
        shown.push(await response.text(), JSON.stringify([...response.headers]))
      }
      shown.push(...host.messages(), ...eventLog.after(0).map(({ message }) => message))
      assert.ok(shown.includes(`refused POST ${PATH} from 127.0.0.1: Unauthorized`))
      const text = shown.join('\n')
      for (const secret of [
        'canary',
        hashOf('canary'),
        Buffer.from('admin:canary').toString('base64'),
      ]) {
        assert.equal(text.includes(secret), false)
      }
    } finally {
      await host.stop()
    }
  }))
