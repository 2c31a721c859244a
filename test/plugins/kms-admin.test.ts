/** What operators see of a KMS, and what they have it do. */
import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { countRequests } from '../../plugins/kms/admin/counts.ts'
import type { AdminParts } from '../../plugins/kms/admin/routes.ts'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import type { RootKeys } from '../../plugins/kms/derivation/kms-keys.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { createRootKeys } from '../../plugins/kms/server/root-store.ts'
import { addRootVersion, openRoots, type Roots, rootsFrom } from '../../plugins/kms/server/roots.ts'
import { testPlugin } from '../../src/conformance/suite.ts'
import { ApiError } from '../../src/errors.ts'
import { unixRequest } from '../helpers/daemon.ts'
import { serveTest } from '../helpers/http-server.ts'
import { hostPlugin } from '../helpers/plugin-host.ts'
import { adminKms } from './kms-admin-fixtures.ts'
import { hex } from './kms-fixtures.ts'

async function hosted(
  t: TestContext,
  options: { readonly bootstrapped?: boolean } = {},
  parts: Partial<AdminParts> = {},
) {
  const kms = await adminKms(options, parts)
  const host = hostPlugin(kms.plugin)
  await host.start()
  t.after(async () => {
    await host.stop()
    kms.remove()
  })
  const ask = async (path: string, body?: object | string) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const init = body === undefined ? {} : { method: 'POST', body: text }
    const response = await host.request(path, init)
    return [response.status, (await response.json()) as Record<string, unknown>] as const
  }
  return { kms, host, ask }
}

/** Another folder with the same root keys and more versions. */
async function clusterMember(t: TestContext, roots: Roots, versions: number): Promise<Roots> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const { version, ca, k256 } = roots.of(0) as RootKeys
  const copy = { version, ca: Uint8Array.from(ca), k256: Uint8Array.from(k256) }
  await createRootKeys(folder, createMaterial(copy, 'other.example', undefined))
  for (let i = 1; i < versions; i++) await addRootVersion(folder)
  return (await openRoots(folder)) as Roots
}

describe('the status of a KMS', () => {
  test('has the public parts of its root keys, by version', async (t) => {
    const { kms, ask } = await hosted(t)
    await ask('/cvmd/kms/rotate', {})
    const [status, answer] = await ask('/cvmd/kms')
    assert.equal(status, 200)
    const { versions, ...rest } = answer as { versions: Record<string, unknown>[] }
    assert.deepEqual(rest, {
      mode: 'serving',
      reason: null,
      address: '127.0.0.1:12001',
      domain: 'kms.example',
      version: 1,
      requests: [],
    })
    const roots = kms.roots() as Roots
    assert.equal(versions.length, 2)
    for (const [version, shown] of versions.entries()) {
      const { root, authority } = roots.materialOf(version) ?? assert.fail('no such version')
      const certificate = new X509Certificate(authority.chain[0] ?? '')
      const spki = certificate.publicKey.export({ type: 'spki', format: 'der' })
      assert.deepEqual(shown, {
        version,
        current: version === 1,
        k256_public_key: hex(publicKeyOf('secp256k1', root.k256)),
        ca_public_key: hex(spki),
        ca_fingerprint: createHash('sha256').update(certificate.raw).digest('hex'),
        ca_not_after: new Date(certificate.validTo).toISOString(),
        ca_cert: authority.chain[0],
      })
      const text = JSON.stringify(answer)
      for (const secret of [root.ca, root.k256]) assert.ok(!text.includes(hex(secret)))
    }
    assert.ok(!JSON.stringify(answer).includes('PRIVATE KEY'))
  })

  test('says what it waits for as long as it has none', async (t) => {
    const { ask, host } = await hosted(t, { bootstrapped: false })
    assert.deepEqual(await ask('/cvmd/kms'), [
      200,
      {
        mode: 'onboarding',
        reason: 'it has no root keys yet',
        address: '127.0.0.1:12001',
        domain: null,
        version: null,
        versions: [],
        requests: [],
      },
    ])
    for (const [path, body] of [
      ['/cvmd/kms/rotate', {}],
      ['/cvmd/kms/use', { version: 0 }],
      ['/cvmd/kms/sync', { source_url: 'https://other.example' }],
    ] as const) {
      const [status, { code }] = await ask(path, body)
      assert.deepEqual([status, code], [409, 'KMS_NOT_SET_UP'])
    }
    assert.deepEqual(host.messages(), [])
  })

  test('has the requests, by how they ended', async (t) => {
    const { kms, ask } = await hosted(t)
    const { counter } = kms.counts
    counter.inc({ method: 'GetAppKey', outcome: 'answered', reason: '' })
    counter.inc({ method: 'GetAppKey', outcome: 'UNAUTHORIZED', reason: 'TD_DEBUG' }, 2)
    counter.inc({ method: 'GetAppKey', outcome: 'answered', reason: '' })
    const [, { requests }] = await ask('/cvmd/kms')
    assert.deepEqual(requests, [
      { method: 'GetAppKey', outcome: 'answered', reason: '', count: 2 },
      { method: 'GetAppKey', outcome: 'UNAUTHORIZED', reason: 'TD_DEBUG', count: 2 },
    ])
  })
})

