/** An agent whose keys come from a KMS, which is there on real sockets, or is not. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import * as v from 'valibot'
import { agentPermissions } from '../../plugins/kms/agent/config.ts'
import { Config } from '../../plugins/kms/config.ts'
import { keyV0, keyV1 } from '../../plugins/kms/derivation/app-keys.ts'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import { appRootKey, issuedClaim } from '../../plugins/kms/derivation/kms-keys.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { rootsFrom } from '../../plugins/kms/server/roots.ts'
import {
  agentHost,
  agentOf,
  BOOTED,
  closeAll,
  type KmsChanges,
  type RunningKms,
  refusalOf,
  rootFile,
  startKms,
  upstreamOf,
} from './kms-agent-fixtures.ts'
import { hex, signerOf, unhex } from './kms-fixtures.ts'

after(closeAll)

const appId = unhex(BOOTED['app-id'])
const rootKeyOf = ({ material: { root } }: RunningKms) => appRootKey(root, appId)

/** Waits between two attempts until the test lets it go on. */
function heldPause() {
  let go = () => {}
  const waits: number[] = []
  const pause = (ms: number, signal: AbortSignal) => {
    waits.push(ms)
    return new Promise<void>((resolve) => {
      go = resolve
      signal.addEventListener('abort', () => resolve())
    })
  }
  return { pause, waits, go: () => go() }
}

describe('keys from a KMS', () => {
  test('are those that it derives for the application, and its root key vouches for them', async () => {
    const kms = await startKms()
    const host = await agentOf([kms])
    const root = rootKeyOf(kms)
    const kmsKey = hex(publicKeyOf('secp256k1', kms.material.root.k256))
    const [status, answer] = await host.json('/GetKey', { path: 'a', purpose: 'p' })
    assert.equal(status, 200)
    assert.equal(answer.key, hex(keyV0(root, 'a')))
    const [link = '', issued = ''] = answer.signature_chain as string[]
    const rootKey = publicKeyOf('secp256k1', root)
    const claim = `p:${hex(publicKeyOf('secp256k1', unhex(answer.key as string)))}`
    assert.equal(signerOf(unhex(link), Buffer.from(claim)), hex(rootKey))
    assert.equal(signerOf(unhex(issued), issuedClaim(appId, rootKey)), kmsKey)
    const [, v1] = await host.json('/v1/GetKey', { domain: 'a', algorithm: 'ed25519' })
    assert.equal(v1.key, hex(keyV1(root, 'a', 'ed25519')))
    assert.equal((v1.signature_chain as string[])[1], issued)

    const [, signed] = await host.json('/Sign', { algorithm: 'ed25519', data: '00' })
    assert.equal((signed.signature_chain as string[])[2], issued)
    const { signature, public_key } = signed
    const verify = { algorithm: 'ed25519', data: '00', signature, public_key }
    assert.deepEqual(await host.json('/Verify', verify), [200, { valid: true }])

    assert.equal(host.notReady(), undefined)
    const from = `the root key that the KMS at "${kms.url}" gave, whose own is ${kmsKey}`
    assert.ok(host.messages().includes(`keys are derived from ${from}`))
    assert.equal(kms.called.filter((method) => method === 'GetAppKey').length, 1)
  })

  test('of a chosen version stay the same when the KMS rotates its own', async () => {
    const materials = [0, 1].map((version) =>
      createMaterial(randomRootKeys(version), '127.0.0.1', undefined),
    )
    const [first, second] = materials
    assert.ok(first && second)
    const shared = { ...second, temporaryCa: first.temporaryCa }
    const roots = rootsFrom([first, shared], 1)
    const kms = await startKms({ material: shared, kms: { roots } })
    for (const [root_version, { root }] of [
      [0, first],
      [1, second],
      [undefined, second],
    ] as const) {
      const upstream = { urls: [kms.url], root_ca: rootFile(first, second), root_version }
      const host = agentHost({ upstream })
      await host.start()
      await host.told(/^keys are derived from/)
      const [, { key }] = await host.json('/GetKey', { path: 'a' })
      assert.equal(key, hex(keyV0(appRootKey(root, appId), 'a')))
    }
  })

  test('are nowhere but in the answers', async () => {
    const kms = await startKms()
    const host = await agentOf([kms])
    const [, { key }] = await host.json('/GetKey', { path: 'a' })
    const told = `${await host.metrics.render()}${host.messages().join('\n')}`
    for (const secret of [hex(rootKeyOf(kms)), key as string]) assert.ok(!told.includes(secret))
  })
})

