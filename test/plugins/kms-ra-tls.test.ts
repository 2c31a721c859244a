/** Certificates with evidence: what the plugin issues, and what a reader makes of any. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { encode } from '@msgpack/msgpack'
import fc from 'fast-check'
import kms from '../../plugins/kms/index.ts'
import { readContainer } from '../../src/attest/container.ts'
import { EvidenceError } from '../../src/attest/evidence-error.ts'
import { appInfo } from '../../src/attest/identity.ts'
import { verifyDocument } from '../../src/attest/nitro/verify.ts'
import { RA_TLS_OID, raTlsExtensions, raTlsReportData, readRaTls } from '../../src/attest/ra-tls.ts'
import { readCertifiedApp, writeCertifiedApp } from '../../src/attest/ra-tls-app.ts'
import { replay } from '../../src/attest/replay.ts'
import { runtimeEntry } from '../../src/attest/runtime-event.ts'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import { parseQuote } from '../../src/attest/tdx/quote.ts'
import { verifyQuote } from '../../src/attest/tdx/verify.ts'
import type { Attester, Evidence } from '../../src/attester/attester.ts'
import { QueueError } from '../../src/device/devices.ts'
import { type Certificate, isIssuedBy } from '../../src/x509/certificate.ts'
import { octetString } from '../../src/x509/der-write.ts'
import { extension, issueCertificate } from '../../src/x509/issue.ts'
import { parsePemChain } from '../../src/x509/pem.ts'
import { fakeNsm, fakeTdx } from '../helpers/attester.ts'
import { lacks } from '../helpers/counterpart.ts'
import { nitroSample, SAMPLE_APP, SAMPLE_TIME, tdxSample } from '../helpers/evidence.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'
import { vectors } from '../helpers/vectors.ts'
import { hex, IDENTITY, keyFile, testAuthority, unhex } from './kms-fixtures.ts'

const sample = tdxSample()
const authority = testAuthority()
const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
const running: PluginHost[] = []

after(async () => {
  await Promise.all(running.map((host) => host.stop()))
  rmSync(folder, { recursive: true })
})

/** A machine whose quotes verify under the root of the sample. */
function tdxMachine(evidence?: (reportData: Uint8Array) => Promise<Evidence>): Attester {
  const { attester } = fakeTdx()
  const make = async (reportData: Uint8Array): Promise<Evidence> => {
    const { eventLog } = sample
    return { platform: 'tdx', quote: sample.quote(reportData), eventLog, reportData }
  }
  return { ...attester, simulated: false, evidence: evidence ?? make }
}

function nitroMachine(): Attester & { readonly root: Uint8Array } {
  const { document, root } = nitroSample()
  const evidence = async (reportData: Uint8Array): Promise<Evidence> => {
    return { platform: 'nitro', document: document({ userData: reportData }), reportData }
  }
  return { ...fakeNsm().attester, evidence, root }
}

async function served(attester: Attester, config: object = {}): Promise<PluginHost> {
  const services = { attestation: attester, appIdentity: { current: () => IDENTITY } }
  const host = hostPlugin(kms, config, { services })
  running.push(host)
  await host.start()
  return host
}

const file = join(folder, 'appkeys.json')
writeFileSync(file, keyFile(authority))
chmodSync(file, 0o600)
const KEY_FILE = { key_file: { file } }

interface Issued {
  readonly key: string
  readonly pem: readonly string[]
  readonly chain: readonly Certificate[]
  readonly leaf: Certificate
}

async function issue(host: PluginHost, path: string, body: object = {}): Promise<Issued> {
  const answer = await host.request(path, { method: 'POST', body: JSON.stringify(body) })
  const json = (await answer.json()) as { key: string; certificate_chain: string[]; error?: string }
  assert.equal(answer.status, 200, json.error)
  assert.deepEqual(Object.keys(json), ['key', 'certificate_chain'])
  const pem = json.certificate_chain
  const chain = pem.flatMap((one) => parsePemChain(one))
  const [leaf] = chain
  assert.ok(leaf)
  const spki = createPublicKey(createPrivateKey(json.key)).export({ type: 'spki', format: 'der' })
  assert.deepEqual(new Uint8Array(spki), new Uint8Array(leaf.spki), 'the key is the certificate’s')
  return { key: json.key, pem, chain, leaf }
}

