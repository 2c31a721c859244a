import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import * as v from 'valibot'
import { parseGenerations, renderGenerations } from '../../plugins/supervisor/keys/generations.ts'
import { presentedKey } from '../../plugins/supervisor/keys/presented-key.ts'
import {
  CAPABILITIES,
  CapabilitiesConfig,
  isGlobal,
  mayUse,
  opensApp,
} from '../../plugins/supervisor/keys/scopes.ts'
import { GLOBAL, KeyError, SupervisorKeys } from '../../plugins/supervisor/keys/supervisor-keys.ts'
import { runtime } from '../../src/runtime.ts'

const MAIN = { appId: 101, service: 'main' }
const SIDE = { appId: 101, service: 'side' }

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-keys-'))
  try {
    await body(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function opened(folder: string, master?: Uint8Array): Promise<SupervisorKeys> {
  const keys = new SupervisorKeys({ folder, master })
  await keys.open()
  return keys
}

const derived = (master: Uint8Array, text: string) =>
  createHmac('sha256', master).update(text).digest('hex')

test('keys are HMACs of their owner under a master secret made at first start', async () => {
  await withFolder(async (folder) => {
    const keys = new SupervisorKeys({ folder })
    assert.equal(await keys.open(), true)
    const path = join(folder, 'master-secret')
    assert.equal(statSync(path).mode & 0o777, 0o600)
    const master = readFileSync(path)
    assert.equal(master.length, 32)
    assert.equal(keys.keyOf(GLOBAL), derived(master, '0||0'))
    assert.equal(keys.keyOf(MAIN), derived(master, '101|main|0'))
    assert.match(keys.keyOf(MAIN), /^[0-9a-f]{64}$/)
    await keys.regenerate(MAIN)
    assert.equal(keys.keyOf(MAIN), derived(master, '101|main|1'))
    assert.deepEqual(readdirSync(folder).sort(), ['generations.json', 'master-secret'])
    assert.equal(statSync(join(folder, 'generations.json')).mode & 0o777, 0o600)
    assert.equal(await new SupervisorKeys({ folder }).open(), false)
  })
})

test('a key is known by who it belongs to, and opens that', async () => {
  await withFolder(async (folder) => {
    const keys = await opened(folder)
    const device = keys.verify(keys.keyOf(GLOBAL))
    assert.deepEqual(device, { appId: 0, service: null, scopes: [{ type: 'global' }] })
    const main = keys.verify(keys.keyOf(MAIN))
    assert.deepEqual(main, { ...MAIN, scopes: [{ type: 'app', appId: 101 }] })
    assert.ok(device && main)
    assert.deepEqual(
      [isGlobal(device), opensApp(device, 7), isGlobal(main), opensApp(main, 101)],
      [true, true, false, true],
    )
    assert.equal(opensApp(main, 7), false)
    const both = { ...main, scopes: [...main.scopes, { type: 'app' as const, appId: 7 }] }
    assert.equal(opensApp(both, 7), true)
  })
})

test('only the key itself is valid', async () => {
  await withFolder(async (folder) => {
    const keys = await opened(folder)
    const key = keys.keyOf(MAIN)
    assert.ok(keys.verify(key))
    for (const wrong of [
      '',
      key.toUpperCase(),
      `${key}0`,
      key.slice(1),
      ` ${key}`,
      '0'.repeat(64),
    ]) {
      assert.equal(keys.verify(wrong), undefined, wrong)
    }
    // Each UTF-16 unit has the low byte of the right one.
    const high = [...key].map((c) => String.fromCharCode(0x100 + c.charCodeAt(0))).join('')
    assert.equal(keys.verify(high), undefined)
    const other = await mkdtempKeys(folder)
    assert.equal(keys.verify(other.keyOf(MAIN)), undefined)
    fc.assert(
      fc.property(fc.string(), (text) => {
        assert.equal(keys.verify(text), undefined)
      }),
    )
  })
})

async function mkdtempKeys(folder: string): Promise<SupervisorKeys> {
  mkdirSync(join(folder, 'other'))
  return opened(join(folder, 'other'))
}

test('a key made anew replaces the old one at once, and alone', async () => {
  await withFolder(async (folder) => {
    const keys = await opened(folder)
    const [old, side, device] = [keys.keyOf(MAIN), keys.keyOf(SIDE), keys.keyOf(GLOBAL)]
    const fresh = await keys.regenerate(MAIN)
    assert.notEqual(fresh, old)
    assert.equal(keys.verify(old), undefined)
    assert.equal(keys.verify(fresh)?.service, 'main')
    assert.equal(keys.verify(side)?.service, 'side')
    assert.equal(keys.verify(device)?.service, null)
    const [first, second] = await Promise.all([keys.regenerate(MAIN), keys.regenerate(MAIN)])
    assert.notEqual(first, second)
    assert.equal(keys.verify(fresh), undefined)
    assert.equal(keys.keyOf(MAIN), second)
  })
})

test('keys outlive a restart', async () => {
  await withFolder(async (folder) => {
    const before = await opened(folder)
    const device = await before.regenerate(GLOBAL)
    const main = before.keyOf(MAIN)
    before.close()
    assert.equal(before.verify(device), undefined)
    assert.throws(() => before.keyOf(MAIN), KeyError)
    await assert.rejects(before.regenerate(MAIN), KeyError)

    const after = await opened(folder)
    assert.equal(after.keyOf(GLOBAL), device)
    assert.equal(after.verify(device)?.service, null)
    assert.equal(after.verify(main), undefined, 'a service that nobody named yet')
    after.retain([MAIN])
    assert.equal(after.verify(main)?.service, 'main')
    await before.open()
    assert.equal(before.keyOf(MAIN), main)
  })
})

test('the key of a service that went is not valid, nor its older ones when it comes back', async () => {
  await withFolder(async (folder) => {
    const keys = await opened(folder)
    keys.retain([MAIN, SIDE])
    const first = keys.keyOf(MAIN)
    const second = await keys.regenerate(MAIN)
    keys.retain([SIDE])
    assert.deepEqual([keys.verify(first), keys.verify(second)], [undefined, undefined])
    assert.ok(keys.verify(keys.keyOf(SIDE)))
    assert.ok(keys.verify(keys.keyOf(GLOBAL)))
    const again = await opened(folder)
    again.retain([MAIN])
    assert.equal(again.verify(first), undefined)
    assert.ok(again.verify(second))
  })
})

test('a given secret is used and nothing of it is written', async () => {
  await withFolder(async (folder) => {
    const master = new Uint8Array(32).fill(7)
    const keys = await opened(folder, master)
    assert.equal(keys.keyOf(MAIN), derived(master, '101|main|0'))
    keys.close()
    assert.deepEqual(master, new Uint8Array(32).fill(7), "the giver's copy is its own")
    assert.deepEqual(readdirSync(folder), [])
    for (const bad of [
      new Uint8Array(31).fill(1),
      new Uint8Array(33).fill(1),
      new Uint8Array(32),
    ]) {
      await assert.rejects(opened(folder, bad), { code: 'KEY_NOT_POSSIBLE' })
    }
  })
})

test('a bad secret file is refused and not replaced', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'master-secret')
    for (const size of [0, 31, 33, 4096]) {
      writeFileSync(path, new Uint8Array(size).fill(1), { mode: 0o600 })
      await assert.rejects(opened(folder), { code: 'KEY_FILE_UNUSABLE', status: 503 })
      assert.equal(statSync(path).size, size)
    }
    writeFileSync(path, new Uint8Array(32).fill(1))
    chmodSync(path, 0o640)
    await assert.rejects(opened(folder), /others have access to it \(mode 0640\), use 0600$/)
    renameSync(path, `${path}.real`)
    chmodSync(`${path}.real`, 0o600)
    symlinkSync(`${path}.real`, path)
    await assert.rejects(opened(folder), KeyError)
    rmSync(path)
    mkdirSync(path, { mode: 0o700 })
    await assert.rejects(opened(folder), /it is no file$/)
  })
})

