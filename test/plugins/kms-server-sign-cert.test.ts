/** Certificates that a KMS signs for applications, and requests it does not sign. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, type KeyObject, sign, X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { p256 } from '@noble/curves/nist'
import fc from 'fast-check'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { p256PointOf, randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import { appCaScalar } from '../../plugins/kms/derivation/kms-keys.ts'
import type { BootInfo } from '../../plugins/kms/policy/boot-info.ts'
import { deny, type Policy } from '../../plugins/kms/policy/policy.ts'
import { DerivedKeys } from '../../plugins/kms/server/derived-keys.ts'
import type { Kms } from '../../plugins/kms/server/public-methods.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { rootsFrom } from '../../plugins/kms/server/roots.ts'
import { signCert } from '../../plugins/kms/server/sign-cert.ts'
import { readSigningRequest } from '../../plugins/kms/server/signing-request.ts'
import { writeContainer } from '../../src/attest/container.ts'
import { raTlsReportData, readRaTls } from '../../src/attest/ra-tls.ts'
import { ScaleWriter } from '../../src/attest/scale.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { bitString, oid, sequence } from '../../src/x509/der-write.ts'
import { verifyPath } from '../../src/x509/path.ts'
import { lacks } from '../helpers/counterpart.ts'
import { vectors } from '../helpers/vectors.ts'
import { hex, unhex } from './kms-fixtures.ts'
import {
  APP_EVENTS,
  cloud,
  containerOf,
  derOf,
  type Machine,
  rootsOf,
} from './kms-server-fixtures.ts'

const { trust, ...machines } = cloud()
const material = createMaterial(randomRootKeys(), 'kms.example', undefined)
const asked: BootInfo[] = []
const policy: Policy = {
  app: async (info) => {
    asked.push(info)
    return info.appId === APP_EVENTS['app-id']
      ? { allowed: true, gatewayAppId: '' }
      : deny('app not registered')
  },
  kms: async () => deny('aggregated MR not allowed'),
  describe: async () => ({ isDev: false }),
}
const kms: Kms = { roots: rootsOf(material), policy, trust, self: undefined, now: Date.now }

/** What an agent puts into its request; everything has an ordinary default. */
interface Csr {
  readonly confirm?: string
  readonly spki?: Uint8Array
  readonly organization?: string
  readonly subject?: string
  readonly altNames?: readonly string[]
  readonly server?: number
  readonly client?: boolean
  readonly quote?: boolean
  readonly appInfo?: boolean
  readonly notBefore?: bigint
  readonly notAfter?: bigint
  readonly attestation?: Uint8Array
  readonly machine?: Machine
}

const key = p256Key(randomP256Scalar())

function write(version: 1 | 2, csr: Csr = {}): Uint8Array {
  const { spki = key.spki, machine = machines.tdx() } = csr
  const writer = new ScaleWriter().text(csr.confirm ?? 'please sign cert:').bytes(spki)
  const option = (value: unknown, some: () => void) => {
    writer.u8(value === undefined ? 0 : 1)
    if (value !== undefined) some()
  }
  const u64 = (value = 0n) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(value)
    writer.raw(bytes)
  }
  option(csr.organization, () => writer.text(csr.organization ?? ''))
  writer.text(csr.subject ?? 'shop.example')
  writer.list(csr.altNames ?? ['shop.example'], (name) => writer.text(name))
  writer
    .u8(csr.server ?? 1)
    .u8(csr.client ? 1 : 0)
    .u8(csr.quote ? 1 : 0)
  const platform = machine.evidence(raTlsReportData(spki))
  if (version === 1) {
    assert.ok(platform.kind === 'tdx')
    const log = platform.eventLog.filter(({ imr }) => imr === 3)
    return writer.bytes(platform.quote).text(JSON.stringify(log)).finish()
  }
  writer.u8(csr.appInfo ? 1 : 0)
  option(csr.notBefore, () => u64(csr.notBefore))
  option(csr.notAfter, () => u64(csr.notAfter))
  return writer.raw(csr.attestation ?? writeContainer(containerOf(platform, spki))).finish()
}