async function refusal(host: PluginHost, body: object): Promise<readonly unknown[]> {
  const answer = await host.request('/GetTlsKey', { method: 'POST', body: JSON.stringify(body) })
  const { error, code } = (await answer.json()) as { error: string; code: string }
  return [answer.status, code, error]
}

const APP_INFO = {
  appId: unhex('ab'.repeat(20)),
  composeHash: unhex('01'.repeat(32)),
  instanceId: new Uint8Array(),
  deviceId: new Uint8Array(),
  mrSystem: unhex('02'.repeat(32)),
  mrAggregated: unhex('03'.repeat(32)),
  osImageHash: new Uint8Array(),
  keyProvider: Buffer.from('{"name":"kms","id":""}'),
}

describe('GetTlsKey', () => {
  test('issues a fresh key each time, under the authority of the key file', async () => {
    const host = await served(tdxMachine(), KEY_FILE)
    const [one, two] = [await issue(host, '/GetTlsKey'), await issue(host, '/v1/IssueCert')]
    assert.notEqual(one.key, two.key)
    for (const { leaf, chain } of [one, two]) {
      assert.equal(chain.length, 2)
      const root = chain[1] as Certificate
      assert.deepEqual(root.der, authority.certificate)
      assert.ok(isIssuedBy(leaf, root))
      assert.equal(leaf.isCa, false)
      assert.deepEqual([...(leaf.keyUsage ?? [])], ['digitalSignature'])
      assert.equal(leaf.notBefore, Date.UTC(1975, 0, 1))
      assert.ok(leaf.notAfter > Date.now() + 9 * 365 * 24 * 3600_000)
      const { usage, appId, evidence, appInfo: app } = readRaTls(leaf)
      assert.deepEqual([usage, hex(appId ?? new Uint8Array())], ['app:custom', IDENTITY.appId])
      assert.deepEqual([evidence, app], [undefined, undefined])
    }
  })

  test('puts into the certificate what is asked for', async () => {
    const host = await served(tdxMachine(), KEY_FILE)
    const { pem, leaf } = await issue(host, '/v0/GetTlsKey', {
      subject: 'shop.example',
      alt_names: ['shop.example', '*.shop.example', '192.0.2.7', '2001:db8::7'],
      usage_server_auth: true,
      usage_client_auth: true,
      not_before: 1_700_000_000,
      not_after: 4_102_444_800,
    })
    const x509 = new X509Certificate(pem[0] ?? '')
    assert.equal(leaf.subject.commonName, 'shop.example')
    assert.match(
      x509.subjectAltName ?? '',
      /^DNS:shop\.example, DNS:\*\.shop\.example, IP Address:192\.0\.2\.7, IP Address:2001:DB8:(0:0:0:0:0|):7$/i,
    )
    assert.deepEqual([leaf.notBefore, leaf.notAfter], [1_700_000_000_000, 4_102_444_800_000])
    // Bytes of RFC 5280 §4.2.1.12: a sequence of serverAuth and clientAuth.
    assert.equal(hex(leaf.extension('2.5.29.37') ?? new Uint8Array()), EKU)
  })

  test('is verified by openssl, as a server and as a client', async (t) => {
    if (lacks(t, 'openssl')) return
    for (const config of [KEY_FILE, {}]) {
      const host = await served(tdxMachine(), config)
      const { pem } = await issue(host, '/GetTlsKey', {
        alt_names: ['shop.example'],
        usage_server_auth: true,
        usage_ra_tls: true,
      })
      const [leafFile, rootFile] = [join(folder, 'leaf.pem'), join(folder, 'root.pem')]
      writeFileSync(leafFile, pem[0] ?? '')
      writeFileSync(rootFile, pem[1] ?? '')
      const verify = (...args: readonly string[]) =>
        execFileSync(
          'openssl',
          ['verify', '-x509_strict', ...args, '-CAfile', rootFile, leafFile],
          {
            stdio: 'pipe',
          },
        ).toString()
      const hostname = ['-purpose', 'sslserver', '-verify_hostname', 'shop.example']
      assert.match(verify(...hostname), /: OK$/m)
      assert.throws(() => verify('-purpose', 'sslclient'))
    }
  })

  test('refuses a validity that ends before it begins, and times no certificate has', async () => {
    const host = await served(tdxMachine(), KEY_FILE)
    const wrong = [400, 'CERTIFICATE_VALIDITY', 'not_before must be earlier than not_after']
    for (const [not_before, not_after] of [
      [2, 1],
      [1_700_000_000, 1_700_000_000],
      [undefined, 0],
      [253_402_300_799, undefined],
    ]) {
      assert.deepEqual(await refusal(host, { not_before, not_after }), wrong)
    }
    for (const not_after of [-1, 1.5, 253_402_300_800, '1']) {
      assert.deepEqual((await refusal(host, { not_after })).slice(0, 2), [400, 'INVALID_REQUEST'])
    }
    const last = await issue(host, '/GetTlsKey', { not_after: 253_402_300_799 })
    assert.equal(last.leaf.notAfter, 253_402_300_799_000)
  })

  test('takes any subject, and only names that can be in a certificate', async () => {
    const host = await served(tdxMachine(), KEY_FILE)
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }),
        async (name) => {
          const { leaf } = await issue(host, '/GetTlsKey', { subject: name })
          assert.equal(leaf.subject.commonName, name)
        },
      ),
      { numRuns: 30 },
    )
    const bare = await issue(host, '/GetTlsKey', { alt_names: ['shop.example'] })
    assert.deepEqual(hex(bare.leaf.subject.der), '3000')
    assert.deepEqual(bare.leaf.unknownCritical, ['2.5.29.17'], 'then these are the subject')
    for (const name of ['', 'ü.example', 'a b', 'x'.repeat(254), 'a\nb']) {
      const told = await refusal(host, { alt_names: [name] })
      assert.deepEqual(told.slice(0, 2), [400, 'CERTIFICATE_NAME'])
    }
    for (const body of [{ subject: 'x'.repeat(257) }, { alt_names: Array(33).fill('a') }]) {
      assert.deepEqual((await refusal(host, body)).slice(0, 2), [400, 'INVALID_REQUEST'])
    }
  })

  const EKU = '301406082b0601050507030106082b06010505070302'
})