test('bad generations are refused: taking none would make old keys good', async () => {
  await withFolder(async (folder) => {
    await opened(folder)
    const path = join(folder, 'generations.json')
    const entry = { app_id: 1, service: 'a', generation: 1 }
    for (const bad of [
      '',
      '{',
      '[]',
      '{"version":2,"generations":[]}',
      JSON.stringify({ version: 1, generations: [entry, entry] }),
      JSON.stringify({ version: 1, generations: [{ ...entry, generation: 0 }] }),
      JSON.stringify({ version: 1, generations: [{ ...entry, service: '' }] }),
      JSON.stringify({ version: 1, generations: [{ ...entry, more: 1 }] }),
    ]) {
      writeFileSync(path, bad)
      await assert.rejects(opened(folder), { code: 'KEY_FILE_UNUSABLE' }, bad)
      assert.equal(readFileSync(path, 'utf8'), bad)
    }
  })
})

test('a new key that cannot be stored leaves the old one', async () => {
  await withFolder(async (folder) => {
    const keys = await opened(folder)
    const key = keys.keyOf(MAIN)
    const path = join(folder, 'generations.json')
    mkdirSync(path)
    await assert.rejects(keys.regenerate(MAIN), { code: 'KEY_FILE_UNUSABLE', status: 503 })
    assert.equal(keys.keyOf(MAIN), key)
    assert.ok(keys.verify(key))
    rmdirSync(path)
    const fresh = await keys.regenerate(MAIN)
    assert.equal(keys.verify(key), undefined)
    assert.ok(keys.verify(fresh))
  })
})

