/** What an agent measures of where its keys come from, and what it makes of what was measured. */
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { defaultAppId, nitroImageHash } from '../../src/attest/identity.ts'
import { ApiError } from '../../src/errors.ts'
import { certificatePem } from '../../src/x509/issue.ts'
import {
  agentHost,
  agentOf,
  BOOTED,
  closeAll,
  guest,
  identity,
  maker,
  type RunningKms,
  startKms,
  upstreamOf,
} from './kms-agent-fixtures.ts'
import { hex, keyFile, testAuthority } from './kms-fixtures.ts'
import { attesterOf } from './kms-server-fixtures.ts'

const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
after(async () => {
  await closeAll()
  rmSync(folder, { recursive: true })
})

const kms = await startKms()

/** The event of a KMS, by the public key of its certificate authority. */
const providerOf = ({ material }: RunningKms) =>
  `{"name":"kms","id":"${hex(p256Key(material.root.ca).spki)}"}`

const booted = (provider: string, more: Readonly<Record<string, string>> = {}) =>
  guest({ ...BOOTED, 'key-provider': hex(Buffer.from(provider)), ...more })

const never = async () => new Promise<void>(() => {})

describe('an agent of a KMS', () => {
  test('measures it once, before there are keys, and the KMS sees it from then on', async () => {
    const attester = guest()
    let keysWere = 0
    const { emit } = attester.runtimeEvents
    const host = agentHost(
      { upstream: upstreamOf([kms]) },
      {
        attester: {
          ...attester,
          runtimeEvents: {
            ...attester.runtimeEvents,
            emit: async (...args) => {
              keysWere = (await host.request('/GetKey')).status
              await emit(...args)
            },
          },
        },
      },
    )
    await host.start()
    await host.told(/^keys are derived/)
    assert.equal(keysWere, 503, 'nobody has a key before it is measured')
    assert.deepEqual(attester.measured, [['key-provider', providerOf(kms)]])
    assert.ok(host.messages().includes('measured the KMS as key-provider'))
    assert.equal(kms.asked.at(-1)?.keyProviderInfo, '')

    const again = await agentOf([kms], { attester })
    assert.equal(attester.measured.length, 1)
    assert.equal(
      Buffer.from(kms.asked.at(-1)?.keyProviderInfo ?? '', 'hex').toString(),
      providerOf(kms),
    )
    assert.ok(!again.messages().some((one) => one.startsWith('measured')))
  })

  test('has its keys where the boot measured this KMS, in whatever spelling', async () => {
    const measured = JSON.parse(providerOf(kms)) as { name: string; id: string }
    for (const provider of [
      providerOf(kms),
      JSON.stringify({ id: measured.id.toUpperCase(), name: 'kms' }, undefined, 2),
    ]) {
      const attester = booted(provider, { 'system-ready': '' })
      await agentOf([kms], { attester })
      assert.deepEqual(attester.measured, [])
    }
  })

  test('refuses them where the boot measured another, and says what to configure', async () => {
    const other = await startKms()
    const id = hex(p256Key(kms.material.root.ca).spki)
    for (const provider of [
      '{"name":"none","id":""}',
      '{"name":"local","id":"00"}',
      providerOf(other),
      `{"name":"kms","id":"${id}00"}`,
      `{"name":"tpm","id":"${id}"}`,
      '{"name":"kms"}',
      'null',
      'no JSON',
    ]) {
      const attester = booted(provider)
      const host = agentHost({ upstream: upstreamOf([kms]) }, { attester, tools: { pause: never } })
      await host.start()
      const told = await host.told(/^there are no keys yet/)
      const quoted = JSON.stringify(provider)
      assert.ok(told.includes(`this machine measured key-provider ${quoted}`), told)
      assert.ok(
        told.includes(`[plugins.guest] key_provider = { name = "kms", id = "${id}" }`),
        told,
      )
      assert.equal((await host.request('/GetKey')).status, 503)
      assert.deepEqual(attester.measured, [])
    }
  })

  test('asks the next KMS where only that one is what was measured', async () => {
    const other = await startKms()
    const host = await agentOf([other, kms], { attester: booted(providerOf(kms)) })
    assert.match(await host.told(/^keys are derived/), new RegExp(kms.url))
    await host.told(/^another KMS was asked: .*this machine measured key-provider/)
  })

  test('warns where it measures too late for verifiers', async () => {
    const attester = guest({ ...BOOTED, 'system-ready': '' })
    const host = await agentOf([kms], { attester })
    await host.told(/^measured the KMS as key-provider after system-ready/)
    assert.equal(attester.measured.length, 1)
  })

  test('has no keys while the machine cannot measure that should', async () => {
    const attester = guest()
    const broken = {
      ...attester,
      runtimeEvents: {
        ...attester.runtimeEvents,
        emit: async () => {
          throw new ApiError(503, 'EVENTS_OUT_OF_STEP', 'out of step')
        },
      },
    }
    const host = agentHost(
      { upstream: upstreamOf([kms]) },
      { attester: broken, tools: { pause: never } },
    )
    await host.start()
    await host.told(/^there are no keys yet, no KMS gives them: out of step$/)
    assert.equal((await host.request('/GetKey')).status, 503)
  })

  test('says so where nothing can be measured', async () => {
    const attester = guest()
    const { tdx } = attester
    assert.ok(tdx)
    const old = await agentOf([kms], {
      attester: { ...attester, tdx: { ...tdx, canExtend: false } },
    })
    await old.told(/^cannot measure the KMS as key-provider .*: its kernel shows no measurement/)
    assert.deepEqual(attester.measured, [])
  })

  test('on Nitro is known by its image, and says that nothing can be measured', async () => {
    const pcrs = new Map([0, 1, 2, 3, 4].map((at) => [at, new Uint8Array(48).fill(9)]))
    const attester = { ...attesterOf(maker.nitro(9)), platform: 'nitro', tdx: undefined } as const
    kms.appId = hex(defaultAppId(nitroImageHash(pcrs)))
    try {
      const host = await agentOf([kms], { attester })
      await host.told(/^cannot measure the KMS as key-provider .*: it has no register for that/)
      assert.equal(kms.asked.at(-1)?.teeVariant, 'dstack-nitro-enclave')
      assert.notEqual(kms.asked.at(-1)?.appId, identity.appId)
    } finally {
      kms.appId = BOOTED['app-id']
    }
  })
})