async function call(
  csr: Uint8Array,
  version = 2,
  by: KeyObject = key.privateKey,
): Promise<readonly string[]> {
  const signature = new Uint8Array(sign('sha256', csr, by))
  const args = { api_version: version, csr: new Uint8Array(csr), signature, vm_config: '' }
  const answer = (await signCert(kms, args)) as { certificate_chain: string[] }
  assert.deepEqual(Object.keys(answer), ['certificate_chain'])
  return answer.certificate_chain
}

async function refused(work: Promise<unknown>): Promise<readonly [number, string, string]> {
  try {
    await work
  } catch (error) {
    const { name, status, code, message } = error as Error & { status: number; code: string }
    assert.equal(name, 'ApiError', String(error))
    return [status, code, message]
  }
  return assert.fail('it was signed')
}

describe('SignCert', () => {
  test('gives a chain of leaf, authority of the application and root', async () => {
    const pem = await call(write(2))
    const [leaf, authority, root] = pem.map((one) => parseCertificate(derOf(one)))
    assert.ok(leaf && authority && root)
    assert.equal(pem[2], material.authority.chain[0])
    verifyPath([leaf, authority], root, Date.now())
    assert.deepEqual(new Uint8Array(leaf.spki), new Uint8Array(key.spki))
    assert.equal(authority.subject.commonName, 'Dstack App CA')
    const scalar = appCaScalar(material.root, unhex(APP_EVENTS['app-id']))
    assert.deepEqual(new Uint8Array(authority.spki), new Uint8Array(p256Key(scalar).spki))
    for (const [certificate, usage] of [
      [leaf, 'app:custom'],
      [authority, 'app:ca'],
    ] as const) {
      const found = readRaTls(certificate)
      assert.equal(found.usage, usage)
      assert.equal(hex(found.appId ?? new Uint8Array()), APP_EVENTS['app-id'])
      assert.deepEqual([found.evidence, found.appInfo], [undefined, undefined])
    }
  })

  test('signs below the root of the version that is asked for, else of the current one', async () => {
    const materials = [0, 1, 2].map((version) =>
      createMaterial(randomRootKeys(version), 'kms.example', undefined),
    )
    const rotated: Kms = { ...kms, roots: rootsFrom(materials, 1), derived: new DerivedKeys() }
    const csr = new Uint8Array(write(2))
    const signature = new Uint8Array(sign('sha256', csr, key.privateKey))
    const args = { api_version: 2, csr, signature, vm_config: '' }
    const signed: string[] = []
    for (const root_version of [undefined, 0, 1, 2, 0]) {
      const answer = await signCert(rotated, { ...args, root_version }, undefined, (to) =>
        signed.push(to.appId),
      )
      const { certificate_chain } = answer as { certificate_chain: string[] }
      const material = materials[root_version ?? 1]
      assert.equal(certificate_chain[2], material?.authority.chain[0])
      const [leaf, authority, root] = certificate_chain.map((pem) => parseCertificate(derOf(pem)))
      assert.ok(leaf && authority && root && material)
      verifyPath([leaf, authority], root, Date.now())
      const scalar = appCaScalar(material.root, unhex(APP_EVENTS['app-id']))
      assert.deepEqual(new Uint8Array(authority.spki), new Uint8Array(p256Key(scalar).spki))
    }
    assert.deepEqual(signed, new Array(5).fill(APP_EVENTS['app-id']))
    assert.deepEqual(await refused(signCert(rotated, { ...args, root_version: 3 })), [
      400,
      'INVALID_REQUEST',
      'Unknown root version: 3; there are 0, 1, 2',
    ])
  })

  test('asks the policy about the application as it was before it got keys', async () => {
    asked.length = 0
    await call(write(2))
    assert.equal(asked.length, 1)
    assert.equal(asked[0]?.keyProviderInfo, '')
    assert.equal(asked[0]?.osImageHash, APP_EVENTS['os-image-hash'])
  })

  test('puts in what is asked for', async () => {
    const [pem = ''] = await call(
      write(2, {
        organization: 'Shop',
        altNames: ['shop.example', '192.0.2.7', '2001:db8::7'],
        client: true,
        quote: true,
        appInfo: true,
        notBefore: 1_700_000_000n,
        notAfter: 4_102_444_800n,
      }),
    )
    const x509 = new X509Certificate(pem)
    assert.equal(x509.subject, 'O=Shop\nCN=shop.example')
    assert.match(x509.subjectAltName ?? '', /^DNS:shop\.example, IP Address:192\.0\.2\.7, IP/)
    const leaf = parseCertificate(derOf(pem))
    assert.deepEqual([leaf.notBefore, leaf.notAfter], [1_700_000_000_000, 4_102_444_800_000])
    const usages = '301406082b0601050507030106082b06010505070302'
    assert.equal(hex(leaf.extension('2.5.29.37') ?? new Uint8Array()), usages)
    const { evidence, appInfo } = readRaTls(leaf)
    assert.ok(evidence?.bound)
    assert.equal(hex(appInfo?.composeHash ?? new Uint8Array()), APP_EVENTS['compose-hash'])
    assert.equal(Buffer.from(appInfo?.keyProvider ?? []).toString(), '{"name":"kms","id":"00"}')
  })

  test('leaves out what is not', async () => {
    const [pem = ''] = await call(write(2, { subject: '', altNames: [], server: 0 }))
    const leaf = parseCertificate(derOf(pem))
    assert.equal(leaf.subject.commonName, undefined)
    assert.deepEqual(
      [leaf.extension('2.5.29.37'), leaf.extension('2.5.29.17')],
      [undefined, undefined],
    )
    assert.equal(leaf.notBefore, Date.UTC(1975, 0, 1))
  })

  test('takes the older request, too, and answers in its form of evidence', async () => {
    const [pem = ''] = await call(write(1, { quote: true }), 1)
    const leaf = parseCertificate(derOf(pem))
    assert.ok(readRaTls(leaf).evidence?.bound)
    assert.ok(leaf.extension('1.3.6.1.4.1.62397.1.1'))
    assert.equal(leaf.extension('1.3.6.1.4.1.62397.1.8'), undefined)
  })

  test('is verified by openssl', async (t) => {
    if (lacks(t, 'openssl')) return
    const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
    t.after(() => rmSync(folder, { recursive: true }))
    const files = (await call(write(2, { quote: true }))).map((pem, i) => {
      const path = join(folder, `${i}.pem`)
      writeFileSync(path, pem)
      return path
    })
    const [leaf = '', authority = '', root = ''] = files
    const trusted = ['-CAfile', root, '-untrusted', authority]
    const checks = ['-x509_strict', '-purpose', 'sslserver', '-verify_hostname', 'shop.example']
    const output = execFileSync('openssl', ['verify', ...checks, ...trusted, leaf], {
      stdio: 'pipe',
    })
    assert.match(output.toString(), /: OK$/m)
  })
})

