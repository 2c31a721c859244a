/** What a KMS answers, to whom, and what it says to others. */
import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { describe, test } from 'node:test'
import * as sdk from '@phala/dstack-sdk'
import { keyV0 } from '../../plugins/kms/derivation/app-keys.ts'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import { appRootKey, diskKey, envKey, envPublicKey } from '../../plugins/kms/derivation/kms-keys.ts'
import type { BootInfo } from '../../plugins/kms/policy/boot-info.ts'
import { devPolicy } from '../../plugins/kms/policy/dev.ts'
import {
  type Decision,
  deny,
  type Policy,
  PolicyError,
  type Role,
} from '../../plugins/kms/policy/policy.ts'
import { getAppKey, getKey, getKmsKey } from '../../plugins/kms/server/key-methods.ts'
import {
  getAppEnvEncryptPubKey,
  getMeta,
  getTempCaCert,
  type Kms,
} from '../../plugins/kms/server/public-methods.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { hex, signerOf, unhex } from './kms-fixtures.ts'
import { BOOT_INFO } from './kms-policy-fixtures.ts'
import { derOf, rootsOf } from './kms-server-fixtures.ts'

const NOW = 1_800_000_000_999
const root = randomRootKeys()
const kmsPublicKey = hex(publicKeyOf('secp256k1', root.k256))
const plain = createMaterial(root, 'kms.example', undefined)
const info = {
  caPublicKey: new Uint8Array(
    new X509Certificate(plain.authority.chain[0] ?? '').publicKey.export({
      type: 'spki',
      format: 'der',
    }),
  ),
  k256PublicKey: unhex(kmsPublicKey),
  attestation: Uint8Array.of(7),
}

const kmsWith = (policy: Policy, parts: Partial<Kms> = {}): Kms => {
  const trust = { collateral: async () => undefined }
  const roots = rootsOf({ ...plain, info })
  return { roots, policy, trust, self: undefined, now: () => NOW, ...parts }
}

/** A policy that answers the same each time, and remembers what it was asked. */
function policyOf(decision: Decision | Error): Policy & { readonly asked: [Role, BootInfo][] } {
  const asked: [Role, BootInfo][] = []
  const decide = (role: Role) => async (about: BootInfo) => {
    asked.push([role, about])
    if (decision instanceof Error) throw decision
    return decision
  }
  const describe = async () => {
    if (decision instanceof Error) throw decision
    return { isDev: false, gatewayAppId: 'gw', chainId: 5 }
  }
  return { asked, app: decide('app'), kms: decide('kms'), describe }
}

const fine: Decision = { allowed: true, gatewayAppId: 'gateway' }
const broken = new PolicyError('POLICY_UNREACHABLE', 'auth api http://secret.example is away')
const appId = new Uint8Array(Buffer.from(BOOT_INFO.appId, 'hex'))

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

describe('GetAppKey', () => {
  test('gives an application its keys, in the members of dstack', async () => {
    const policy = policyOf(fine)
    for (const api_version of [0, 1]) {
      const args = { api_version, vm_config: '{"os_image_hash":"ff"}' }
      const answer = await getAppKey(kmsWith(policy), BOOT_INFO, args)
      const { k256_signature, ...rest } = answer as Record<string, string>
      const key = appRootKey(root, appId)
      assert.deepEqual(Object.entries({ ...rest }), [
        ['ca_cert', plain.authority.chain[0]],
        ['disk_crypt_key', hex(diskKey(root, appId, unhex(BOOT_INFO.instanceId)))],
        ['env_crypt_key', hex(envKey(root, appId))],
        ['k256_key', hex(key)],
        ['tproxy_app_id', 'gateway'],
        ['gateway_app_id', 'gateway'],
        ['os_image_hash', BOOT_INFO.osImageHash],
        ['root_version', 0],
      ])
      assert.equal(Object.keys(answer)[4], 'k256_signature')
      const claim = [Buffer.from('dstack-kms-issued:'), appId, publicKeyOf('secp256k1', key)]
      assert.equal(signerOf(unhex(k256_signature ?? ''), Buffer.concat(claim)), kmsPublicKey)
    }
    assert.deepEqual(policy.asked, [
      ['app', BOOT_INFO],
      ['app', BOOT_INFO],
    ])
  })

  test('gives instances disks of their own, and one to those without an instance', async () => {
    const args = { api_version: 1, vm_config: '' }
    const ask = async (instanceId: string) => {
      const answer = await getAppKey(kmsWith(policyOf(fine)), { ...BOOT_INFO, instanceId }, args)
      return answer as Record<string, string>
    }
    const answers = [await ask('01'.repeat(20)), await ask('02'.repeat(20)), await ask('')]
    assert.equal(new Set(answers.map((answer) => answer.disk_crypt_key)).size, 3)
    assert.equal(new Set(answers.map((answer) => answer.k256_key)).size, 1)
  })

  test('refuses versions there are not, before anybody is asked', async () => {
    const policy = policyOf(fine)
    const args = { api_version: 2, vm_config: '' }
    assert.deepEqual(await refused(getAppKey(kmsWith(policy), BOOT_INFO, args)), [
      400,
      'INVALID_REQUEST',
      'Unsupported API version: 2',
    ])
    assert.deepEqual(policy.asked, [])
  })
})

