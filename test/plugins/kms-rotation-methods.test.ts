/** What a KMS with several versions of root keys answers, and which of them. */
import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { describe, test } from 'node:test'
import { keyV0 } from '../../plugins/kms/derivation/app-keys.ts'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import {
  appRootKey,
  diskKey,
  envKey,
  envKeyClaim,
  envPublicKey,
  issuedClaim,
  type RootKeys,
} from '../../plugins/kms/derivation/kms-keys.ts'
import { deny, type Policy } from '../../plugins/kms/policy/policy.ts'
import { DerivedKeys } from '../../plugins/kms/server/derived-keys.ts'
import { getAppKey, getKey, getKmsKey } from '../../plugins/kms/server/key-methods.ts'
import {
  getAppEnvEncryptPubKey,
  getMeta,
  getTempCaCert,
  type Kms,
} from '../../plugins/kms/server/public-methods.ts'
import {
  createMaterial,
  randomRootKeys,
  rootAuthority,
} from '../../plugins/kms/server/root-material.ts'
import { clearRoots, type Roots, rootsFrom } from '../../plugins/kms/server/roots.ts'
import { kmsRoutes } from '../../plugins/kms/server/routes.ts'
import { ApiError } from '../../src/errors.ts'
import { hex, signerOf, unhex } from './kms-fixtures.ts'
import { BOOT_INFO } from './kms-policy-fixtures.ts'

const keys = [0, 1, 2].map((version) => randomRootKeys(version))
const appId = new Uint8Array(unhex(BOOT_INFO.appId))
const instanceId = unhex(BOOT_INFO.instanceId)
const asked: string[] = []

/** A copy, which may be overwritten. */
function roots(current = 1): Roots {
  const materials = keys.map(({ version, ca, k256 }) =>
    createMaterial(
      { version, ca: Uint8Array.from(ca), k256: Uint8Array.from(k256) },
      'kms.example',
      undefined,
    ),
  )
  return rootsFrom(materials, current)
}

const allowed: Policy = {
  app: async () => {
    asked.push('app')
    return { allowed: true, gatewayAppId: '' }
  },
  kms: async () => ({ allowed: true, gatewayAppId: '' }),
  describe: async () => ({ isDev: false }),
}

const three = roots()
const kms: Kms = {
  roots: three,
  policy: allowed,
  trust: { collateral: async () => undefined },
  self: undefined,
  now: () => 1_800_000_000_000,
}

const certificateOf = (version: number, of = three): string =>
  of.materialOf(version)?.authority.chain[0] ?? ''
const publicKeys = keys.map(({ k256 }) => hex(publicKeyOf('secp256k1', k256)))
const APP_KEY = { api_version: 1, vm_config: '' }

/** What an application gets, as it follows from root keys. */
const derived = (root: RootKeys) => ({
  disk_crypt_key: hex(diskKey(root, appId, instanceId)),
  env_crypt_key: hex(envKey(root, appId)),
  k256_key: hex(appRootKey(root, appId)),
})

/** That the members are these; there may be more. */
function assertHas(found: object, expected: object): void {
  assert.deepEqual({ ...found, ...expected }, found)
}

function assertOfVersion(answer: object, version: number, of = three): void {
  const root = keys[version] as RootKeys
  const { k256_signature = '', ...found } = answer as Record<string, string>
  assertHas(found, {
    ca_cert: certificateOf(version, of),
    ...derived(root),
    root_version: version,
  })
  const claim = issuedClaim(appId, publicKeyOf('secp256k1', unhex(found.k256_key ?? '')))
  assert.equal(signerOf(unhex(k256_signature), claim), publicKeys[version])
}

async function refused(work: Promise<unknown>): Promise<readonly unknown[]> {
  try {
    await work
  } catch (error) {
    const { name, status, code, message } = error as Error & Record<string, unknown>
    assert.equal(name, 'ApiError', String(error))
    return [status, code, message]
  }
  return assert.fail('it was answered')
}

