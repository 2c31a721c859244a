import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { KeyFileError, MAX_KEYS, parseKeys, readKeyFile } from '../src/auth/key-file.ts'
import { createToken } from '../src/auth/key-token.ts'
import { KeyStore } from '../src/auth/keys.ts'
import { withLockFile } from '../src/auth/lock-file.ts'

const START = Date.parse('2030-01-01T00:00:00Z')

async function inFolder(work: (path: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-keys-'))
  try {
    await work(join(folder, 'keys.json'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A store with clocks a test moves: both in milliseconds. */
function storeAt(path: string) {
  const clock = { wall: START, monotonic: 0 }
  const problems: KeyFileError[] = []
  const store = new KeyStore(path, {
    now: () => clock.wall,
    monotonic: () => clock.monotonic,
    onProblem: (error) => problems.push(error),
  })
  store.load()
  return { store, clock, problems }
}

const record = (name: string) => {
  const { id, token } = createToken()
  const sha256 = createHash('sha256').update(token).digest('hex')
  return { id, name, sha256, scopes: ['events:read'], created: '2030-01-01T00:00:00.000Z' }
}

const fileOf = (...keys: unknown[]) => JSON.stringify({ version: 1, keys })

test('a key is shown once, stored hashed in mode 0600, and verifies with its scopes', () =>
  inFolder(async (path) => {
    const { store } = storeAt(path)
    assert.deepEqual(store.list(), [])
    const { key, token } = await store.add({ name: 'ci', scopes: ['actions:run:*'] })
    assert.deepEqual(store.verify(token), { kind: 'key', name: 'ci', scopes: ['actions:run:*'] })
    assert.deepEqual(store.list(), [key])
    assert.deepEqual(key, {
      id: token.split('_')[1],
      name: 'ci',
      scopes: ['actions:run:*'],
      created: '2030-01-01T00:00:00.000Z',
    })
    const text = readFileSync(path, 'utf8')
    const secret = token.slice(18)
    assert.equal(text.includes(secret), false)
    assert.ok(text.includes(createHash('sha256').update(token).digest('hex')))
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.deepEqual(readdirSync(join(path, '..')), ['keys.json'])
    for (const wrong of [
      '',
      'x',
      `${token}x`,
      `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`,
    ]) {
      assert.equal(store.verify(wrong), undefined)
    }
    assert.equal(store.verify(createToken().token), undefined)
  }))

test('a removed key ends at once, by name or id', () =>
  inFolder(async (path) => {
    const { store } = storeAt(path)
    const first = await store.add({ name: 'first', scopes: ['*'] })
    const second = await store.add({ name: 'second', scopes: ['*'] })
    const before = store.revision
    assert.equal((await store.remove('first')).id, first.key.id)
    assert.notEqual(store.revision, before)
    assert.equal(store.verify(first.token), undefined)
    assert.equal((await store.remove(second.key.id)).name, 'second')
    assert.equal(store.verify(second.token), undefined)
    await assert.rejects(store.remove('first'), /^RangeError: Cannot remove key "first"/)
  }))

test('a key ends when it expires, and the revision tells', () =>
  inFolder(async (path) => {
    const { store, clock } = storeAt(path)
    const { key, token } = await store.add({ name: 'short', scopes: ['*'], expiresInS: 60 })
    assert.equal(key.expires, '2030-01-01T00:01:00.000Z')
    const before = store.revision
    clock.wall += 59_999
    assert.ok(store.verify(token))
    assert.equal(store.revision, before)
    clock.wall += 1
    assert.equal(store.verify(token), undefined)
    assert.notEqual(store.revision, before)
    assert.equal(store.list().length, 1)
  }))

test('what is wrong about a new key is refused and nothing is written', () =>
  inFolder(async (path) => {
    const { store } = storeAt(path)
    const good = { name: 'a', scopes: ['events:read'] }
    const bad = [
      { ...good, name: '' },
      { ...good, name: ' a' },
      { ...good, name: 'a\nb' },
      { ...good, name: 'x'.repeat(65) },
      { ...good, name: '0123456789ab' },
      { ...good, scopes: [] },
      { ...good, scopes: ['Events:read'] },
      { ...good, scopes: ['events:*:x'] },
      { ...good, scopes: Array(65).fill('a:b') },
      { ...good, scopes: [`a:${'b'.repeat(200)}`] },
      { ...good, expiresInS: 0 },
      { ...good, expiresInS: 1.5 },
      { ...good, expiresInS: Number.NaN },
      { ...good, expiresInS: 1e12 },
    ]
    for (const wanted of bad) await assert.rejects(store.add(wanted), RangeError)
    assert.equal(existsSync(path), false)
    await store.add(good)
    await assert.rejects(store.add(good), /the name is taken/)
    writeFileSync(path, fileOf(...Array.from({ length: MAX_KEYS }, (_, i) => record(`k${i}`))))
    await assert.rejects(store.add({ ...good, name: 'one more' }), /remove one of the 1000 first/)
  }))

test('another process is noticed within 50 ms, looking no more often than that', () =>
  inFolder(async (path) => {
    const { store, clock } = storeAt(path)
    const other = new KeyStore(path)
    const { token } = await other.add({ name: 'late', scopes: ['*'] })
    assert.equal(store.verify(token), undefined)
    clock.monotonic += 49
    assert.equal(store.verify(token), undefined)
    clock.monotonic += 1
    assert.equal(store.verify(token)?.name, 'late')
    rmSync(path)
    clock.monotonic += 50
    assert.equal(store.verify(token), undefined)
  }))

test('a file that went bad leaves the last keys in force and is reported once', () =>
  inFolder(async (path) => {
    const { store, clock, problems } = storeAt(path)
    const { token } = await store.add({ name: 'a', scopes: ['*'] })
    const good = readFileSync(path, 'utf8')
    writeFileSync(path, good.slice(0, -3))
    for (let i = 0; i < 5; i++) {
      clock.monotonic += 1000
      assert.ok(store.verify(token))
    }
    assert.equal(problems.length, 1)
    assert.equal(problems[0]?.name, 'KeyFileError')
    assert.throws(() => store.load(), KeyFileError)
    await assert.rejects(store.add({ name: 'b', scopes: ['*'] }), KeyFileError)
    assert.equal(readFileSync(path, 'utf8'), good.slice(0, -3))
    writeFileSync(path, good)
    clock.monotonic += 1000
    assert.ok(store.verify(token))
    assert.equal(problems.length, 1)
  }))

test('a bad file is named with the place, and never quoted', () => {
  const token = createToken().token
  const key = record('a')
  const cases: [string, RegExp][] = [
    [token, /it is not JSON$/],
    [`{"version":1,"keys":["${token}"]}`, /keys\.0 is not Object$/],
    [fileOf({ ...key, sha256: token }), /keys\.0\.sha256 is not /],
    [fileOf({ ...key, scopes: [token] }), /keys\.0\.scopes\.0 is not /],
    [fileOf({ ...key, created: token }), /keys\.0\.created is not /],
    [fileOf({ ...key, expires: '2030-13-01T00:00:00Z' }), /keys\.0\.expires is not /],
    [fileOf({ ...key, extra: token }), /keys\.0\.extra is unknown$/],
    [fileOf(key, key), /keys is not as it must be$/],
    [fileOf(key, { ...record('a') }), /keys is not as it must be$/],
    [JSON.stringify({ version: 2, keys: [] }), /version is not 1$/],
    ['[]', /is not /],
    ['', /it is not JSON$/],
  ]
  for (const [text, message] of cases) {
    assert.throws(
      () => parseKeys(text, '/x/keys.json'),
      (error: Error) => {
        assert.equal(error.name, 'KeyFileError')
        assert.match(error.message, message)
        assert.equal(`${error.stack} ${String(error.cause)}`.includes(token), false)
        return true
      },
    )
  }
})

test('no text makes the reader throw anything but its own error', () => {
  const json = fc.oneof(
    fc.string(),
    fc.json(),
    fc.json().map((keys) => `{"version":1,"keys":${keys}}`),
    fc.json().map((key) => `{"version":1,"keys":[${key}]}`),
    fc
      .tuple(
        fc.constantFrom('id', 'name', 'sha256', 'scopes', 'created', 'expires'),
        fc.jsonValue(),
      )
      .map(([field, value]) => fileOf({ ...record('a'), [field]: value })),
  )
  fc.assert(
    fc.property(json, (text) => {
      try {
        assert.ok(Array.isArray(parseKeys(text, 'keys.json')))
      } catch (error) {
        assert.equal((error as Error).name, 'KeyFileError')
      }
    }),
    { numRuns: 300 },
  )
})

test('additions at the same time from two stores are all kept', () =>
  inFolder(async (path) => {
    const stores = [new KeyStore(path), new KeyStore(path)]
    const added = await Promise.all(
      Array.from({ length: 16 }, (_, i) =>
        (stores[i % 2] as KeyStore).add({ name: `key ${i}`, scopes: ['*'] }),
      ),
    )
    const { store } = storeAt(path)
    for (const { token } of added) assert.ok(store.verify(token))
    assert.deepEqual(readdirSync(join(path, '..')), ['keys.json'])
  }))

test('additions at the same time from several processes are all kept', async () => {
  const script = `
    import { KeyStore } from ${JSON.stringify(new URL('../src/auth/keys.ts', import.meta.url).href)}
    const [path, tag] = process.argv.slice(-2)
    const store = new KeyStore(path)
    for (let i = 0; i < 5; i++) await store.add({ name: tag + i, scopes: ['*'] })
  `
  await inFolder(async (path) => {
    const file = join(path, '..', 'add.mjs')
    writeFileSync(file, script)
    const run = (tag: string) =>
      new Promise<number | null>((resolve, reject) => {
        const child = spawn(process.execPath, [...runtimeFlags(), file, path, tag], {
          stdio: ['ignore', 'ignore', 'inherit'],
          timeout: 15_000,
        })
        child.on('error', reject)
        child.on('close', resolve)
      })
    assert.deepEqual(await Promise.all(['a', 'b', 'c'].map(run)), [0, 0, 0])
    assert.equal(readKeyFile(path).length, 15)
  })
})

test('a lock of a crashed process is taken over, a live one is waited for', () =>
  inFolder(async (path) => {
    const { store } = storeAt(path)
    const lock = `${path}.lock`
    writeFileSync(lock, 'crashed')
    const old = Date.now() / 1000 - 60
    utimesSync(lock, old, old)
    await store.add({ name: 'a', scopes: ['*'] })
    assert.equal(existsSync(lock), false)
    writeFileSync(lock, 'alive')
    setTimeout(() => rmSync(lock), 100)
    await store.add({ name: 'b', scopes: ['*'] })
    assert.equal(store.list().length, 2)
  }))

test('whose lock was taken over changes nothing and leaves the new one alone', () =>
  inFolder(async (path) => {
    let reached = false
    const lost = withLockFile(path, async (assertHeld) => {
      writeFileSync(path, 'of another process')
      await assertHeld()
      reached = true
    })
    await assert.rejects(lost, /Lost the lock/)
    assert.equal(reached, false)
    assert.equal(readFileSync(path, 'utf8'), 'of another process')
  }))

/** What this runtime needs to run a TypeScript import from outside the checkout. */
function runtimeFlags(): string[] {
  const runtime = process.env.CVMD_TEST_RUNTIME
  if (runtime === 'bun') return ['--no-install']
  if (runtime === 'deno') {
    const config = new URL('../deno.json', import.meta.url).pathname
    return ['run', '-A', '--no-check', '--quiet', '--config', config]
  }
  return ['--import', import.meta.resolve('tsx')]
}