describe('GetKmsKey', () => {
  test('gives a KMS the root keys', async () => {
    const policy = policyOf(fine)
    const answer = await getKmsKey(kmsWith(policy), BOOT_INFO)
    assert.deepEqual(Object.keys(answer), ['temp_ca_key', 'keys', 'root_version'])
    const { temp_ca_key, keys } = answer as { temp_ca_key: string; keys: Record<string, string>[] }
    assert.equal(temp_ca_key, plain.temporaryCa.key.pem)
    assert.deepEqual(keys.map(Object.keys), [['ca_key', 'k256_key']])
    assert.equal(keys[0]?.k256_key, hex(root.k256))
    const certificate = new X509Certificate(plain.authority.chain[0] ?? '')
    assert.ok(certificate.checkPrivateKey(createPrivateKey(keys[0]?.ca_key ?? '')))
    assert.deepEqual(policy.asked, [['kms', BOOT_INFO]])
  })
})

describe('getKey', () => {
  test('gives the bytes that the application’s agent derives', async () => {
    for (const name of ['my-api-key', '', 'ü/☃']) {
      const key = await getKey(kmsWith(policyOf(fine)), BOOT_INFO, { name })
      assert.equal(hex(key), hex(keyV0(appRootKey(root, appId), name)))
    }
  })

  test('knows only the names that the policy lists, if it lists any', async () => {
    const kms = kmsWith(policyOf({ ...fine, keys: ['a', 'b'] }))
    assert.equal((await getKey(kms, BOOT_INFO, { name: 'b' })).length, 32)
    for (const name of ['c', '', 'a ', 'A', 'x'.repeat(1000)]) {
      const why = `No key is kept for ${JSON.stringify(name.slice(0, 64))}: the policy does not name it`
      assert.deepEqual(await refused(getKey(kms, BOOT_INFO, { name })), [404, 'KEY_NOT_FOUND', why])
    }
    const none = kmsWith(policyOf({ ...fine, keys: [] }))
    assert.equal((await refused(getKey(none, BOOT_INFO, { name: '' })))[1], 'KEY_NOT_FOUND')
  })
})

describe('keys', () => {
  const all = (kms: Kms) => ({
    GetAppKey: () => getAppKey(kms, BOOT_INFO, { api_version: 1, vm_config: '' }),
    GetKey: () => getKey(kms, BOOT_INFO, { name: 'a' }),
    GetKmsKey: () => getKmsKey(kms, BOOT_INFO),
  })

  test('are refused for the reasons of the policy, with the code that goes with them', async () => {
    for (const [reason, status, code] of [
      ['compose hash not allowed', 403, 'MEASUREMENT_NOT_FOUND'],
      ['TCB status is not allowed', 401, 'UNAUTHORIZED'],
    ] as const) {
      for (const [name, ask] of Object.entries(all(kmsWith(policyOf(deny(reason)))))) {
        const who = name === 'GetKmsKey' ? 'KMS' : 'App'
        const text = `${who} not allowed: Boot denied: ${reason}`
        assert.deepEqual(await refused(ask()), [status, code, text])
      }
    }
  })

  test('are refused when the policy does not answer, and nothing of it is repeated', async () => {
    for (const [name, ask] of Object.entries(all(kmsWith(policyOf(broken))))) {
      const text = `${name === 'GetKmsKey' ? 'KMS' : 'App'} not allowed: the policy gave no answer`
      assert.deepEqual(await refused(ask()), [500, 'INTERNAL_ERROR', text])
    }
    const fault = new TypeError('a fault of ours')
    for (const ask of Object.values(all(kmsWith(policyOf(fault))))) {
      await assert.rejects(ask(), fault)
    }
  })

  test('are not waited for by who went away', async () => {
    const waiting = (): Promise<Decision> => new Promise(() => undefined)
    const signal = AbortSignal.abort()
    const seen: (AbortSignal | undefined)[] = []
    const policy: Policy = {
      ...devPolicy(),
      app: (_info, given) => {
        seen.push(given)
        return given?.aborted ? Promise.reject(broken) : waiting()
      },
    }
    const args = { api_version: 1, vm_config: '' }
    await refused(getAppKey(kmsWith(policy), BOOT_INFO, args, signal))
    await refused(getKey(kmsWith(policy), BOOT_INFO, { name: '' }, signal))
    assert.deepEqual(seen, [signal, signal])
  })
})