describe('evidence', () => {
  const request = { usage_ra_tls: true, with_app_info: true }

  test('is about the key, verifies, and tells what is measured', async () => {
    for (const evidence_form of ['attestation', 'quote'] as const) {
      const host = await served(tdxMachine(), { ...KEY_FILE, evidence_form })
      const { leaf } = await issue(host, '/GetTlsKey', request)
      const { evidence, appInfo: app } = readRaTls(leaf)
      assert.ok(evidence?.bound && evidence.platform.kind === 'tdx')
      assert.equal(leaf.extension(RA_TLS_OID.quote) !== undefined, evidence_form === 'quote')
      assert.equal(leaf.extension(RA_TLS_OID.attestation) === undefined, evidence_form === 'quote')
      const { quote: bytes, eventLog } = evidence.platform
      const verdict = verifyQuote(bytes, {
        root: sample.root,
        collateral: parseCollateral(sample.collateral),
        at: SAMPLE_TIME,
        reportData: raTlsReportData(leaf.spki),
      })
      assert.ok(verdict.accepted, JSON.stringify(verdict.steps))
      const quote = parseQuote(bytes)
      assert.deepEqual(hex(replay(eventLog)[3]), hex(quote.rtmr[3]), 'the log replays to the quote')
      const measured = appInfo(eventLog, quote)
      assert.ok(app)
      assert.equal(hex(app.appId), SAMPLE_APP.appId)
      assert.equal(hex(app.composeHash), SAMPLE_APP.composeHash)
      assert.deepEqual(
        [app.mrSystem, app.mrAggregated].map(hex),
        [measured.mrSystem, measured.mrAggregated].map(hex),
      )
      assert.equal(app.deviceId.length, 32)
      assert.equal(
        evidence.stack?.config,
        evidence_form === 'quote' ? undefined : IDENTITY.vmConfig,
      )
    }
  })

  test('of Nitro is in a certificate too, in the one form there is for it', async () => {
    for (const evidence_form of ['attestation', 'quote'] as const) {
      const machine = nitroMachine()
      const host = await served(machine, { ...KEY_FILE, evidence_form })
      const { leaf } = await issue(host, '/GetTlsKey', request)
      const { evidence, appInfo: app } = readRaTls(leaf)
      assert.ok(evidence?.bound && evidence.platform.kind === 'nitro-enclave')
      const verdict = verifyDocument(evidence.platform.document, {
        root: machine.root,
        at: SAMPLE_TIME,
      })
      assert.ok(verdict.accepted, JSON.stringify(verdict.steps))
      const pcrs = [0, 1, 2].map((index) => Buffer.alloc(48, index + 1))
      const image = createHash('sha256').update(Buffer.concat(pcrs)).digest('hex')
      assert.ok(app)
      assert.deepEqual([app.osImageHash, app.mrSystem, app.mrAggregated].map(hex), [
        image,
        image,
        image,
      ])
      assert.equal(hex(app.appId), IDENTITY.appId)
    }
  })

  test('is in the root certificate of local keys as well, which stays the same', async () => {
    const host = await served(tdxMachine())
    const [one, two] = [
      await issue(host, '/GetTlsKey', request),
      await issue(host, '/prpc/Tappd.DeriveKey', { path: 'tls' }),
    ]
    const root = one.chain[1] as Certificate
    assert.deepEqual(two.chain[1]?.der, root.der)
    assert.ok(isIssuedBy(one.leaf, root) && isIssuedBy(root, root))
    assert.deepEqual([root.isCa, root.pathLength], [true, 1])
    assert.equal(root.subject.commonName, 'App Root Cert')
    const { usage, evidence } = readRaTls(root)
    assert.deepEqual([usage, evidence?.bound], ['app:ca', true])
  })

  test('is announced as simulated where it is', async () => {
    const host = await served({ ...tdxMachine(), simulated: true })
    const { pem } = await issue(host, '/GetTlsKey')
    assert.match(new X509Certificate(pem[1] ?? '').subject, /NOT A REAL TEE/)
  })

  test('that cannot be had is an error, and asked for anew the next time', async () => {
    const machine = tdxMachine()
    let fault: unknown = new QueueError('QUEUE_FULL', 'full', 2500)
    const host = await served({
      ...machine,
      evidence: (...args) => (fault ? Promise.reject(fault) : machine.evidence(...args)),
    })
    assert.deepEqual((await refusal(host, {})).slice(0, 2), [429, 'DEVICE_QUEUE_FULL'])
    fault = undefined
    await issue(host, '/GetTlsKey', request)
  })

  test('is not asked for when no certificate could be issued', async () => {
    let asked = 0
    const machine = tdxMachine()
    const evidence = (reportData: Uint8Array) => {
      asked += 1
      return machine.evidence(reportData)
    }
    const host = await served(tdxMachine(evidence), KEY_FILE)
    for (const body of [{ alt_names: ['a b'] }, { not_before: 2, not_after: 1 }]) {
      assert.equal((await refusal(host, { ...request, ...body }))[0], 400)
    }
    assert.equal(asked, 0)
  })

  test('about something else is never put into a certificate', async () => {
    const other = await tdxMachine().evidence(new Uint8Array(64).fill(9))
    for (const quote of [(other as { quote: Uint8Array }).quote, new Uint8Array(5000)]) {
      const host = await served(
        tdxMachine(async () => ({ ...other, quote }) as Evidence),
        KEY_FILE,
      )
      assert.deepEqual((await refusal(host, request)).slice(0, 2), [502, 'EVIDENCE_UNUSABLE'])
    }
  })

  test('with a log longer than the older form allows is refused', async () => {
    const many = Array.from({ length: 200 }, (_, i) =>
      runtimeEntry({ name: `event ${i}`, payload: new Uint8Array(20), version: 1 }),
    )
    const machine = tdxMachine()
    const evidence = async (reportData: Uint8Array): Promise<Evidence> => {
      return { ...(await machine.evidence(reportData)), eventLog: many } as Evidence
    }
    const host = await served(tdxMachine(evidence), { ...KEY_FILE, evidence_form: 'quote' })
    const told = await refusal(host, { usage_ra_tls: true })
    assert.deepEqual(told.slice(0, 2), [502, 'EVIDENCE_UNUSABLE'])
    assert.match(String(told[2]), /at most 16384 are allowed/)
  })

  test('that makes a certificate larger than peers read is refused', async () => {
    const attester = tdxMachine()
    const current = () => ({ ...IDENTITY, vmConfig: 'x'.repeat(16 * 1024) })
    const services = { attestation: attester, appIdentity: { current } }
    const host = hostPlugin(kms, KEY_FILE, { services })
    running.push(host)
    await host.start()
    assert.deepEqual((await refusal(host, request)).slice(0, 2), [409, 'CERTIFICATE_TOO_LARGE'])
    const own = hostPlugin(kms, {}, { services })
    running.push(own)
    await own.start()
    assert.deepEqual((await refusal(own, request)).slice(0, 2), [502, 'EVIDENCE_UNUSABLE'])
  })
})