describe('without a KMS that gives keys', () => {
  test('the plugin starts, says why, and has them as soon as one does', async () => {
    const kms = await startKms()
    const { material, port } = kms
    await kms.close()
    const { pause, waits, go } = heldPause()
    const host = agentHost({ upstream: upstreamOf([kms]) }, { tools: { pause } })
    await host.start()
    await host.told(/^there are no keys yet, no KMS gives them: .*127\.0\.0\.1/)
    assert.match(host.notReady() ?? '', /^no KMS gives them: .*127\.0\.0\.1/)
    for (const [path, body] of [
      ['/GetKey', {}],
      ['/v1/GetKey', { algorithm: 'ed25519' }],
      ['/GetTlsKey', {}],
      ['/Sign', { algorithm: 'ed25519' }],
      ['/prpc/Tappd.DeriveKey', {}],
      ['/prpc/Tappd.DeriveK256Key', {}],
    ] as const) {
      const answer = await host.request(path, { method: 'POST', body: JSON.stringify(body) })
      const { code, error } = (await answer.json()) as Record<string, string>
      assert.deepEqual([answer.status, code], [503, 'KMS_UNAVAILABLE'], path)
      assert.match(error ?? '', /^Cannot use keys: no KMS gives them: /)
      const seconds = Number(answer.headers.get('retry-after'))
      assert.ok(seconds >= 1 && seconds <= 60, String(seconds))
    }
    // What needs no key works.
    const verify = { algorithm: 'ed25519', public_key: '00', signature: '00' }
    assert.equal((await refusalOf(host.json('/Verify', verify)))[1], 'PUBLIC_KEY_MALFORMED')

    const again = await startKms({ material, port })
    go()
    await host.told(/^keys are derived from/)
    assert.equal(host.notReady(), undefined)
    const [, { key }] = await host.json('/GetKey', { path: 'a' })
    assert.equal(key, hex(keyV0(rootKeyOf(again), 'a')))
    assert.equal(waits.length, 1)
  })

  test('says the same reason once, and stops asking when it is stopped', async () => {
    const kms = await startKms()
    kms.allowed = false
    const { pause, waits, go } = heldPause()
    const host = agentHost({ upstream: upstreamOf([kms]) }, { tools: { pause } })
    await host.start()
    await host.told(/^there are no keys yet, .*app not registered.*\(MEASUREMENT_NOT_FOUND\)$/)
    const attempts = () => kms.called.filter((method) => method === 'GetAppKey').length
    for (let attempt = 1; attempt <= 3; attempt++) {
      while (waits.length < attempt) await new Promise((tick) => setTimeout(tick, 1))
      assert.equal(attempts(), attempt)
      if (attempt < 3) go()
    }
    assert.equal(host.messages().filter((one) => one.startsWith('there are no keys')).length, 1)
    await host.stop()
    assert.equal(attempts(), 3)
    assert.equal((await host.request('/GetKey')).status, 500)
  })

  test('asks the others of the cluster, in their order', async () => {
    const material = createMaterial(randomRootKeys(), '127.0.0.1', undefined)
    const [away, slow, refusing, good, last] = await Promise.all(
      Array.from({ length: 5 }, () => startKms({ material })),
    )
    assert.ok(away && slow && refusing && good && last)
    await away.close()
    slow.change = {
      before: (method) => (method === 'GetAppKey' ? new Promise(() => {}) : undefined),
    }
    refusing.allowed = false
    const upstream = { deadline_ms: 2000 }
    const host = await agentOf([away, slow, refusing, good, last], { upstream })
    assert.match(await host.told(/^keys are derived/), new RegExp(`"${good.url}"`))
    for (const [kms, why] of [
      [away, 'ECONNREFUSED'],
      [slow, 'not done in 2000 ms'],
      [refusing, 'app not registered'],
    ] as const) {
      const told = host.messages().filter((one) => one.startsWith('another KMS was asked: '))
      assert.equal(told.filter((one) => one.includes(kms.url) && one.includes(why)).length, 1)
    }
    assert.deepEqual(last.called, [])
  })

  test('that has another root than is configured', async () => {
    const [kms, other] = [await startKms(), await startKms()]
    const { pause } = heldPause()
    const upstream = { urls: [kms.url], root_ca: rootFile(other.material) }
    const host = agentHost({ upstream }, { tools: { pause } })
    await host.start()
    await host.told(/^there are no keys yet, no KMS gives them: .*root/)
    assert.deepEqual(kms.called, [], 'nothing was asked of it')
  })
})