describe('what anybody may ask', () => {
  test('GetMeta, with what the policy tells', async () => {
    assert.deepEqual(Object.entries(await getMeta(kmsWith(policyOf(fine)))), [
      ['ca_cert', plain.authority.chain[0]],
      ['allow_any_upgrade', false],
      ['k256_pubkey', kmsPublicKey],
      [
        'bootstrap_info',
        { ca_pubkey: hex(info.caPublicKey), k256_pubkey: kmsPublicKey, attestation: '07' },
      ],
      ['is_dev', false],
      ['gateway_app_id', 'gw'],
      ['kms_contract_address', null],
      ['chain_id', 5],
      ['app_auth_implementation', null],
      ['root_version', 0],
      ['root_versions', [0]],
    ])
    const dev = await getMeta(kmsWith(devPolicy('any'), { roots: rootsOf(plain) }))
    const { is_dev, allow_any_upgrade, bootstrap_info } = dev as Record<string, unknown>
    assert.deepEqual([is_dev, allow_any_upgrade, bootstrap_info], [true, true, null])
  })

  test('GetMeta, while the policy does not answer', async () => {
    const meta = (await getMeta(kmsWith(policyOf(broken)))) as Record<string, unknown>
    assert.deepEqual([meta.is_dev, meta.gateway_app_id], [false, null])
    assert.equal(meta.ca_cert, plain.authority.chain[0])
    await assert.rejects(getMeta(kmsWith(policyOf(new TypeError('ours')))), TypeError)
  })

  test('GetTempCaCert, whose key signs certificates that are checked with it', async () => {
    const answer = (await getTempCaCert(kmsWith(policyOf(fine)))) as Record<string, string>
    assert.deepEqual(Object.keys(answer), ['temp_ca_cert', 'temp_ca_key', 'ca_cert'])
    const certificate = new X509Certificate(derOf(answer.temp_ca_cert ?? ''))
    assert.ok(certificate.checkPrivateKey(createPrivateKey(answer.temp_ca_key ?? '')))
    assert.equal(answer.ca_cert, plain.authority.chain[0])
  })

  test('GetAppEnvEncryptPubKey, which the published client verifies', async () => {
    const kms = kmsWith(policyOf(fine))
    const answer = await getAppEnvEncryptPubKey(kms, { app_id: appId })
    assert.deepEqual(Object.keys(answer), [
      'public_key',
      'signature',
      'timestamp',
      'signature_v1',
      'root_version',
    ])
    const found = answer as Record<string, string> & { timestamp: number }
    assert.equal(found.public_key, hex(envPublicKey(root, appId)))
    assert.equal(found.timestamp, 1_800_000_000)
    const publicKey = unhex(found.public_key ?? '')
    const legacy = unhex(found.signature ?? '')
    const signature = unhex(found.signature_v1 ?? '')
    const id = BOOT_INFO.appId
    assert.equal(sdk.verifyEnvEncryptPublicKeyLegacy(publicKey, legacy, id), `0x${kmsPublicKey}`)
    const stamp = BigInt(Math.floor(Date.now() / 1000))
    const now = await getAppEnvEncryptPubKey(
      { ...kms, now: () => Number(stamp) * 1000 },
      { app_id: appId },
    )
    const fresh = unhex((now as Record<string, string>).signature_v1 ?? '')
    assert.equal(sdk.verifyEnvEncryptPublicKey(publicKey, fresh, id, stamp), `0x${kmsPublicKey}`)
    assert.notEqual(
      sdk.verifyEnvEncryptPublicKey(publicKey, signature, id, stamp),
      `0x${kmsPublicKey}`,
    )
  })

  test('GetAppEnvEncryptPubKey wants an id of 20 bytes', async () => {
    for (const length of [0, 19, 21, 1000]) {
      const args = { app_id: new Uint8Array(length) }
      assert.deepEqual(await refused(getAppEnvEncryptPubKey(kmsWith(policyOf(fine)), args)), [
        400,
        'INVALID_REQUEST',
        'app_id must be 20 bytes',
      ])
    }
  })

  test('is not answered by a KMS that may not itself, GetMeta apart', async () => {
    const self = { ...BOOT_INFO, appId: '99'.repeat(20) }
    const denied = policyOf(deny('aggregated MR not allowed'))
    const outer = 'KMS self authorization failed'
    for (const [policy, why] of [
      [denied, 'KMS is not allowed: aggregated MR not allowed'],
      [policyOf(broken), 'the policy gave no answer'],
    ] as const) {
      const kms = kmsWith(policy, { self })
      const expected = [500, 'INTERNAL_ERROR', `${outer}: ${why}`]
      assert.deepEqual(await refused(getTempCaCert(kms)), expected)
      assert.deepEqual(await refused(getAppEnvEncryptPubKey(kms, { app_id: appId })), expected)
      assert.ok(await getMeta(kms))
    }
    assert.deepEqual(denied.asked, [
      ['kms', self],
      ['kms', self],
    ])
    assert.ok(await getTempCaCert(kmsWith(policyOf(fine), { self })))
  })
})