describe('DeriveKey', () => {
  test('gives the same P-256 key for a path, and a fresh one with random_seed', async () => {
    const host = await served(tdxMachine(), KEY_FILE)
    const keys = await Promise.all(
      [
        ['/prpc/Tappd.DeriveKey', { path: 'tls', subject: 'a' }],
        ['/prpc/DeriveKey', { path: 'tls', subject: 'b', usage_ra_tls: true }],
        ['/prpc/DeriveKey', { path: 'other' }],
        ['/prpc/DeriveKey', { path: 'tls', random_seed: true }],
      ].map(async ([path, body]) => (await issue(host, path as string, body as object)).key),
    )
    assert.equal(keys[0], keys[1])
    assert.equal(new Set(keys).size, 3)
    // The 32 bytes stand at offset 36 of the PKCS #8 form; GetKey has the same (spec dstack §7.1).
    const der = Buffer.from((keys[0] ?? '').replace(/-----.*-----|\n/g, ''), 'base64')
    const answer = await host.request('/GetKey?path=tls')
    const { key } = (await answer.json()) as { key: string }
    assert.equal(hex(der.subarray(36, 68)), key)
  })
})

/** A certificate with any extensions, for readers. */
function certificateWith(...extensions: readonly Uint8Array[]): Certificate {
  const { subject, publicKey, privateKey } = authority
  const der = issueCertificate(
    { subject, issuer: subject, publicKey, validFrom: 0, validTo: 1e12, extensions },
    privateKey,
  )
  const pem = Buffer.from(der).toString('base64')
  const [read] = parsePemChain(`-----BEGIN CERTIFICATE-----${pem}-----END CERTIFICATE-----`)
  return read as Certificate
}