describe('root keys', () => {
  test('are prepared, used, and used again', async (t) => {
    const { kms, host, ask } = await hosted(t)
    assert.deepEqual(await ask('/cvmd/kms/rotate', { prepare: true }), [
      200,
      { version: 1, current: 0, versions: [0, 1] },
    ])
    assert.deepEqual(await ask('/cvmd/kms/use', { version: 1 }), [
      200,
      { current: 1, versions: [0, 1] },
    ])
    assert.deepEqual(await ask('/cvmd/kms/rotate', ''), [
      200,
      { version: 2, current: 2, versions: [0, 1, 2] },
    ])
    assert.deepEqual(await ask('/cvmd/kms/use', { version: 0 }), [
      200,
      { current: 0, versions: [0, 1, 2] },
    ])
    assert.equal((await openRoots(kms.folder))?.current.root.version, 0)
    assert.deepEqual(host.messages(), [
      'made root keys of version 1, not used yet, by anonymous',
      'root keys of version 1 are used from now on, by anonymous',
      'made root keys of version 2, used from now on, by anonymous',
      'root keys of version 0 are used from now on, by anonymous',
    ])
  })

  test('are taken from another KMS of the cluster', async (t) => {
    const { kms, host, ask } = await hosted(t)
    const other = await clusterMember(t, kms.roots() as Roots, 3)
    const asked: string[] = []
    kms.source = async (url, signal) => {
      assert.ok(signal instanceof AbortSignal)
      asked.push(url)
      return other
    }
    const source_url = 'https://user:SECRET@other.example:12001/prpc?SECRET'
    const taken = { current: 0, versions: [0, 1, 2] }
    assert.deepEqual(await ask('/cvmd/kms/sync', { source_url }), [
      200,
      { added: [1, 2], ...taken },
    ])
    assert.deepEqual(await ask('/cvmd/kms/sync', { source_url }), [200, { added: [], ...taken }])
    assert.deepEqual(asked, [source_url, source_url])
    assert.deepEqual(host.messages(), [
      'took root keys of version 1, 2 from other.example:12001, by anonymous',
      'took no new root keys from other.example:12001, by anonymous',
    ])
    assert.deepEqual(kms.roots()?.of(2), other.of(2))
  })

  test('of another cluster are refused, and so is who gives none', async (t) => {
    const { kms, host, ask } = await hosted(t)
    const source_url = 'https://other.example'
    const stranger = createMaterial(randomRootKeys(), 'x', undefined)
    kms.source = async () => rootsFrom([stranger])
    const [status, { code }] = await ask('/cvmd/kms/sync', { source_url })
    assert.deepEqual([status, code], [409, 'ROOT_VERSION_DIFFERS'])
    kms.source = async () => {
      throw new ApiError(502, 'KMS_REFUSED', 'it said SECRET')
    }
    assert.equal((await ask('/cvmd/kms/sync', { source_url }))[1].code, 'KMS_REFUSED')
    kms.source = async () => {
      throw new TypeError('a fault')
    }
    assert.equal((await ask('/cvmd/kms/sync', { source_url }))[0], 500)
    assert.deepEqual(host.messages(), [
      'cannot take root keys from another KMS: ROOT_VERSION_DIFFERS, by anonymous',
      'cannot take root keys from another KMS: KMS_REFUSED, by anonymous',
      'cannot take root keys from another KMS: INTERNAL_ERROR, by anonymous',
    ])
  })

  test('that there are not, or that cannot be read, are an error that says so', async (t) => {
    const { kms, ask } = await hosted(t)
    const [status, { code, detail }] = await ask('/cvmd/kms/use', { version: 4 })
    assert.deepEqual([status, code], [404, 'ROOT_VERSION_UNKNOWN'])
    assert.match(String(detail), /^Cannot use root version 4: there are 0$/)
    const path = join(kms.folder, 'root-ca.key')
    const before = readFileSync(path)
    writeFileSync(path, 'SECRET')
    const [broken, problem] = await ask('/cvmd/kms/rotate', {})
    assert.deepEqual([broken, problem.code], [500, 'ROOT_KEYS_UNUSABLE'])
    assert.match(String(problem.detail), /root-ca\.key/)
    assert.ok(!JSON.stringify(problem).includes('SECRET'))
    writeFileSync(path, before)
    assert.equal((await ask('/cvmd/kms/rotate', {}))[0], 200)
  })

  test('are changed by one at a time', async (t) => {
    let finish = (): void => undefined
    const waiting = new Promise<void>((resolve) => {
      finish = resolve
    })
    let begun = (): void => undefined
    const asked = new Promise<void>((resolve) => {
      begun = resolve
    })
    const use = async () => {
      begun()
      await waiting
    }
    const { ask } = await hosted(t, {}, { use })
    const first = ask('/cvmd/kms/use', { version: 0 })
    await asked
    const [status, { code, detail }] = await ask('/cvmd/kms/rotate', {})
    assert.deepEqual([status, code], [409, 'KMS_BUSY'])
    assert.match(String(detail), /somebody else wants to use root version 0$/)
    assert.equal((await ask('/cvmd/kms'))[0], 200)
    finish()
    assert.equal((await first)[0], 200)
    assert.equal((await ask('/cvmd/kms/rotate', {}))[0], 200)
  })
})

