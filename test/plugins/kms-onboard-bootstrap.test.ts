/** Root keys made here: with what evidence, when not, and what a crash leaves of them. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { keccak_256 } from '@noble/hashes/sha3'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import {
  type BootstrapOptions,
  bootstrap,
  bootstrapReportData,
} from '../../plugins/kms/onboarding/bootstrap.ts'
import { deny, PolicyError } from '../../plugins/kms/policy/policy.ts'
import { openRootKeys } from '../../plugins/kms/server/root-store.ts'
import { readContainer } from '../../src/attest/container.ts'
import { evidenceReportData } from '../../src/attest/ra-tls.ts'
import { NO_ATTESTER } from '../../src/attester/none.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { hex, unhex } from './kms-fixtures.ts'
import {
  FINE,
  failingSteps,
  kmsPolicy,
  refusalOf,
  temporaryFolder,
} from './kms-onboard-fixtures.ts'
import { APP_EVENTS, attesterOf, cloud, derOf } from './kms-server-fixtures.ts'

const { trust, ...machines } = cloud()
const tdx = machines.tdx()
const attester = attesterOf(tdx)

const optionsFor = (folder: string, parts: Partial<BootstrapOptions> = {}): BootstrapOptions => ({
  folder,
  domain: 'kms.example',
  attester,
  vmConfig: '{"cpu_count":1}',
  policy: kmsPolicy(FINE),
  trust,
  enforceSelf: true,
  ...parts,
})

describe('Bootstrap', () => {
  test('makes root keys, answers what is public of them, and has evidence over them', async (t) => {
    const folder = join(temporaryFolder(t), 'keys')
    const policy = kmsPolicy(FINE)
    const answer = await bootstrap(optionsFor(folder, { policy }))
    assert.deepEqual(Object.keys(answer), [
      'ca_pubkey',
      'k256_pubkey',
      'attestation',
      'publicKey',
      'measurement',
    ])
    const opened = await openRootKeys(folder)
    assert.ok(opened)
    assert.equal(opened.domain, 'kms.example')
    assert.equal(answer.k256_pubkey, hex(publicKeyOf('secp256k1', opened.root.k256)))
    assert.equal(answer.publicKey, answer.k256_pubkey)
    const root = parseCertificate(derOf(opened.authority.chain[0] ?? ''))
    assert.equal(answer.ca_pubkey, hex(root.spki))
    assert.deepEqual(opened.info && [opened.info.caPublicKey, opened.info.k256PublicKey].map(hex), [
      answer.ca_pubkey,
      answer.k256_pubkey,
    ])
    assert.equal(hex(opened.info?.attestation ?? new Uint8Array()), answer.attestation)
    assert.equal(policy.asked.length, 1)
    assert.equal(policy.asked[0]?.mrAggregated, answer.measurement)
    assert.equal(policy.asked[0]?.appId, APP_EVENTS['app-id'])

    const container = readContainer(unhex(answer.attestation))
    const expected = Buffer.from(
      `dstack-kms-genereted-keys-v1:${answer.ca_pubkey};${answer.k256_pubkey};`,
    )
    const reportData = `${hex(keccak_256(expected))}${'00'.repeat(32)}`
    assert.equal(hex(evidenceReportData(container.platform)), reportData)
    assert.equal(hex(container.stack.reportData), reportData)
    assert.equal(container.stack.config, '{"cpu_count":1}')
  })

  test('has the report data of dstack for known keys', () => {
    // keccak256("dstack-kms-genereted-keys-v1:0102;03;"), by another implementation.
    assert.equal(
      hex(bootstrapReportData(Uint8Array.of(1, 2), Uint8Array.of(3))),
      `c89a68a89bd258d9ba78c8f4809a7a5f2424f4cfe2cff36d805b71c7d0a95f41${'00'.repeat(32)}`,
    )
  })

  test('is the same in an enclave, measured by its image', async (t) => {
    const folder = temporaryFolder(t)
    const nitro = attesterOf(machines.nitro())
    const answer = await bootstrap(optionsFor(folder, { attester: nitro, domain: '2001:db8::7' }))
    const image = createHash('sha256')
    for (let pcr = 0; pcr < 3; pcr++) image.update(new Uint8Array(48).fill(1))
    assert.equal(answer.measurement, image.digest('hex'))
    assert.equal(readContainer(unhex(answer.attestation)).platform.kind, 'nitro-enclave')
    assert.equal((await openRootKeys(folder))?.domain, '2001:db8::7')
  })

  test('takes names and addresses, and says in words of dstack what is neither', async (t) => {
    for (const domain of ['192.0.2.7', '2001:db8::1', 'localhost', 'a.b-c.example']) {
      assert.ok(await bootstrap(optionsFor(temporaryFolder(t), { domain })))
    }
    const folder = temporaryFolder(t)
    const refused = (domain: string) => refusalOf(bootstrap(optionsFor(folder, { domain })))
    const none = 'domain must be a non-empty ASCII DNS name of at most 253 bytes'
    for (const domain of ['', 'kms.exämple', 'a b', `${'a.'.repeat(130)}b`]) {
      assert.deepEqual(await refused(domain), [400, 'DOMAIN_INVALID', none])
    }
    for (const domain of ['-a.example', 'a..b', 'fe80::1%eth0', '[2001:db8::1]']) {
      const wrong = 'domain contains an invalid DNS label'
      assert.deepEqual(await refused(domain), [400, 'DOMAIN_INVALID', wrong])
    }
    assert.deepEqual(readdirSync(folder), [])
  })

  test('leaves nothing behind where this KMS is not allowed, or nobody can tell', async (t) => {
    const folder = temporaryFolder(t)
    const denied = kmsPolicy(deny('aggregated MR not allowed'))
    assert.deepEqual(await refusalOf(bootstrap(optionsFor(folder, { policy: denied }))), [
      403,
      'KMS_NOT_ALLOWED',
      'KMS is not allowed to bootstrap: boot denied: aggregated MR not allowed',
    ])
    const away = kmsPolicy(new PolicyError('POLICY_UNREACHABLE', 'http://secret.example is away'))
    const silent = await refusalOf(bootstrap(optionsFor(folder, { policy: away })))
    assert.deepEqual(silent.slice(0, 2), [500, 'INTERNAL_ERROR'])
    assert.doesNotMatch(String(silent[2]), /secret/)
    const foreign = { ...trust, tdxRoot: cloud().trust.tdxRoot }
    const unknown = await refusalOf(bootstrap(optionsFor(folder, { trust: foreign })))
    assert.deepEqual(unknown.slice(0, 2), [502, 'EVIDENCE_UNUSABLE'])
    const blind = { ...trust, collateral: async () => undefined }
    const unjudged = await refusalOf(bootstrap(optionsFor(folder, { trust: blind })))
    assert.deepEqual(unjudged.slice(0, 2), [500, 'INTERNAL_ERROR'])
    const gone = AbortSignal.abort()
    const left = await refusalOf(bootstrap(optionsFor(folder, { signal: gone })))
    assert.deepEqual(left.slice(0, 2), [408, 'CALLER_GONE'])
    assert.deepEqual(readdirSync(folder), [])
  })

  test('asks nobody whether it may where that is not to be enforced', async (t) => {
    const policy = kmsPolicy(deny('nobody is allowed'))
    const blind = { ...trust, collateral: async () => undefined }
    const answer = await bootstrap(
      optionsFor(temporaryFolder(t), { policy, trust: blind, enforceSelf: false }),
    )
    assert.match(answer.measurement, /^[0-9a-f]{64}$/)
    assert.deepEqual(policy.asked, [])
  })

  test('says so on a machine that cannot attest, enforced or not', async (t) => {
    for (const enforceSelf of [true, false]) {
      const folder = temporaryFolder(t)
      const options = optionsFor(folder, { attester: NO_ATTESTER, enforceSelf })
      const [status, code, message] = await refusalOf(bootstrap(options))
      assert.deepEqual([status, code], [400, 'WRONG_PLATFORM'])
      assert.match(String(message), /cannot attest/)
      assert.deepEqual(readdirSync(folder), [])
    }
  })

  test('takes no evidence about something else for its own', async (t) => {
    const evidence: typeof attester.evidence = () => attester.evidence(new Uint8Array(64))
    for (const enforceSelf of [true, false]) {
      const folder = temporaryFolder(t)
      const options = optionsFor(folder, { attester: { ...attester, evidence }, enforceSelf })
      const refused = await refusalOf(bootstrap(options))
      assert.deepEqual(refused.slice(0, 2), [502, 'EVIDENCE_UNUSABLE'])
      assert.deepEqual(readdirSync(folder), [])
    }
  })

  test('happens once, and never where any file of root keys is', async (t) => {
    const folder = temporaryFolder(t)
    const { k256_pubkey } = await bootstrap(optionsFor(folder))
    const again = await refusalOf(bootstrap(optionsFor(folder)))
    assert.deepEqual(again, [409, 'ROOT_KEYS_EXIST', 'KMS has already been bootstrapped'])
    assert.equal(
      hex(publicKeyOf('secp256k1', (await openRootKeys(folder))?.root.k256 as Uint8Array)),
      k256_pubkey,
    )
    for (const name of [...readdirSync(folder), 'root-keys.pending', 'root-v1.json']) {
      const other = temporaryFolder(t)
      writeFileSync(join(other, name), 'of somebody else', { mode: 0o600 })
      const [status, code, message] = await refusalOf(bootstrap(optionsFor(other)))
      assert.deepEqual([status, code], [409, 'ROOT_KEYS_EXIST'])
      assert.match(String(message), /^KMS has already been bootstrapped: /)
      assert.deepEqual(readdirSync(other), [name])
    }
  })

  test('leaves a folder that the next start understands, wherever it is cut off', async (t) => {
    let done = false
    const outcomes = new Set<string>()
    for (let at = 0; !done; at++) {
      assert.ok(at < 50)
      for (const when of ['before', 'after'] as const) {
        const folder = temporaryFolder(t)
        const steps = failingSteps(at, when)
        const cut = await bootstrap(optionsFor(folder, { steps })).then(
          () => undefined,
          (error) => error,
        )
        if (cut === undefined) {
          done = true
          continue
        }
        assert.equal(cut.code, 'ROOT_KEYS_NOT_WRITTEN')
        assert.match(cut.message, /the power is gone/)
        const anything = readdirSync(folder).length > 0
        const opened = await openRootKeys(folder)
        assert.equal(opened !== undefined, anything, `step ${at}, ${when}: all or nothing`)
        assert.ok(!existsSync(join(folder, 'root-keys.pending')))
        outcomes.add(anything ? 'keys' : 'none')
        if (!opened) {
          assert.ok(await bootstrap(optionsFor(folder)))
          continue
        }
        assert.equal(opened.domain, 'kms.example')
        assert.equal(hex(opened.info?.k256PublicKey ?? new Uint8Array()).length, 66)
        const [status, code] = await refusalOf(bootstrap(optionsFor(folder, { domain: 'other' })))
        assert.deepEqual([status, code], [409, 'ROOT_KEYS_EXIST'])
        assert.equal((await openRootKeys(folder))?.domain, 'kms.example')
      }
    }
    assert.deepEqual([...outcomes].sort(), ['keys', 'none'])
  })
})