const code = (expected: string) => (error: unknown) =>
  error instanceof EvidenceError && error.code === expected

describe('reading', () => {
  test('a certificate without any of the extensions says nothing', () => {
    assert.deepEqual(readRaTls(certificateWith()), {
      appId: undefined,
      usage: undefined,
      appInfo: undefined,
      evidence: undefined,
    })
  })

  test('app info is read as an array and as a map', () => {
    const names = ['app_id', 'compose_hash', 'instance_id', 'device_id', 'mr_system']
    names.push('mr_aggregated', 'os_image_hash', 'key_provider_info')
    const values = Object.values(APP_INFO)
    const map = encode({ ...Object.fromEntries(names.map((n, i) => [n, values[i]])), newer: [1] })
    const certificate = certificateWith(...raTlsExtensions({ appInfo: APP_INFO }))
    for (const read of [
      readCertifiedApp(writeCertifiedApp(APP_INFO)),
      readCertifiedApp(map),
      readRaTls(certificate).appInfo,
    ]) {
      assert.deepEqual(Object.values(read ?? {}).map(hex), values.map(hex))
    }
    assert.throws(() => readCertifiedApp(unhex('90')), code('RATLS_APP_INFO'))
    assert.throws(() => readCertifiedApp(unhex('80')), code('RATLS_APP_INFO'))
    assert.throws(
      () => readCertifiedApp(unhex(`99${'c400'.repeat(9)}`)),
      code('MESSAGE_PACK_LIMIT'),
    )
  })

  test('a compressed event log is not inflated past its limit', () => {
    const { quote } = sample
    const log = (content: Uint8Array) => {
      const bytes = Buffer.concat([Buffer.from('ELGZv1'), gzipSync(content)])
      return certificateWith(
        extension(RA_TLS_OID.quote, false, octetString(quote(new Uint8Array(64)))),
        extension(RA_TLS_OID.eventLog, false, octetString(bytes)),
      )
    }
    const full = Buffer.from('[]'.padEnd(16 * 1024))
    assert.deepEqual(readRaTls(log(full)).evidence?.bound, false)
    for (const size of [16 * 1024 + 1, 5_000_000]) {
      const began = performance.now()
      assert.throws(() => readRaTls(log(Buffer.from('[]'.padEnd(size)))), code('RATLS_EVENT_LOG'))
      if (size > 1e6) assert.ok(performance.now() - began < 1000)
    }
  })

  test('of anything else throws an evidence error and no other', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.values(RA_TLS_OID)),
        fc.uint8Array({ maxLength: 300 }),
        fc.boolean(),
        (id, content, wrapped) => {
          const value = wrapped ? octetString(content) : content
          try {
            readRaTls(certificateWith(extension(id, false, value)))
          } catch (error) {
            assert.ok(error instanceof EvidenceError, String(error))
          }
        },
      ),
      { numRuns: 200 },
    )
  })
})