describe('keys of a file or a seed', () => {
  const authority = testAuthority()
  const key = authority.privateKey.export({ type: 'pkcs8', format: 'pem' })
  const id = hex(authority.publicKey.export({ type: 'spki', format: 'der' }))
  const fileWith = (key_provider: object) => {
    const file = join(folder, 'keys.json')
    const ca_cert = certificatePem(authority.certificate)
    writeFileSync(file, keyFile(authority, { key_provider, ca_cert }))
    chmodSync(file, 0o600)
    return { key_file: { file } }
  }
  const url = 'https://kms.example'

  for (const [what, config, provider, warns] of [
    ['a seed', {}, '{"name":"none","id":""}', false],
    ['a seed', {}, '{"name":"local","id":"00"}', false],
    ['a seed', {}, '{"name":"kms","id":"00"}', true],
    ['a file', { None: { key } }, '{"name":"none","id":""}', false],
    ['a file', { None: { key } }, '{"name":"kms","id":""}', true],
    ['a file', { Local: { key, mr: '' } }, '{"name":"local","id":"12"}', false],
    ['a file', { Tpm: { key, pubkey: '' } }, '{"name":"tpm","id":"12"}', false],
    ['a file', { Tpm: { key, pubkey: '' } }, '{"name":"local","id":"12"}', true],
    ['a file', { Kms: { url } }, `{"name":"kms","id":"${id}"}`, false],
    ['a file', { Kms: { url } }, '{"name":"kms","id":"00"}', true],
    ['a file', { Kms: { url } }, '{"name":"none","id":""}', true],
  ] as const) {
    const kind = Object.keys(config).join()
    test(`of ${what} ${kind} serve, ${warns ? 'with a warning' : 'in silence'}: ${provider.slice(0, 24)}`, async () => {
      const attester = booted(provider)
      const host = agentHost(what === 'a seed' ? {} : fileWith(config), { attester })
      await host.start()
      assert.equal((await host.request('/GetKey')).status, 200)
      const warnings = host.messages().filter((one) => one.includes('measured key-provider'))
      assert.equal(warnings.length, warns ? 1 : 0, warnings.join())
      assert.deepEqual(attester.measured, [])
    })
  }

  test('serve in silence where nothing was measured', async () => {
    const attester = guest()
    const host = agentHost(fileWith({ Kms: { url } }), { attester })
    await host.start()
    assert.equal(host.messages().length, 1)
    assert.deepEqual(attester.measured, [])
  })
})