describe('an answer that is not what it should be', async () => {
  const kms = await startKms()
  const other = await startKms()
  const isAppKey = (work: (answer: Record<string, unknown>) => unknown): KmsChanges => ({
    after: (method, answer) => (method === 'GetAppKey' ? work(answer) : undefined),
  })
  const having = (member: object) => isAppKey((answer) => ({ ...answer, ...member }))
  const without = (name: string) => isAppKey(({ [name]: _, ...rest }) => rest)

  for (const [change, expected] of [
    [without('ca_cert'), 'ca_cert is no certificate'],
    [having({ ca_cert: 'x' }), 'ca_cert is no certificate'],
    [
      having({ ca_cert: other.material.authority.chain[0] }),
      'ca_cert is none of the root certificates',
    ],
    [without('disk_crypt_key'), 'disk_crypt_key is of 0 bytes, expected 32'],
    [having({ env_crypt_key: '00' }), 'env_crypt_key is of 1 bytes, expected 32'],
    [having({ env_crypt_key: 'zz' }), 'env_crypt_key is not hex'],
    [without('k256_key'), 'k256_key is of 0 bytes, expected 32'],
    [having({ k256_key: '00'.repeat(32) }), 'k256_key is no secp256k1 key'],
    [having({ k256_key: 'ff'.repeat(32) }), 'k256_key is no secp256k1 key'],
    [having({ k256_key: ['00'] }), 'k256_key is not hex'],
    [having({ k256_key: '01'.repeat(32) }), 'k256_signature is not by its root key'],
    [without('k256_signature'), 'k256_signature is of 0 bytes, expected 65'],
    [having({ k256_signature: '00'.repeat(65) }), 'k256_signature is no signature over the key'],
    [having({ gateway_app_id: 1 }), 'gateway_app_id is no short text'],
    [having({ os_image_hash: '00' }), 'os_image_hash is of 1 bytes'],
    [having({ root_version: '0' }), 'root_version is no number of a version'],
    [isAppKey(() => []), 'it is no JSON object'],
  ] as const) {
    test(`is refused: ${expected}`, async () => {
      kms.change = change
      const { pause, go } = heldPause()
      const host = agentHost({ upstream: upstreamOf([kms]) }, { tools: { pause } })
      await host.start()
      const text = await host.told(/^there are no keys yet/)
      assert.ok(text.includes(expected), text)
      assert.ok(!text.includes(hex(rootKeyOf(kms))))
      assert.equal((await refusalOf(host.json('/GetKey')))[1], 'KMS_UNAVAILABLE')
      kms.change = {}
      go()
      await host.told(/^keys are derived/)
    })
  }

  test('is one without a word of itself, as of a KMS whose contract is away', async () => {
    kms.change = {
      before: (method) =>
        method === 'GetMeta' ? Response.json({ error: 'no contract' }, { status: 400 }) : undefined,
    }
    await agentOf([kms])
    kms.change = {}
  })
})

describe('the configuration', () => {
  const parse = (upstream: object) => v.safeParse(Config, { upstream })

  test('has URLs in which nothing secret can be', () => {
    const root_ca = '/etc/root.pem'
    for (const [url, expected] of [
      ['https://kms.example:12001', true],
      ['https://kms.example/prpc', true],
      ['https://[2001:db8::1]:12001', true],
      ['http://kms.example', false],
      ['https://user:secret@kms.example', false],
      ['https://token@kms.example', false],
      ['https://kms.example?token=1', false],
      ['https://kms.example/#', false],
      ['kms.example:12001', false],
      ['', false],
    ] as const) {
      assert.equal(parse({ urls: [url], root_ca }).success, expected, url)
    }
    for (const urls of [[], Array(17).fill('https://kms.example')]) {
      assert.equal(parse({ urls, root_ca }).success, false)
    }
  })

  test('tells what is touched', () => {
    const upstream = {
      urls: ['https://kms.example:12001/prpc', 'https://[::1]'],
      root_ca: '/etc/root.pem',
      deadline_ms: 1000,
    }
    assert.deepEqual(agentPermissions({ upstream }), {
      read: ['/etc/root.pem'],
      net: ['kms.example:12001', '[::1]:443'],
    })
    assert.deepEqual(agentPermissions({ key_file: { file: '/k' } }), { read: ['/k'] })
    assert.deepEqual(agentPermissions({}), {})
  })

  test('names a root that cannot be read, and the plugin does not start', async () => {
    const kms = await startKms()
    for (const [root_ca, expected] of [
      ['/nowhere/root.pem', /Cannot read "\/nowhere\/root\.pem": ENOENT/],
      [import.meta.filename, /no CERTIFICATE block/],
    ] as const) {
      const host = agentHost({ upstream: { urls: [kms.url], root_ca } })
      await assert.rejects(host.start(), expected)
    }
  })
})
