/** A client of a KMS, and a real KMS, on real sockets. */
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import { after, describe, test } from 'node:test'
import type { KmsConnection, KmsConnectionOptions } from '../../plugins/kms/client/connection.ts'
import { openKmsConnection } from '../../plugins/kms/client/open-connection.ts'
import { keyV0 } from '../../plugins/kms/derivation/app-keys.ts'
import { appRootKey, diskKey, envKey } from '../../plugins/kms/derivation/kms-keys.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { issueRpcCertificate } from '../../plugins/kms/server/rpc-certificate.ts'
import { raTlsExtensions, readRaTls } from '../../src/attest/ra-tls.ts'
import { ApiError } from '../../src/errors.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import {
  closeAll,
  intermediate,
  KMS,
  machines,
  material,
  options,
  pairOf,
  realKms,
  refused,
  rootCertificate,
  rootOfMaterial,
  rpc,
  SHOP,
} from './kms-client-fixtures.ts'
import { hex, unhex } from './kms-fixtures.ts'
import { attestedBy, attesterOf, mintBy } from './kms-server-fixtures.ts'

const { root } = material
const appId = unhex(SHOP['app-id'])
const connections: KmsConnection[] = []
after(async () => {
  for (const connection of connections) connection.close()
  await closeAll()
})

async function opened(all: KmsConnectionOptions): Promise<KmsConnection> {
  const connection = await openKmsConnection(all)
  connections.push(connection)
  return connection
}