describe('the routes', () => {
  test('refuse what they do not know', async (t) => {
    const { kms, ask } = await hosted(t)
    for (const [path, bodies] of [
      ['/cvmd/kms/rotate', [{ prepare: 'yes' }, { prepared: true }, [], 1, '{']],
      [
        '/cvmd/kms/use',
        [{}, { version: -1 }, { version: 1.5 }, { version: '1' }, { version: null }],
      ],
      ['/cvmd/kms/sync', [{}, { source_url: '' }, { source_url: 'x'.repeat(3000) }, { url: 'a' }]],
    ] as const) {
      for (const body of bodies) {
        const [status, { code }] = await ask(path, typeof body === 'number' ? '1' : body)
        assert.equal(status, 400, JSON.stringify(body))
        assert.match(String(code), /^INVALID_(?:REQUEST|JSON)$/)
      }
    }
    assert.deepEqual(kms.roots()?.versions, [0])
  })

  test('ask for scopes: who may read may not change', async (t) => {
    const kms = await adminKms()
    const server = await serveTest([kms.plugin], { auth: 'key' }, { unix: true })
    t.after(async () => {
      await server.stop()
      kms.remove()
    })
    assert.ok('unix' in server.target)
    const { unix } = server.target
    let keys = 0
    const status = async (scope: string, path: string, body?: string) => {
      keys += 1
      const { token } = await server.keys.add({ name: `key ${keys}`, scopes: [scope] })
      const headers = { authorization: `Bearer ${token}` }
      const answer = await unixRequest(
        unix,
        path,
        body === undefined ? { headers } : { method: 'POST', headers, body },
      )
      return answer.status
    }
    assert.equal(await status('kms:read', '/cvmd/kms'), 200)
    assert.equal(await status('kms:rotate', '/cvmd/kms'), 403)
    assert.equal(await status('kms:read', '/cvmd/kms/rotate', '{}'), 403)
    assert.equal(await status('kms:keys', '/cvmd/kms/use', '{"version":0}'), 403)
    assert.equal(await status('kms:read', '/cvmd/kms/sync', '{"source_url":"x"}'), 403)
    assert.deepEqual(kms.roots()?.versions, [0])
    assert.equal(await status('kms:rotate', '/cvmd/kms/rotate', '{}'), 200)
    assert.equal((await unixRequest(unix, '/cvmd/kms')).status, 401)
  })

  test('keep the contract of plugins', async () => {
    const kms = await adminKms()
    const results = await testPlugin(kms.plugin, { builtin: true })
    assert.deepEqual(
      results.filter(({ ok }) => !ok),
      [],
    )
    kms.remove()
  })
})

test('what is counted stays bounded, and nothing is lost to the metrics', () => {
  let passed = 0
  const counts = countRequests({
    inc: (_labels, by = 1) => {
      passed += by
    },
  })
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.string(), fc.nat({ max: 50 }))), (kinds) => {
      for (const [outcome, by] of kinds) counts.counter.inc({ method: 'm', outcome }, by)
    }),
  )
  for (let i = 0; i < 5000; i++) counts.counter.inc({ method: 'm', outcome: `code ${i}` })
  counts.counter.inc()
  const found = counts.read()
  assert.ok(found.length <= 1001)
  assert.equal(
    found.reduce((sum, { count }) => sum + count, 0),
    passed,
  )
  assert.ok(found.some(({ method, outcome }) => method === 'other' && outcome === 'other'))
})