test('names that could stand for another key are refused', async () => {
  await withFolder(async (folder) => {
    const keys = await opened(folder)
    for (const owner of [
      { appId: 0, service: '' },
      { appId: 1, service: null },
      { appId: 1, service: 'a|1' },
      { appId: 1, service: '' },
      { appId: -1, service: 'a' },
      { appId: 1.5, service: 'a' },
      { appId: Number.NaN, service: 'a' },
    ]) {
      assert.throws(() => keys.keyOf(owner), KeyError, JSON.stringify(owner))
      await assert.rejects(keys.regenerate(owner), KeyError)
    }
  })
})

test('no key and no secret shows when things are printed', async () => {
  await withFolder(async (folder) => {
    const keys = await opened(folder)
    const shown = inspect(keys, { depth: 9, showHidden: true }) + JSON.stringify(keys)
    for (const secret of [
      keys.keyOf(GLOBAL),
      readFileSync(join(folder, 'master-secret')).toString('hex').slice(0, 16),
    ]) {
      assert.equal(shown.includes(secret), false)
    }
  })
})

test('killed at any moment, the last key given out is valid', async () => {
  await withFolder(async (folder) => {
    const flags = {
      node: ['--import', 'tsx'],
      bun: ['--no-install'],
      deno: ['run', '-A', '--no-check', '--quiet'],
    }[runtime]
    const script = resolve('test/plugins/supervisor-keys-child.ts')
    const seen = new Set<string>()
    for (const count of [1, 2, 5, 9]) {
      const child = spawn(process.execPath, [...flags, script, folder], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const printed: string[] = []
      for await (const line of createInterface({ input: child.stdout })) {
        printed.push(line)
        if (printed.length === count) child.kill('SIGKILL')
      }
      const keys = await opened(folder)
      const last = printed.at(-1) ?? ''
      // The one after it may be on the disk although nobody was told of it any more.
      const now = keys.keyOf(GLOBAL)
      assert.ok(now === last || !seen.has(now), 'an old key came back')
      if (now !== last) assert.equal(keys.verify(last), undefined)
      for (const key of [...seen, ...printed.slice(0, -1)]) {
        assert.ok(key === now || keys.verify(key) === undefined, 'an old key is good')
      }
      for (const key of printed) seen.add(key)
      seen.delete(now)
    }
  })
})

test('generations: every document comes back as it was, and anything else is refused', () => {
  const entry = fc.tuple(
    fc.nat(),
    fc.option(fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}$/), { nil: null }),
    fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  )
  fc.assert(
    fc.property(fc.array(entry), (list) => {
      const entries = new Map(list.map(([app, service, n]) => [`${app}|${service ?? ''}`, n]))
      assert.deepEqual(parseGenerations(renderGenerations(entries)), entries)
    }),
  )
  fc.assert(
    fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
      assert.throws(() => parseGenerations(text), SyntaxError)
    }),
  )
})