describe('a KMS with three versions of root keys', () => {
  test('answers the current one to who names none, and each to who names it', async () => {
    assertOfVersion(await getAppKey(kms, BOOT_INFO, APP_KEY), 1)
    for (const root_version of [0, 1, 2]) {
      assertOfVersion(await getAppKey(kms, BOOT_INFO, { ...APP_KEY, root_version }), root_version)
    }
    assert.equal(new Set(keys.flatMap((root) => Object.values(derived(root)))).size, 9)
  })

  test('gives the keys of names by version', async () => {
    const key = async (root_version?: number) =>
      hex(await getKey(kms, BOOT_INFO, { name: 'a', root_version }))
    const expected = keys.map((root) => hex(keyV0(appRootKey(root, appId), 'a')))
    assert.deepEqual(await Promise.all([0, 1, 2].map(key)), expected)
    assert.equal(await key(), expected[1])
  })

  test('signs environment keys by the key of their version', async () => {
    for (const root_version of [undefined, 0, 1, 2]) {
      const version = root_version ?? 1
      const answer = await getAppEnvEncryptPubKey(kms, { app_id: appId, root_version })
      const found = answer as Record<string, string> & { timestamp: number; root_version: number }
      const publicKey = envPublicKey(keys[version] as RootKeys, appId)
      assert.deepEqual([found.public_key, found.root_version], [hex(publicKey), version])
      const signed = [
        [found.signature, envKeyClaim(appId, publicKey)],
        [found.signature_v1, envKeyClaim(appId, publicKey, found.timestamp)],
      ] as const
      for (const [signature = '', claim] of signed) {
        assert.equal(signerOf(unhex(signature), claim), publicKeys[version])
      }
    }
  })

  test('shows itself with the root of the current one, and says which there are', async () => {
    const meta = (await getMeta(kms)) as Record<string, unknown>
    assertHas(meta, {
      ca_cert: certificateOf(1),
      k256_pubkey: publicKeys[1],
      bootstrap_info: null,
      root_version: 1,
      root_versions: [0, 1, 2],
    })
    const temporary = (await getTempCaCert(kms)) as Record<string, string>
    assert.equal(temporary.ca_cert, certificateOf(1))
    assert.equal(temporary.temp_ca_cert, three.of(0) && three.current.temporaryCa.certificate)
  })

  test('gives another KMS all of them, each in the place of its number', async () => {
    const answer = (await getKmsKey(kms, BOOT_INFO)) as {
      keys: { ca_key: string; k256_key: string }[]
      root_version: number
    }
    assert.equal(answer.root_version, 1)
    assert.deepEqual(
      answer.keys.map(({ k256_key }) => k256_key),
      keys.map(({ k256 }) => hex(k256)),
    )
    for (const [version, { ca_key }] of answer.keys.entries()) {
      const certificate = new X509Certificate(certificateOf(version))
      assert.ok(certificate.checkPrivateKey(createPrivateKey(ca_key)))
    }
  })

  test('knows no other version, and asks nobody about it', async () => {
    asked.length = 0
    for (const root_version of [3, 99, 1e15]) {
      const text = `Unknown root version: ${root_version}; there are 0, 1, 2`
      for (const ask of [
        () => getAppKey(kms, BOOT_INFO, { ...APP_KEY, root_version }),
        () => getKey(kms, BOOT_INFO, { name: 'a', root_version }),
        () => getAppEnvEncryptPubKey(kms, { app_id: appId, root_version }),
      ]) {
        assert.deepEqual(await refused(ask()), [400, 'INVALID_REQUEST', text])
      }
    }
    assert.deepEqual(asked, [])
  })
})