describe('shared vectors', () => {
  const shared = vectors('dstack')
  const chainOf = (name: string) =>
    parsePemChain(readFileSync(join(shared ?? '', 'ratls', name), 'latin1'))

  interface Expected {
    readonly certs?: number
    readonly leaf_special_usage?: string
    readonly leaf_app_id?: string | null
    readonly app_ca_special_usage?: string
    readonly app_ca_app_id?: string
    readonly attestation_bytes?: number
    readonly report_data?: string
    readonly bound?: boolean
    readonly event_log_entries?: number
  }

  test('certificates are what their manifest says', (t) => {
    if (lacks(t, 'vectors', shared !== undefined)) return
    const manifest = readFileSync(join(shared ?? '', 'ratls', 'expected.json'), 'utf8')
    let read = 0
    for (const [name, expected] of Object.entries<Expected>(JSON.parse(manifest))) {
      const chain = chainOf(name)
      const leaf = chain[0] as Certificate
      if (name === 'legacy-eventlog-bomb.pem') {
        assert.throws(() => readRaTls(leaf), code('RATLS_EVENT_LOG'))
        continue
      }
      read += 1
      const { usage, appId, evidence } = readRaTls(leaf)
      assert.ok(evidence?.platform.kind === 'tdx', name)
      assert.equal(evidence.bound, expected.bound, name)
      if (expected.certs !== undefined) assert.equal(chain.length, expected.certs)
      if (expected.leaf_special_usage) assert.equal(usage, expected.leaf_special_usage)
      if (expected.leaf_app_id !== undefined) {
        assert.equal(appId ? hex(appId) : null, expected.leaf_app_id)
      }
      if (expected.report_data) assert.equal(hex(evidence.reportData), expected.report_data)
      if (expected.event_log_entries) {
        assert.equal(evidence.platform.eventLog.length, expected.event_log_entries)
      }
      if (expected.attestation_bytes) {
        const value = leaf.extension(RA_TLS_OID.attestation) as Uint8Array
        assert.equal(value.length, expected.attestation_bytes + 4, 'with the header in DER')
        assert.equal(readContainer(value.subarray(4)).version, 0)
      }
      const { eventLog, quote } = evidence.platform
      assert.equal(hex(replay(eventLog)[3]), hex(parseQuote(quote).rtmr[3]), name)
      assert.equal(verifyQuote(quote).accepted, false, 'made from another quote')
      if (!expected.app_ca_app_id) continue
      const ca = readRaTls(chain[1] as Certificate)
      assert.equal(ca.usage, expected.app_ca_special_usage)
      assert.equal(hex(ca.appId ?? new Uint8Array()), expected.app_ca_app_id)
    }
    assert.equal(read, 6)
  })

  test('the key file of the simulator issues certificates under its own root', async (t) => {
    if (lacks(t, 'vectors', shared !== undefined)) return
    const copy = join(folder, 'simulator.json')
    writeFileSync(copy, readFileSync(join(shared ?? '', 'simulator', 'appkeys.json')))
    chmodSync(copy, 0o600)
    const host = await served(tdxMachine(), { key_file: { file: copy } })
    const { leaf, chain, pem } = await issue(host, '/GetTlsKey', { usage_ra_tls: true })
    const root = chain[1] as Certificate
    assert.equal(root.subject.commonName, 'Dstack KMS CA')
    assert.ok(isIssuedBy(leaf, root))
    assert.ok(new X509Certificate(pem[0] ?? '').checkIssued(new X509Certificate(pem[1] ?? '')))
    assert.deepEqual(root.der, chainOf('local-chain.pem')[1]?.der)
  })
})