describe('a client of a KMS', () => {
  test('gets the keys of its application', async () => {
    const server = await realKms()
    const kms = await opened(options(server))
    assert.equal(kms.peer.boot.appId, KMS['app-id'])
    assert.equal(hex(kms.root.spki), hex(rootCertificate.spki))
    const keys = await kms.call('GetAppKey', { api_version: 1, vm_config: '{}' })
    assert.equal(keys.k256_key, hex(appRootKey(root, appId)))
    assert.equal(keys.env_crypt_key, hex(envKey(root, appId)))
    assert.equal(keys.disk_crypt_key, hex(diskKey(root, appId, unhex(SHOP['instance-id']))))
    const { key } = await kms.call('GetKey', { name: 'my-api-key' })
    assert.equal(key, hex(keyV0(appRootKey(root, appId), 'my-api-key')))
    const { keys: roots } = await kms.call('GetKmsKey', {})
    const [first] = roots as readonly { ca_key: string }[]
    assert.ok(createPrivateKey(first?.ca_key ?? ''))
    assert.equal(server.connections, 2, 'one to verify, one to ask')
    assert.deepEqual(server.requests, [
      'POST /prpc/KMS.GetTempCaCert?json',
      'POST /prpc/KMS.GetAppKey?json',
      'POST /prpc/KMS.GetKey?json',
      'POST /prpc/KMS.GetKmsKey?json',
    ])
  })

  test('shows a certificate with evidence of its machine, minted for one key', async () => {
    const server = await realKms()
    const kms = await opened(options(server))
    await kms.call('GetAppKey', {})
    const [der] = server.certificates
    const certificate = parseCertificate(der as Uint8Array)
    assert.equal(certificate.subject.commonName, 'RA-TLS TEMP Cert')
    const { evidence, usage } = readRaTls(certificate)
    assert.ok(evidence?.bound)
    assert.equal(usage, undefined)
    const { stack } = evidence
    assert.equal(stack?.config, '{"of":"the shop"}')
    const other = await opened(options(server))
    await other.call('GetAppKey', {})
    assert.equal(server.certificates.length, 2)
    const again = parseCertificate(server.certificates[1] as Uint8Array)
    assert.notEqual(hex(again.spki), hex(certificate.spki))
  })

  test('takes URLs with the path of dstack and without, and no others', async () => {
    const server = await realKms()
    const base = `https://127.0.0.1:${server.port}`
    for (const url of [`${base}/`, `${base}/prpc`, `${base}/prpc/`, base.toUpperCase()]) {
      const kms = await opened(options(server, { url }))
      assert.equal(kms.url, url)
      assert.ok((await kms.call('GetMeta', {})).ca_cert)
    }
    for (const url of [
      'http://127.0.0.1:1',
      '127.0.0.1:1',
      '',
      'https://user:word@127.0.0.1:1',
      'https://127.0.0.1:1/prpc?',
      'https://127.0.0.1:1/#',
      `https://${'a'.repeat(3000)}`,
    ]) {
      const { code, message } = await refused(openKmsConnection(options(server, { url })))
      assert.equal(code, 'KMS_UNREACHABLE')
      assert.match(message, /^Cannot read the URL of the KMS: expected https/)
    }
    const elsewhere = await opened(options(server, { url: `https://localhost:${server.port}` }))
    assert.ok((await elsewhere.call('GetMeta', {})).ca_cert, 'its name does not count')
  })

  test('believes one of several roots, and without any, the root that the KMS names', async () => {
    const server = await realKms()
    const stranger = rootOfMaterial(createMaterial(randomRootKeys(), 'other.example', undefined))
    const one = await opened(options(server, { roots: [stranger, rootCertificate] }))
    assert.equal(hex(one.root.der), hex(rootCertificate.der))
    const { roots: _, ...rest } = options(server)
    const asked: string[] = []
    const any = await opened({
      ...rest,
      roots: undefined,
      accept: async ({ boot }) => void asked.push(boot.appId),
    })
    assert.equal(hex(any.root.der), hex(rootCertificate.der))
    assert.deepEqual(asked, [KMS['app-id']])
    const { code } = await refused(openKmsConnection(options(server, { roots: [] })))
    assert.equal(code, 'KMS_NOT_VERIFIED', 'a list without any is a list')
  })

  test('believes it by the chain from its certificate to the root, whatever it shows of that', async () => {
    const [leaf = ''] = rpc.pair.cert.split(/(?<=-----END CERTIFICATE-----\n)/)
    const between = intermediate(material.authority)
    const evidence = attestedBy(machines.tdx(KMS))
    const below = mintBy(between, (spki) => [
      ...raTlsExtensions({ usage: 'kms:rpc' }),
      ...evidence(spki),
    ])
    const [own = '', top = ''] = between.chain
    for (const pair of [{ ...rpc.pair, cert: leaf }, pairOf(below, own), pairOf(below, own, top)]) {
      const server = await realKms(pair)
      for (const roots of [[rootCertificate], undefined]) {
        const kms = await opened(options(server, { roots }))
        assert.equal(hex(kms.root.der), hex(rootCertificate.der))
        assert.ok((await kms.call('GetAppKey', {})).k256_key)
      }
    }
  })

  test('believes a KMS in an enclave, too', async () => {
    const { pair } = await issueRpcCertificate(material, attesterOf(machines.nitro()))
    const kms = await opened(options(await realKms(pair)))
    assert.equal(kms.peer.boot.teeVariant, 'dstack-nitro-enclave')
  })

  test('is refused in the words of the KMS', async () => {
    const kms = await opened(options(await realKms()))
    const { code, refusal, message } = await refused(kms.call('GetAppKey', { api_version: 7 }))
    assert.deepEqual([code, refusal], ['KMS_REFUSED', 'INVALID_REQUEST'])
    assert.equal(message, `KMS ${kms.url} refuses GetAppKey: Unsupported API version: 7`)
    const unknown = await refused(kms.call('GetNothing', {}))
    assert.deepEqual([unknown.code, unknown.refusal], ['KMS_REFUSED', 'SERVICE_NOT_FOUND'])
    await assert.rejects(kms.call('../health', {}), TypeError)
    assert.ok((await kms.call('GetMeta', {})).ca_cert, 'and can go on')
  })
})