describe('by HTTP', () => {
  const released: string[] = []
  const app = kmsRoutes({
    kms,
    requests: { inc: () => undefined },
    onRefused: () => undefined,
    onReleased: (method, to, version) => released.push(`${method} ${to.appId} ${version ?? ''}`),
  })
  const verified = { boot: BOOT_INFO, bootTime: BOOT_INFO }
  const env = { peer: async () => verified, spend: () => undefined }
  const ask = async (path: string, body?: string) => {
    const init = body === undefined ? {} : { method: 'POST', body }
    const response = await app.request(path, init, env)
    return [response.status, (await response.json()) as Record<string, unknown>] as const
  }

  test('the version is a number in the query or the body', async () => {
    for (const [path, body, version] of [
      ['/prpc/KMS.GetAppKey?root_version=2', undefined, 2],
      ['/prpc/GetAppKey', '{"root_version":0}', 0],
      ['/prpc/GetAppKey', '{"root_version":null}', 1],
      ['/prpc/GetAppKey', '', 1],
    ] as const) {
      const [status, answer] = await ask(path, body)
      assert.equal(status, 200, JSON.stringify(answer))
      assertOfVersion(answer, version)
    }
    const [, key] = await ask('/prpc/GetKey?json&name=a&root_version=0')
    assert.equal(key.key, hex(keyV0(appRootKey(keys[0] as RootKeys, appId), 'a')))
    for (const wrong of ['-1', '1.5', '"0"', '[0]', 'true', '7']) {
      const [status, answer] = await ask('/prpc/GetAppKey', `{"root_version":${wrong}}`)
      assert.deepEqual([status, answer.code], [400, 'INVALID_REQUEST'], wrong)
    }
    for (const wrong of ['', 'x', '-1', '01x']) {
      const [status] = await ask(`/prpc/GetAppKey?root_version=${wrong}`)
      assert.equal(status, 400, wrong)
    }
  })

  test('what strangers may ask is paid for where it is costly', async () => {
    const broke = {
      ...env,
      spend: () => {
        throw new ApiError(429, 'RATE_LIMITED', 'Ask later')
      },
    }
    const status = async (path: string) => (await app.request(path, {}, broke)).status
    const id = `app_id=${BOOT_INFO.appId}`
    assert.equal(await status(`/prpc/GetAppEnvEncryptPubKey?${id}`), 429)
    assert.equal(await status('/prpc/SignCert?api_version=2'), 429)
    for (const path of ['/prpc/GetMeta', '/prpc/GetTempCaCert', '/prpc/GetAppKey', '/health']) {
      assert.equal(await status(path), 200, path)
    }
    assert.equal((await ask(`/prpc/GetAppEnvEncryptPubKey?${id}`))[0], 200)
  })

  test('it is told to whom something was given, and only then', async () => {
    released.length = 0
    await ask('/prpc/GetAppKey', '{}')
    await ask('/prpc/GetKmsKey', '{}')
    await ask('/prpc/GetKey?json', '{}')
    const given = ['GetAppKey', 'GetKmsKey', 'GetKey'].map((name) => `${name} ${BOOT_INFO.appId} `)
    assert.deepEqual(released, given)
    await ask('/prpc/GetAppKey', '{"api_version":7}')
    await ask('/prpc/GetMeta', '{}')
    assert.deepEqual(released, given)
    // Which version it was, where it is not the one in use.
    await ask('/prpc/GetAppKey', '{"root_version":1}')
    await ask('/prpc/GetAppKey', '{"root_version":0}')
    await ask('/prpc/GetKey?json', '{"root_version":2}')
    const named = ['GetAppKey', 'GetAppKey', 'GetKey'].map((name) => `${name} ${BOOT_INFO.appId}`)
    assert.deepEqual(
      released.slice(given.length),
      named.map((name, i) => `${name} ${['', 0, 2][i]}`),
    )
  })
})

describe('a rotation while the policy is asked', () => {
  /** Overwrites the roots there were and answers with those of another version from then on. */
  function rotating(next: Roots): Kms {
    let now = roots(0)
    const policy: Policy = {
      ...allowed,
      app: async () => {
        clearRoots(now)
        now = next
        return { allowed: true, gatewayAppId: '' }
      },
    }
    return {
      ...kms,
      get roots() {
        return now
      },
      policy,
    }
  }

  test('shows in the answer', async () => {
    const next = roots(2)
    assertOfVersion(await getAppKey(rotating(next), BOOT_INFO, APP_KEY), 2, next)
    const named = await getAppKey(rotating(next), BOOT_INFO, { ...APP_KEY, root_version: 0 })
    assertOfVersion(named, 0, next)
    const key = await getKey(rotating(next), BOOT_INFO, { name: 'a' })
    assert.equal(hex(key), hex(keyV0(appRootKey(keys[2] as RootKeys, appId), 'a')))
  })

  test('that leaves nothing gives nothing', async () => {
    const gone = roots()
    clearRoots(gone)
    await assert.rejects(getAppKey(rotating(gone), BOOT_INFO, APP_KEY), /not held any more/)
    await assert.rejects(getKey(rotating(gone), BOOT_INFO, { name: 'a' }), /not held any more/)
  })
})