describe('SignCert signs nothing', () => {
  const stranger = p256Key(randomP256Scalar())

  test('for who has not the key, or evidence about it', async () => {
    const text = 'Failed to verify csr signature'
    const unsigned = await refused(call(write(2), 2, stranger.privateKey))
    assert.deepEqual(unsigned, [401, 'UNAUTHORIZED', text])
    const csr = new Uint8Array(write(2))
    for (const signature of [new Uint8Array(), new Uint8Array(64), new Uint8Array(72).fill(0x30)]) {
      const args = { api_version: 2, csr, signature, vm_config: '' }
      assert.deepEqual(await refused(signCert(kms, args)), [401, 'UNAUTHORIZED', text])
    }
    const platform = machines.tdx().evidence(raTlsReportData(key.spki))
    const attestation = writeContainer(containerOf(platform, key.spki))
    const stolen = write(2, { spki: stranger.spki, attestation })
    assert.deepEqual(await refused(call(stolen, 2, stranger.privateKey)), [
      401,
      'UNAUTHORIZED',
      'Quote verification failed: report data mismatch',
    ])
  })

  test('for machines that are not believed, or not registered', async () => {
    const debug = machines.tdx(APP_EVENTS, (report) => {
      report[512] = 1
    })
    for (const machine of [debug, cloud().tdx()]) {
      const [status, code] = await refused(call(write(2, { machine })))
      assert.deepEqual([status, code], [401, 'UNAUTHORIZED'])
    }
    const machine = machines.tdx({ ...APP_EVENTS, 'app-id': '99'.repeat(20) })
    assert.deepEqual(await refused(call(write(2, { machine }))), [
      403,
      'MEASUREMENT_NOT_FOUND',
      'App not allowed: Boot denied: app not registered',
    ])
  })

  test('that no certificate can hold', async () => {
    for (const [csr, code] of [
      [{ notBefore: 2n, notAfter: 1n }, 'CERTIFICATE_VALIDITY'],
      [{ altNames: ['büro.example'] }, 'CERTIFICATE_NAME'],
      [{ altNames: [''] }, 'CERTIFICATE_NAME'],
      [{ notAfter: 2n ** 64n - 1n }, 'INVALID_REQUEST'],
    ] as const) {
      assert.deepEqual((await refused(call(write(2, csr)))).slice(0, 2), [400, code])
    }
    const large = await refused(call(write(2, { subject: 'x'.repeat(20_000) })))
    assert.deepEqual(large.slice(0, 2), [409, 'CERTIFICATE_TOO_LARGE'])
  })

  test('for requests that are none', async () => {
    const larger = generateKeyPairSync('ec', { namedCurve: 'P-384' })
    const spkiOf = (publicKey: KeyObject) =>
      new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
    const point = p256.ProjectivePoint.fromHex(Buffer.from(key.spki).subarray(-65))
    const algorithm = sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7'))
    const compressed = sequence(algorithm, bitString(point.toRawBytes(true)))
    const bad: readonly [Uint8Array, number][] = [
      [write(2, { confirm: 'please sign cert' }), 2],
      [write(2, { server: 2 }), 2],
      [write(2, { altNames: new Array(33).fill('a') }), 2],
      [write(2, { spki: spkiOf(larger.publicKey) }), 2],
      [write(2, { spki: compressed }), 2],
      [write(2, { attestation: new Uint8Array() }), 2],
      [Buffer.concat([write(2), Buffer.alloc(1)]), 2],
      [Buffer.concat([write(1), Buffer.alloc(1)]), 1],
      [write(1), 2],
      [write(2), 1],
      [new Uint8Array(), 1],
      [new Uint8Array(), 2],
    ]
    for (const [csr, version] of bad) {
      const [status, code, message] = await refused(call(csr, version))
      assert.deepEqual([status, code], [400, 'INVALID_REQUEST'])
      assert.match(message, /^Failed to parse csr: /)
    }
    for (const version of [0, 3]) {
      const text = `Unsupported API version: ${version}`
      assert.deepEqual(await refused(call(write(2), version)), [400, 'INVALID_REQUEST', text])
    }
  })

  test('that is damaged, and nothing but evidence errors come from reading it', () => {
    for (const version of [1, 2] as const) {
      const whole = write(version)
      const reads = (bytes: Uint8Array) => {
        try {
          readSigningRequest(bytes, version)
        } catch (error) {
          assert.equal((error as Error).name, 'EvidenceError')
        }
      }
      fc.assert(
        fc.property(
          fc.nat({ max: whole.length - 1 }),
          fc.integer({ min: 1, max: 255 }),
          (at, mask) => {
            const changed = Uint8Array.from(whole)
            changed[at] = (changed[at] ?? 0) ^ mask
            reads(changed)
            assert.throws(() => readSigningRequest(whole.subarray(0, at), version), {
              name: 'EvidenceError',
            })
          },
        ),
        { numRuns: 200 },
      )
      fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), reads), { numRuns: 200 })
    }
  })
})

test('shared vectors: the key of an application’s authority', (t) => {
  const folder = vectors('dstack')
  if (lacks(t, 'vectors', folder !== undefined)) return
  const read = (name: string) => JSON.parse(readFileSync(join(folder ?? '', name), 'utf8'))
  const { root_ca_scalar, app_id } = read('keys/kms-derivation.json')
  const root = { version: 0, ca: unhex(root_ca_scalar), k256: new Uint8Array(32) }
  const point = p256PointOf(appCaScalar(root, unhex(app_id)))
  assert.equal(hex(point), read('ratls/expected.json')['kms-chain.pem'].app_ca_pubkey_uncompressed)
})