describe('its connection', () => {
  test('is one for many calls, which are answered in order', async () => {
    const server = await realKms()
    const kms = await opened(options(server))
    const names = Array.from({ length: 20 }, (_, i) => `key ${i}`)
    const answers = await Promise.all(names.map((name) => kms.call('GetKey', { name })))
    const app = appRootKey(root, appId)
    assert.deepEqual(
      answers.map(({ key }) => key),
      names.map((name) => hex(keyV0(app, name))),
    )
    assert.equal(server.connections, 2)
    assert.equal(server.certificates.length, 1)
  })

  test('is made again when the KMS has closed it', async () => {
    const server = await realKms()
    const kms = await opened(options(server))
    for (let i = 0; i < 3; i++) {
      server.cut()
      assert.ok((await kms.call('GetAppKey', {})).k256_key)
    }
    assert.equal(server.connections, 5)
    const spkis = server.certificates.map((der) => hex(parseCertificate(der).spki))
    assert.equal(new Set(spkis).size, 1, 'with the same certificate')
  })

  test('is made with fresh evidence when the old is half an hour old', async () => {
    const server = await realKms()
    let at = Date.now()
    const kms = await opened(options(server, { now: () => at }))
    const minutes = 60_000
    for (const [later, certificates] of [
      [0, 1],
      [29 * minutes, 1],
      [1 * minutes, 2],
      [29 * minutes, 2],
    ] as const) {
      at += later
      assert.ok((await kms.call('GetAppKey', {})).k256_key)
      assert.equal(server.certificates.length, certificates)
    }
    const [one, two] = server.certificates.map((der) => hex(parseCertificate(der).spki))
    assert.notEqual(one, two)
  })

  test('is not made again once the certificate of the KMS is not valid any more', async () => {
    const server = await realKms()
    let at = Date.now()
    const kms = await opened(options(server, { now: () => at }))
    at = Date.UTC(2090, 0, 1)
    const { code, cause } = await refused(kms.call('GetAppKey', {}))
    assert.equal(code, 'KMS_NOT_VERIFIED')
    assert.equal((cause as { code?: string }).code, 'CERTIFICATE_EXPIRED')
  })

  test('ends for good when it is closed, also by the signal it was opened with', async () => {
    const server = await realKms()
    const wanted = new AbortController()
    const [one, two] = [
      await opened(options(server)),
      await opened(options(server, { signal: wanted.signal })),
    ]
    const calls = [one, two].map((kms) => refused(kms.call('GetAppKey', {})))
    one.close()
    one.close()
    wanted.abort()
    for (const { code } of await Promise.all(calls)) assert.equal(code, 'KMS_ABORTED')
    for (const kms of [one, two]) {
      assert.equal((await refused(kms.call('GetMeta', {}))).code, 'KMS_ABORTED')
    }
  })

  test('survives a call that is aborted', async () => {
    const kms = await opened(options(await realKms()))
    const unwanted = new AbortController()
    const call = refused(kms.call('GetAppKey', {}, unwanted.signal))
    const other = kms.call('GetAppKey', {})
    unwanted.abort()
    assert.equal((await call).code, 'KMS_ABORTED')
    assert.ok((await other).k256_key)
    assert.equal((await refused(kms.call('GetMeta', {}, unwanted.signal))).code, 'KMS_ABORTED')
    assert.ok((await kms.call('GetAppKey', {})).k256_key)
  })
})

test('a machine that cannot prove itself says so, and shows no certificate', async () => {
  const server = await realKms()
  const broken = new ApiError(502, 'DEVICE_FAILED', 'no quote')
  const attester = {
    ...options(server).attester,
    evidence: () => Promise.reject(broken),
  }
  await assert.rejects(openKmsConnection(options(server, { attester })), { code: 'DEVICE_FAILED' })
  const hung = { ...attester, evidence: () => new Promise<never>(() => undefined) }
  const late = refused(openKmsConnection(options(server, { attester: hung, deadlineMs: 400 })))
  assert.equal((await late).code, 'KMS_TIMEOUT')
  assert.equal(server.connections, 2)
  assert.deepEqual(server.certificates, [])
})