test('which key a request presents', () => {
  for (const [search, header, expected] of [
    ['', undefined, undefined],
    ['', null, undefined],
    ['?apikey=abc', undefined, 'abc'],
    ['apikey=abc', undefined, 'abc'],
    ['?a=1&apikey=a%62c', undefined, 'abc'],
    ['?%61pikey=abc', undefined, 'abc'],
    // A wrong one in the query is not rescued.
    ['?apikey=wrong', 'Bearer right', 'wrong'],
    ['?apikey=%zz', 'Bearer right', '%zz'],
    ['?ApiKey=abc', 'Bearer right', 'right'],
    ['?APIKEY=abc', undefined, undefined],
    ['?apikey=', 'Bearer right', 'right'],
    ['?apikey', 'Bearer right', 'right'],
    ['?apikey=a&apikey=b', 'Bearer right', 'right'],
    ['?apikey=a&apikey=', 'Bearer right', 'right'],
    ['?apikey[]=a', 'Bearer right', 'right'],
    ['?apikey=a&apikey[]=b', 'Bearer right', 'right'],
    ['?apikey[x]=a', undefined, undefined],
    ['?apikeys=a', undefined, undefined],
    ['', 'ApiKey abc', 'abc'],
    ['', 'APIKEY abc', 'abc'],
    ['', 'bearer a_9', 'a_9'],
    ['', 'Bearer  abc', undefined],
    ['', 'Bearer\tabc', undefined],
    ['', ' Bearer abc', undefined],
    ['', 'Bearer abc ', undefined],
    ['', 'Bearer abc\n', undefined],
    ['', 'Bearer a-b', undefined],
    ['', 'Bearer', undefined],
    ['', 'Bearer ', undefined],
    ['', 'Basic abc', undefined],
    ['', 'Bearer é', undefined],
    ['', 'Bearer abc, Bearer def', undefined],
  ] as const) {
    assert.equal(presentedKey(search, header), expected, `${search} ${header}`)
  }
})

test('any key of word characters comes out as it was presented, and nothing else', () => {
  const word = fc.stringMatching(/^\w{1,64}$/)
  fc.assert(
    fc.property(word, fc.string(), (key, noise) => {
      const rest = `x${encodeURIComponent(noise)}=1`
      assert.equal(presentedKey(`?${rest}&apikey=${key}&${rest}`, `Bearer ${key}x`), key)
      assert.equal(presentedKey(`?${rest}`, `apiKEY ${key}`), key)
    }),
  )
  fc.assert(
    fc.property(fc.string(), fc.string(), (search, header) => {
      const key = presentedKey(search, header)
      assert.ok(key === undefined || key !== '')
    }),
  )
})

test('capabilities: everything by default, less by configuration, all with the device key', () => {
  const device = { ...GLOBAL, scopes: [{ type: 'global' as const }] }
  const holder = (appId: number, service: string) => ({
    appId,
    service,
    scopes: [{ type: 'app' as const, appId }],
  })
  const main = holder(101, 'main')
  const open = v.parse(CapabilitiesConfig, {})
  for (const capability of CAPABILITIES) assert.equal(mayUse(main, capability, open), true)

  const config = v.parse(CapabilitiesConfig, {
    all: ['device:read'],
    services: { 101: ['logs'], '101/main': ['device:power'] },
  })
  const allowed = (who: typeof main) => CAPABILITIES.filter((name) => mayUse(who, name, config))
  assert.deepEqual(allowed(main), ['device:power'])
  assert.deepEqual(allowed(holder(101, 'side')), ['logs'])
  assert.deepEqual(allowed(holder(102, 'main')), ['device:read'])
  assert.deepEqual(allowed(holder(102, 'constructor')), ['device:read'])
  for (const capability of CAPABILITIES) assert.equal(mayUse(device, capability, config), true)

  for (const bad of [{ all: ['device:fly'] }, { services: { main: [] } }, { more: 1 }]) {
    assert.equal(v.safeParse(CapabilitiesConfig, bad).success, false)
  }
})