describe('kept keys', () => {
  const other = new Uint8Array(20).fill(9)

  test('answer the same, by version, application and instance', async () => {
    const keeping: Kms = { ...kms, derived: new DerivedKeys() }
    const peers = [BOOT_INFO, { ...BOOT_INFO, instanceId: '' }, { ...BOOT_INFO, appId: hex(other) }]
    for (const peer of [...peers, ...peers]) {
      for (const root_version of [0, 1, 2, undefined]) {
        const args = { ...APP_KEY, root_version }
        assert.deepEqual(await getAppKey(keeping, peer, args), await getAppKey(kms, peer, args))
      }
    }
  })

  test('are given only as long as the policy says so', async () => {
    const derivedKeys = new DerivedKeys()
    await getAppKey({ ...kms, derived: derivedKeys }, BOOT_INFO, APP_KEY)
    const denying = { ...allowed, app: async () => deny('compose hash not allowed') }
    const denied = getAppKey({ ...kms, derived: derivedKeys, policy: denying }, BOOT_INFO, APP_KEY)
    assert.deepEqual((await refused(denied)).slice(0, 2), [403, 'MEASUREMENT_NOT_FOUND'])
  })

  test('are not derived again, and are overwritten when they go', () => {
    const root = { ...(keys[0] as RootKeys), k256: Uint8Array.from(keys[0]?.k256 ?? []) }
    const kept = new DerivedKeys(2)
    const take = (id: Uint8Array) =>
      kept.app(root, id, (found) => ({ bytes: [found.root, found.env], text: hex(found.root) }))
    const first = take(appId)
    assert.equal(first.text, hex(appRootKey(root, appId)))
    const disk = kept.disk(root, appId, instanceId, (key) => key)
    root.k256.fill(0)
    assert.equal(take(appId).text, first.text, 'it is not derived again')
    assert.throws(() => take(other), /not held any more/)
    root.k256.set(keys[0]?.k256 ?? [])
    const second = take(other)
    take(appId)
    take(new Uint8Array(20).fill(8))
    const overwritten = (found: readonly Uint8Array[]) =>
      found.every((bytes) => bytes.every((byte) => byte === 0))
    assert.ok(overwritten(second.bytes), 'the one that was used longest ago')
    assert.ok(!overwritten(first.bytes))
    kept.clear()
    assert.ok(overwritten([...first.bytes, disk]))
    assert.equal(take(appId).text, first.text)
  })

  test('can be none', () => {
    const none = new DerivedKeys(0)
    const root = keys[0] as RootKeys
    const [bytes, text] = none.app(root, appId, (found) => [found.root, hex(found.root)] as const)
    assert.equal(text, hex(appRootKey(root, appId)))
    assert.ok(bytes.every((byte) => byte === 0))
    const failed = new ApiError(500, 'X', 'x')
    assert.throws(() => {
      none.disk(root, appId, instanceId, () => {
        throw failed
      })
    }, failed)
  })

  test('an authority signs with the same key as before, below the root of today', () => {
    const kept = new DerivedKeys(1)
    const material = three.current
    const renewed = { ...material, authority: rootAuthority(material.root) }
    assert.equal(kept.authority(material, appId).chain[1], material.authority.chain[0])
    assert.equal(kept.authority(renewed, appId).chain[1], renewed.authority.chain[0])
    const authority = kept.authority(material, appId)
    assert.equal(kept.authority(material, appId), authority)
    assert.notEqual(kept.authority(material, other), authority)
    const again = kept.authority(material, appId)
    const spki = ({ chain }: typeof again) => new X509Certificate(chain[0] ?? '').publicKey
    assert.ok(spki(again).equals(spki(authority)))
  })
})
