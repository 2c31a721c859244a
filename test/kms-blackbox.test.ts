/**
 * A KMS in a process of its own, and everybody who is to get nothing of it: on real sockets, with
 * certificates that look like those of clients. All that it ever sent is searched in the end.
 */
import assert from 'node:assert/strict'
import { sign } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectPlain, createServer, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { type P256Key, p256Key } from '../plugins/kms/certificates/p256-key.ts'
import { writeSigningRequest } from '../plugins/kms/certificates/write-signing-request.ts'
import { keyV0 } from '../plugins/kms/derivation/app-keys.ts'
import { randomP256Scalar } from '../plugins/kms/derivation/curves.ts'
import { appCaScalar, appRootKey, diskKey, envKey } from '../plugins/kms/derivation/kms-keys.ts'
import { verifyEvidenceOver } from '../plugins/kms/trust/verified-evidence.ts'
import { type Container, stripContainer, writeContainer } from '../src/attest/container.ts'
import { raTlsExtensions, raTlsReportData } from '../src/attest/ra-tls.ts'
import { unixRequest } from './helpers/daemon.ts'
import { type KmsDaemon, type KmsSite, kmsSite } from './helpers/kms-daemon.ts'
import { BOMBS, impostors, rawExtension } from './helpers/kms-impostors.ts'
import {
  type Body,
  machinesBeside,
  post,
  type StrangeKms,
  strangeKms,
} from './helpers/kms-stranger.ts'
import { type RawAnswer, RawClient } from './helpers/raw-http.ts'
import { hex, unhex } from './plugins/kms-fixtures.ts'
import {
  APP_EVENTS,
  attestedBy,
  type Client,
  containerOf,
  mint,
} from './plugins/kms-server-fixtures.ts'

const WAIT_MS = 20_000

/** Two applications that the policy knows, one that it does not, and the image of all. */
const SHOP = { ...APP_EVENTS, 'app-id': '01'.repeat(20), 'compose-hash': '01'.repeat(32) }
const BANK = { ...APP_EVENTS, 'app-id': '02'.repeat(20), 'compose-hash': '02'.repeat(32) }
const OTHER = { ...APP_EVENTS, 'app-id': '03'.repeat(20), 'compose-hash': '03'.repeat(32) }
const KMS = { ...APP_EVENTS, 'app-id': '04'.repeat(20), 'compose-hash': '04'.repeat(32) }

const KEY_METHODS = [
  'KMS.GetAppKey?json',
  'GetAppKey',
  'GetKmsKey',
  'GetKey',
  'getKey?json',
] as const

let site: KmsSite
let daemon: KmsDaemon
let kms: StrangeKms
/** Connections that are never finished, from the beginning on. */
const halfOpen: RawClient[] = []
/** Resident memory before anybody did anything, in MiB. */
let memoryBefore = 0

before(async () => {
  site = await kmsSite()
  daemon = await site.kms()
  const info = await daemon.setUp('GetAttestationInfo')
  site.policy.allowKms(info?.json ?? {})
  await daemon.bootstrap('kms.example')
  const port = await daemon.port()
  kms = strangeKms(daemon, port, await machinesBeside(daemon))
  site.policy.change(({ osImages, apps }) => {
    osImages.push(APP_EVENTS['os-image-hash'])
    for (const app of [SHOP, BANK]) {
      apps[app['app-id']] = { composeHashes: [app['compose-hash']], allowAnyDevice: true }
    }
  })
  for (let i = 0; i < 10; i++) await kms.ask(clientOf(OTHER), 'GetAppKey')
  memoryBefore = memory()
})
after(() => site.close())

const clientOf = (events: Readonly<Record<string, string>>): Client =>
  mint(kms.material, attestedBy(kms.machines.tdx(events)))

function memory(): number {
  const status = readFileSync(`/proc/${daemon.child.pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024
}

/** Status, code and text of a refusal, and how it was counted. */
async function refused(
  client: Client | undefined,
  method: string,
  body: Body = {},
  head = '',
): Promise<readonly [status: number, code: string, error: string, counted: string]> {
  const before = await kms.counts()
  const answer = await kms.ask(client, method, body, head)
  const counts = await kms.counts()
  const changed = [...counts].filter(([key, count]) => before.get(key) !== count)
  const { error, code } = JSON.parse(answer.body) as Record<string, string>
  return [answer.status, code ?? '', error ?? '', changed.map(([key]) => key).join()]
}

/** What nobody here is to learn, by name. */
function secrets(): Readonly<Record<string, Uint8Array>> {
  const { root } = kms.material
  const found: Record<string, Uint8Array> = { 'root CA': root.ca, 'root k256': root.k256 }
  for (const [name, app] of Object.entries({ SHOP, BANK, OTHER, KMS })) {
    const id = unhex(app['app-id'])
    found[`${name} app CA`] = appCaScalar(root, id)
    found[`${name} root`] = appRootKey(root, id)
    found[`${name} env`] = envKey(root, id)
    found[`${name} disk`] = diskKey(root, id, unhex(app['instance-id']))
    found[`${name} disk of all`] = diskKey(root, id, new Uint8Array())
    for (const path of ['', 'vault']) {
      found[`${name} key "${path}"`] = keyV0(found[`${name} root`] as Uint8Array, path)
    }
  }
  return found
}

/** A request to sign a certificate, in hex, with its signature. */
function signingRequest(events: Readonly<Record<string, string>>, reportData?: Uint8Array) {
  const key = p256Key(randomP256Scalar())
  const platform = kms.machines.tdx(events).evidence(reportData ?? raTlsReportData(key.spki))
  const attestation = containerOf(platform, key.spki)
  const leaf = { subject: 'shop', altNames: [], serverAuth: true, clientAuth: true }
  const flags = { withEvidence: true, withAppInfo: true }
  const csr = writeSigningRequest({ spki: key.spki, leaf, ...flags, attestation })
  return { ...signed(csr, key), key }
}

/** The same with any bytes where the container is. */
function requestWith(container: Uint8Array) {
  const key = p256Key(randomP256Scalar())
  const attestation = containerWith(0)
  const leaf = { subject: 'shop', altNames: [], serverAuth: true, clientAuth: true }
  const flags = { withEvidence: false, withAppInfo: false }
  const whole = writeSigningRequest({ spki: key.spki, leaf, ...flags, attestation })
  const head = whole.subarray(0, whole.length - writeContainer(attestation).length)
  return signed(Buffer.concat([head, container]), key)
}

function signed(csr: Uint8Array, { privateKey }: P256Key) {
  return { csr: hex(csr), signature: hex(sign('sha256', csr, privateKey)) }
}

/** Good evidence of the shop about a key that nobody has. */
function containerWith(version: 0 | 1): Container {
  const spki = new Uint8Array(91)
  const platform = kms.machines.tdx(SHOP).evidence(raTlsReportData(spki))
  return { ...stripContainer(containerOf(platform, spki)), version }
}

/** Bytes that were cut, changed or added to, or others of their kind. */
function damage(whole: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat({ max: whole.length - 1 })
  const [first = 0] = whole
  return fc.oneof(
    fc.array(fc.tuple(at, fc.integer({ min: 1, max: 255 })), { minLength: 1 }).map((changes) => {
      const bytes = Uint8Array.from(whole)
      for (const [n, mask] of changes) bytes[n] = (bytes[n] ?? 0) ^ mask
      return bytes
    }),
    at.map((n) => whole.subarray(0, n)),
    fc
      .tuple(at, fc.uint8Array({ minLength: 1, maxLength: 64 }))
      .map(([n, more]) => Buffer.concat([whole.subarray(0, n), more, whole.subarray(n)])),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.concat([Uint8Array.of(first), bytes])),
  )
}

const nameOf = (method: string): string =>
  method.replace(/^KMS\.|\?.*$/g, '').replace('getKey', 'GetKey')

test('begins with those who do not come to an end', async () => {
  const hello = await clientHello()
  for (const said of [
    '',
    '\x16',
    '\x16\x03\x01',
    hello.subarray(0, 40),
    hello.subarray(0, -1),
    hello,
  ]) {
    for (let i = 0; i < 10; i++) {
      const client = await kms.plain()
      client.send(said)
      halfOpen.push(client)
    }
  }
})

describe('whoever asks for keys', () => {
  test('gets none by evidence that is not his, not genuine or not of this time', async () => {
    const all = Object.entries(impostors(kms.material, kms.machines, SHOP))
    for (const [name, { client, reason }] of all) {
      for (const method of KEY_METHODS) {
        const [status, code, error, counted] = await refused(client, method)
        assert.deepEqual([status, code], [401, 'UNAUTHORIZED'], `${name}: ${error}`)
        assert.equal(counted, `${nameOf(method)} UNAUTHORIZED ${reason}`.trimEnd(), name)
        if (reason === '') assert.equal(error, 'No attestation provided', name)
        else assert.match(error, /^Quote verification failed: ./, name)
      }
    }
    const texts = await Promise.all(
      ['has evidence about another key', 'can be debugged'].map(async (name) => {
        const found = all.find(([other]) => other === name)?.[1]
        return JSON.parse((await kms.ask(found?.client, 'GetAppKey')).body).error
      }),
    )
    assert.deepEqual(texts, [
      'Quote verification failed: report data mismatch',
      'Quote verification failed: Cannot accept quote: the TD is started for debugging',
    ])
  })

  test('gets none if the policy does not know what was measured', async () => {
    const refusedFor = (who: string, reason: string) =>
      [403, 'MEASUREMENT_NOT_FOUND', `${who} not allowed: Boot denied: ${reason}`] as const
    const posing = { ...OTHER, 'app-id': SHOP['app-id'] }
    const image = { ...SHOP, 'os-image-hash': '99'.repeat(32) }
    for (const [events, reason] of [
      [OTHER, 'app not registered'],
      [KMS, 'app not registered'],
      [posing, 'compose hash not allowed'],
      [image, 'OS image is not allowed'],
    ] as const) {
      const client = clientOf(events)
      for (const method of ['GetAppKey', 'GetKey'] as const) {
        const expected = [...refusedFor('App', reason), `${method} MEASUREMENT_NOT_FOUND`]
        assert.deepEqual(await refused(client, method), expected)
      }
    }
    // An application is no KMS, whatever its certificate says it is for.
    const usage = mint(kms.material, (spki) => [
      ...attestedBy(kms.machines.tdx(SHOP))(spki),
      ...raTlsExtensions({ usage: 'kms:rpc', appId: unhex(KMS['app-id']) }),
    ])
    for (const client of [clientOf(SHOP), clientOf(KMS), usage]) {
      assert.deepEqual(await refused(client, 'GetKmsKey'), [
        ...refusedFor('KMS', 'aggregated MR not allowed'),
        'GetKmsKey MEASUREMENT_NOT_FOUND',
      ])
    }
  })

  test('gets his own and no others, whatever his certificate says', async () => {
    const liar = mint(kms.material, (spki) => [
      ...attestedBy(kms.machines.tdx(BANK))(spki),
      ...raTlsExtensions({ usage: 'app:ca', appId: unhex(SHOP['app-id']) }),
    ])
    // On a connection of its own record: these keys may leave.
    const own = strangeKms(daemon, kms.port, kms.machines)
    const answer = await own.ask(liar, 'GetAppKey', { app_id: SHOP['app-id'] })
    assert.equal(answer.status, 200, answer.body)
    const found = own.heard.traces(secrets())
    assert.deepEqual(found, ['BANK disk hex', 'BANK env hex', 'BANK root hex'])
  })

  test('gets none with the certificate that this KMS signed for an application', async () => {
    const { csr, signature, key } = signingRequest(SHOP)
    const signed = await kms.ask(undefined, 'KMS.SignCert?json', { api_version: 2, csr, signature })
    assert.equal(signed.status, 200, signed.body)
    const { certificate_chain: chain } = JSON.parse(signed.body) as { certificate_chain: string[] }
    const client = { key, cert: chain.join(''), der: new Uint8Array() }
    for (const method of KEY_METHODS) {
      const [status, code, , counted] = await refused(client, method)
      assert.deepEqual([status, code], [401, 'UNAUTHORIZED'])
      assert.equal(counted, `${nameOf(method)} UNAUTHORIZED CERTIFICATE_NOT_ISSUED`)
    }
  })

  test('gets none by what another one sent, sent again', async () => {
    const before = await kms.counts()
    const sent = await overheard(clientOf(SHOP))
    const answered = await kms.counts()
    assert.equal((answered.get('GetMeta answered') ?? 0) - (before.get('GetMeta answered') ?? 0), 1)
    const thief = await kms.plain()
    thief.send(sent)
    assert.ok(await thief.closed(WAIT_MS), 'it is not waited for')
    assert.deepEqual(await kms.counts(), answered)
  })

  test('gets none while nobody can say whether he may', async () => {
    let content = ''
    const client = clientOf(SHOP)
    site.policy.change((policy) => {
      content = JSON.stringify(policy)
      policy.kms.mrAggregated = []
    })
    const self = 'KMS self authorization failed: KMS is not allowed: aggregated MR not allowed'
    for (const [method, body] of [
      ['GetTempCaCert', {}],
      ['GetAppEnvEncryptPubKey', { app_id: SHOP['app-id'] }],
    ] as const) {
      const expected = [500, 'INTERNAL_ERROR', self, `${method} INTERNAL_ERROR`]
      assert.deepEqual(await refused(undefined, method, body), expected)
    }
    site.policy.change((policy) => {
      Object.assign(policy, { misspelt: [] })
    })
    for (const method of ['GetAppKey', 'GetKey', 'GetKmsKey'] as const) {
      const who = method === 'GetKmsKey' ? 'KMS' : 'App'
      assert.deepEqual(await refused(client, method), [
        500,
        'INTERNAL_ERROR',
        `${who} not allowed: the policy gave no answer`,
        `${method} INTERNAL_ERROR POLICY_SETUP`,
      ])
    }
    site.policy.change((policy) => {
      for (const name of Object.keys(policy))
        delete (policy as unknown as Record<string, unknown>)[name]
      Object.assign(policy, JSON.parse(content))
    })
    assert.equal((await kms.ask(undefined, 'GetTempCaCert')).status, 200)
  })
})

describe('requests', () => {
  test('that ask for what there is not', async () => {
    const client = clientOf(BANK)
    for (const [method, body, status, code, error] of [
      ['GetAppKey', { api_version: 2 }, 400, 'INVALID_REQUEST', /^Unsupported API version: 2$/],
      [
        'GetAppKey',
        { root_version: 7 },
        400,
        'INVALID_REQUEST',
        /^Unknown root version: 7; there are 0$/,
      ],
      ['GetAppKey', { api_version: -1 }, 400, 'INVALID_REQUEST', /^Invalid api_version: /],
      ['GetAppKey', { api_version: 1e300 }, 400, 'INVALID_REQUEST', /^Invalid api_version: /],
      ['GetKey', { name: '\ud800' }, 400, 'INVALID_REQUEST', /^Invalid name: /],
      ['GetKey', { name: ['a'] }, 400, 'INVALID_REQUEST', /^Invalid name: /],
      ['GetAppEnvEncryptPubKey', {}, 400, 'INVALID_REQUEST', /^app_id must be 20 bytes$/],
      [
        'GetAppEnvEncryptPubKey',
        { app_id: '00'.repeat(19) },
        400,
        'INVALID_REQUEST',
        /^app_id must be 20 bytes$/,
      ],
      ['GetAppEnvEncryptPubKey', { app_id: '0x0' }, 400, 'INVALID_REQUEST', /^Invalid app_id: /],
      ['SignCert', {}, 400, 'INVALID_REQUEST', /^Unsupported API version: 0$/],
      ['SignCert', { api_version: 2, csr: '00' }, 400, 'INVALID_REQUEST', /^Failed to parse csr: /],
      ['Onboard.Bootstrap', { domain: 'x' }, 404, 'SERVICE_NOT_FOUND', /^Service not found: /],
      ['Admin.ClearImageCache', {}, 404, 'SERVICE_NOT_FOUND', /^Service not found: /],
      ['../cvmd/kms/rotate', {}, 404, 'SERVICE_NOT_FOUND', /^Service not found: rotate$/],
    ] as const) {
      const answer = await kms.ask(client, method, body)
      const told = JSON.parse(answer.body) as Record<string, string>
      assert.deepEqual([answer.status, told.code], [status, code], `${method} ${answer.body}`)
      assert.match(told.error ?? '', error)
    }
  })

  test('that are signed by another key, or about one', async () => {
    const { csr, signature } = signingRequest(SHOP)
    const other = signingRequest(SHOP)
    for (const [mine, signed, status, code, error] of [
      [csr, other.signature, 401, 'UNAUTHORIZED', 'Failed to verify csr signature'],
      [csr, '', 401, 'UNAUTHORIZED', 'Failed to verify csr signature'],
      [csr, '00'.repeat(72), 401, 'UNAUTHORIZED', 'Failed to verify csr signature'],
      [`${csr}00`, signature, 400, 'INVALID_REQUEST', /^Failed to parse csr: /],
      [csr.slice(0, -2), signature, 400, 'INVALID_REQUEST', /^Failed to parse csr: /],
    ] as const) {
      const answer = await refused(undefined, 'SignCert', {
        api_version: 2,
        csr: mine,
        signature: signed,
      })
      assert.deepEqual(answer.slice(0, 2), [status, code])
      assert.match(answer[2], error instanceof RegExp ? error : new RegExp(`^${error}$`))
    }
    const { key: _, ...unbound } = signingRequest(SHOP, new Uint8Array(64))
    assert.deepEqual(await refused(undefined, 'SignCert', { api_version: 2, ...unbound }), [
      401,
      'UNAUTHORIZED',
      'Quote verification failed: report data mismatch',
      'SignCert UNAUTHORIZED REPORT_DATA_MISMATCH',
    ])
    const { key: _k, ...unknown } = signingRequest(OTHER)
    assert.deepEqual(await refused(undefined, 'SignCert', { api_version: 2, ...unknown }), [
      403,
      'MEASUREMENT_NOT_FOUND',
      'App not allowed: Boot denied: app not registered',
      'SignCert MEASUREMENT_NOT_FOUND',
    ])
  })

  test('that are too large, compressed or no JSON', async () => {
    const client = clientOf(OTHER)
    const bomb = gzipSync(Buffer.alloc(100_000_000, ' '))
    for (const [body, head, status, code] of [
      ['x'.repeat(1_100_000), '', 413, 'BODY_TOO_LARGE'],
      [`{"name":"${'x'.repeat(1_100_000)}"}`, '', 413, 'BODY_TOO_LARGE'],
      [bomb, 'Content-Encoding: gzip\r\n', 415, 'BODY_NOT_JSON'],
      [
        bomb,
        'Content-Encoding: deflate\r\nContent-Type: application/json\r\n',
        415,
        'BODY_NOT_JSON',
      ],
      [
        Buffer.from('0801', 'hex'),
        'Content-Type: application/x-protobuf\r\n',
        415,
        'BODY_NOT_JSON',
      ],
      ['{"api_version":', '', 400, 'INVALID_JSON'],
      [Buffer.from('{"name":"\xff"}', 'latin1'), '', 400, 'INVALID_JSON'],
      [`{"vm_config":${'['.repeat(500_000)}`, '', 400, 'INVALID_JSON'],
    ] as const) {
      const connection = await kms.connect(client)
      connection.send(post('GetKey', body, head))
      const answer = await connection.answer(WAIT_MS)
      connection.destroy()
      // Of what is not read to its end, the answer may be lost.
      if (answer === undefined && status === 413) continue
      assert.deepEqual([answer?.status, JSON.parse(answer?.body ?? '{}').code], [status, code])
    }
    const nested = `{"vm_config":${'['.repeat(300_000)}${']'.repeat(300_000)}}`
    const status = (await kms.ask(client, 'GetAppKey', nested)).status
    assert.ok(status === 400 || status === 403, String(status))
  })
})

describe('evidence that was made to break its readers', () => {
  test('by what it promises', async () => {
    for (const [name, content] of Object.entries(BOMBS)) {
      const client = mint(kms.material, () => [rawExtension('attestation', content)])
      const [status, code, , counted] = await refused(client, 'GetAppKey')
      assert.deepEqual([status, code], [401, 'UNAUTHORIZED'], name)
      assert.match(counted, /^GetAppKey UNAUTHORIZED [A-Z_]+$/, name)
      const request = { api_version: 2, ...requestWith(content) }
      const [other, why, error] = await refused(undefined, 'SignCert', request)
      assert.deepEqual([other, why], [400, 'INVALID_REQUEST'], name)
      assert.match(error, /^Failed to parse csr: /)
    }
  })

  test('by bytes that are others than they were, in SCALE and in MessagePack', async () => {
    // In certificates each is a handshake: fewer of these.
    for (const version of [0, 1] as const) {
      const whole = writeContainer(containerWith(version))
      await fc.assert(
        fc.asyncProperty(damage(whole), async (content) => {
          const client = mint(kms.material, () => [rawExtension('attestation', content)])
          const { status, body } = await kms.ask(client, 'GetAppKey')
          assert.equal(status, 401, body)
        }),
        { numRuns: 25 },
      )
      const connections = await Promise.all(Array.from({ length: 6 }, () => kms.connect()))
      let turn = 0
      await fc.assert(
        fc.asyncProperty(damage(whole), async (content) => {
          const request = requestWith(content)
          const connection = connections[turn++ % connections.length] as RawClient
          connection.send(post('SignCert', { api_version: 2, ...request }))
          const answer = await connection.answer(WAIT_MS)
          assert.ok(answer && answer.status >= 400 && answer.status < 500, JSON.stringify(answer))
        }),
        { numRuns: 60 },
      )
      for (const connection of connections) connection.destroy()
    }
  })
})

describe('bytes that are no TLS, or not that of today', () => {
  test('are not answered in plain text', async () => {
    const hello = await clientHello()
    for (const said of [
      'GET /health HTTP/1.1\r\nHost: x\r\n\r\n',
      post('GetAppKey'),
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0',
      'SSH-2.0-OpenSSH_9.2\r\n',
      '\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10', // SSL 2
      '\x16\x03\x01\xff\xff', // a record longer than there are
      `\x16\x03\x01\0\0${'\x16\x03\x01\0\0'.repeat(1000)}`, // records of nothing
      `\x15\x03\x03\0\x02\x01\0${'\x15\x03\x03\0\x02\x01\0'.repeat(1000)}`, // alerts
      '\x18\x03\x02\0\x03\x01\x40\0', // a heartbeat
      Buffer.concat([hello, hello]),
      Buffer.concat([hello, Buffer.alloc(100_000, 0x17)]),
    ]) {
      const client = await kms.plain()
      client.send(said)
      client.halfClose()
      assert.ok(await client.closed(WAIT_MS), `${said.slice(0, 20)} is waited for`)
      assert.doesNotMatch(client.text, /HTTP/)
      client.destroy()
    }
  })

  test('and a greeting that was damaged', async () => {
    const hello = await clientHello()
    const at = fc.nat({ max: hello.length - 1 })
    await fc.assert(
      fc.asyncProperty(at, fc.integer({ min: 1, max: 255 }), fc.boolean(), async (n, mask, cut) => {
        const said = Buffer.from(hello)
        said[n] = (said[n] ?? 0) ^ mask
        const client = await kms.plain()
        client.send(cut ? said.subarray(0, n) : said)
        client.halfClose()
        assert.ok(await client.closed(WAIT_MS))
        assert.doesNotMatch(client.text, /HTTP/)
        client.destroy()
      }),
      { numRuns: 40 },
    )
  })

  test('and older versions, in which a connection could change its peer', async () => {
    for (const maxVersion of ['TLSv1', 'TLSv1.1', 'TLSv1.2'] as const) {
      const options = { minVersion: 'TLSv1', maxVersion, ciphers: 'ALL:@SECLEVEL=0' } as const
      await assert.rejects(kms.connect(clientOf(SHOP), options), maxVersion)
    }
    await assert.rejects(kms.connect(undefined, { ALPNProtocols: ['h2'] }).then(served))
  })
})

describe('HTTP', () => {
  const host = 'Host: kms.example\r\n'
  const get = (target: string, headers = '') => `GET ${target} HTTP/1.1\r\n${host}${headers}\r\n`
  const posted = (headers: string, body = '') =>
    `POST /prpc/GetMeta HTTP/1.1\r\n${host}${headers}\r\n\r\n${body}`

  test('that is none is refused, and nothing is expected behind it', async () => {
    for (const said of [
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      '\0\x01\x02\x03\xff\xfe\r\n\r\n',
      `G@T /health HTTP/1.1\r\n${host}\r\n`,
      `GET /health HTTP/9.9\r\n${host}\r\n`,
      `CONNECT localhost:80 HTTP/1.1\r\n${host}\r\n`,
      get('/health', 'X : a\r\n'),
      get('/health', 'X: a\0b\r\n'),
      get('/health', `X: ${'a'.repeat(200_000)}\r\n`),
      get('/health', 'X: aaaaaaaaaaaaaaaa\r\n'.repeat(20_000)),
      get(`/${'a'.repeat(200_000)}`),
      posted('Content-Length: 3\r\nTransfer-Encoding: chunked', '0\r\n\r\n'),
      posted('Content-Length: 3\r\nContent-Length: 5', 'abcde'),
      posted('Content-Length: -1', 'abcde'),
      posted('Content-Length: 99999999999999999999999', 'abcde'),
      posted('Transfer-Encoding: xchunked', '0\r\n\r\n'),
      posted('Transfer-Encoding: chunked', 'zz\r\nabc\r\n0\r\n\r\n'),
      posted('Transfer-Encoding: chunked', '-1\r\nabc\r\n0\r\n\r\n'),
      posted('Transfer-Encoding: chunked', 'ffffffffffffffffff\r\nabc\r\n'),
    ]) {
      const name = said.slice(0, 80)
      const client = await kms.connect(clientOf(SHOP))
      client.send(said)
      // What it was refused with may be lost, as the rest is never read.
      const answer = await client.answer(WAIT_MS)
      assert.ok(answer === undefined || [400, 431, 505].includes(answer.status), name)
      assert.ok(await client.closed(WAIT_MS), name)
    }
  })

  test('without end is cut off at a size', async () => {
    const piece = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    for (const method of ['GetKey', 'SignCert', 'Nothing']) {
      const client = await kms.connect()
      client.send(`POST /prpc/${method} HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n`)
      let sent = 0
      while (sent < 50_000_000 && client.closedAt === undefined) {
        client.send(piece)
        sent += piece.length
        await client.drained(WAIT_MS)
      }
      assert.ok(sent < 50_000_000, method)
      const answer = await client.answer(WAIT_MS)
      assert.ok(answer === undefined || [404, 413].includes(answer.status), String(answer?.status))
      client.destroy()
    }
  })

  test('in one piece is answered in order', async () => {
    const client = await kms.connect(clientOf(SHOP))
    const asked = Array.from({ length: 12 }, (_, n) =>
      post(['GetMeta', 'GetKmsKey', 'Nothing'][n % 3] ?? ''),
    )
    for (let turn = 0; turn < 5; turn++) {
      client.send(Buffer.concat(asked))
      for (const [n] of asked.entries()) {
        assert.equal((await client.answer(WAIT_MS))?.status, [200, 403, 404][n % 3], `${n}`)
      }
    }
    client.destroy()
  })

  test('that asks on and on and fetches nothing is cut off', async () => {
    const before = memory()
    const counted = async () => (await kms.counts()).get('GetMeta answered') ?? 0
    const answered = await counted()
    for (let n = 0; n < 3; n++) {
      const socket = connectTls({ port: kms.port, host: '127.0.0.1', rejectUnauthorized: false })
      // Not by `once`, for which an error is none.
      const cut = new Promise<void>((resolve) => {
        socket.on('error', () => resolve()).on('close', () => resolve())
      })
      await once(socket, 'secureConnect')
      socket.pause()
      // 60 MB of answers.
      socket.write(Buffer.concat(Array.from({ length: 30_000 }, () => post('GetMeta'))))
      // Others are served meanwhile; then it looks what has become of it.
      for (let i = 0; i < 10; i++) await served(await kms.connect())
      socket.resume()
      await within(cut, 'it is still served')
    }
    const more = (await counted()) - answered
    assert.ok(more < 200, `${more} were answered`)
    const grown = memory() - before
    assert.ok(grown < 100, `${grown.toFixed(0)} MiB`)
  })
})

describe('many', () => {
  test('who say nothing, or a letter now and then, keep nobody else from being served', async () => {
    const slow = await Promise.all(
      Array.from({ length: 60 }, async (_, n) => {
        const client = await kms.connect()
        client.send(
          n % 2 === 0
            ? 'GET /health HTTP/1.1\r\nX: '
            : post('GetKey', 'x'.repeat(100)).subarray(0, -50),
        )
        return client
      }),
    )
    for (let n = 0; n < 5; n++) {
      for (const client of slow) client.send('x')
      await served(await kms.connect())
    }
    assert.ok(slow.every(({ text }) => text === ''))
    for (const client of slow) client.destroy()
  })

  test('connections of one address are cut from a number on', async () => {
    const from = '127.200.0.1'
    const opened = await inTurns(200, 50, () =>
      kms.connect(undefined, { from }).catch(() => undefined),
    )
    assert.equal(opened.filter((client) => client !== undefined).length, 128)
    await served(await kms.connect())
    for (const client of opened) client?.destroy()
  })

  test('connections of several are all served, and one more', async () => {
    const open = await inTurns(500, 50, (n) =>
      kms.connect(undefined, { from: `127.201.0.${1 + (n % 5)}` }),
    )
    await Promise.all(open.map(askMeta))
    await served(await kms.connect())
    for (const client of open) client.destroy()
  })

  test('requests that cost a verification are refused to who makes them, and to no other', async () => {
    const client = await kms.connect(undefined, { from: '127.202.0.1' })
    const asked = Array.from({ length: 10 }, () => post('SignCert', { api_version: 2, csr: '00' }))
    let last: RawAnswer | undefined
    // A hundred at once, and ten more each second.
    for (let n = 0; n < 1000 && last?.status !== 429; n++) {
      if (n % asked.length === 0) client.send(Buffer.concat(asked))
      last = await client.answer(WAIT_MS)
      assert.ok(last?.status === 400 || last?.status === 429, String(last?.status))
    }
    assert.equal(last?.status, 429)
    assert.equal(JSON.parse(last?.body ?? '{}').code, 'RATE_LIMITED')
    assert.match(last?.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
    const { status } = await kms.ask(clientOf(OTHER), 'GetAppKey')
    assert.equal(status, 403, 'somebody else is looked at')
    client.destroy()
  })
})

describe('after all of it', () => {
  test('those who did not come to an end were cut', async () => {
    assert.equal(halfOpen.length, 60)
    for (const client of halfOpen) assert.ok(await client.closed(WAIT_MS))
  })

  test('no byte of a key has left, on no connection and in no log', async () => {
    const { heard } = kms
    heard.text(daemon.output())
    const socket = connectTls({ port: kms.port, host: '127.0.0.1', rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    heard.stream()(socket.getPeerCertificate().raw)
    socket.destroy()
    for (const path of ['/cvmd/kms', '/cvmd/metrics', '/cvmd/events?limit=1000', '/logs']) {
      const { status, body } = await unixRequest(daemon.socket, path)
      assert.equal(status, 200, path)
      heard.text(body)
    }
    assert.ok(heard.bytes > 1_000_000)
    assert.deepEqual(heard.traces(secrets()), [])
    for (const reason of ['TD_DEBUG', 'REPORT_DATA_MISMATCH', 'ROOT_UNKNOWN']) {
      const { body } = await unixRequest(daemon.socket, '/cvmd/metrics')
      assert.match(
        body,
        new RegExp(`^cvmd_kms_requests_total\\{.*reason="${reason}".*\\} [1-9]`, 'm'),
      )
    }
  })

  test('the event log still has what was there before, and is not full of strangers', async () => {
    const { body } = await unixRequest(daemon.socket, '/cvmd/events?limit=1000&source=kms')
    const { events } = JSON.parse(body) as { events: { message: string }[] }
    assert.match(events[0]?.message ?? '', /^waiting to be set up/)
    assert.ok(events.length < 500, String(events.length))
  })

  test('the process has not grown, and nothing in it went wrong unnoticed', () => {
    assert.doesNotMatch(daemon.output(), /not caught|not handled|TypeError|RangeError/i)
    const grown = memory() - memoryBefore
    assert.ok(grown < 200, `${grown.toFixed(0)} MiB`)
  })

  test('an application gets its keys, and another KMS what it needs', async () => {
    // Of what it hears now, everything is found that is to be there: the search can see it.
    const own = strangeKms(daemon, kms.port, kms.machines)
    const answer = await own.ask(clientOf(SHOP), 'KMS.GetAppKey?json', { api_version: 1 })
    assert.equal(answer.status, 200, answer.body)
    const named = await own.ask(clientOf(SHOP), 'getKey', { name: 'vault' })
    assert.equal(named.status, 200)
    assert.deepEqual(own.heard.traces(secrets()), [
      'SHOP disk hex',
      'SHOP env hex',
      'SHOP key "vault" raw',
      'SHOP root hex',
    ])
    const sibling = kms.machines.tdx(KMS)
    const { trust } = kms.machines
    const reportData = new Uint8Array(64)
    const { boot } = await verifyEvidenceOver(
      sibling.evidence(reportData),
      reportData,
      trust,
      Date.now(),
    )
    site.policy.allowKms({ mr_aggregated: boot.mrAggregated, device_id: boot.deviceId })
    const roots = await own.ask(mint(kms.material, attestedBy(sibling)), 'GetKmsKey')
    assert.equal(roots.status, 200, roots.body)
    assert.deepEqual(
      own.heard.traces(secrets()).filter((name) => name.startsWith('root')),
      ['root CA base64', 'root k256 hex'],
    )
    assert.equal((await daemon.status()).mode, 'serving')
  })
})

/** The first bytes of a client that speaks TLS. */
function clientHello(): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.once('data', (data) => {
        resolve(data as Buffer)
        socket.destroy()
        server.close()
      })
      socket.on('error', reject)
    })
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }).on(
        'error',
        () => undefined,
      )
    })
  })
}

/** All that a client sends while it asks GetMeta, as somebody on the way sees it. */
async function overheard(client: Client): Promise<Buffer> {
  const parts: Buffer[] = []
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    const up = connectPlain(kms.port, '127.0.0.1')
    for (const end of [socket, up]) end.on('error', () => end.destroy())
    sockets.push(socket, up)
    socket.on('data', (data: Buffer) => {
      parts.push(Buffer.from(data))
      up.write(data)
    })
    up.on('data', (data) => socket.write(data))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const tls = { rejectUnauthorized: false, cert: client.cert, key: client.key.pem }
  const connection = await RawClient.connect({ port, tls })
  connection.send(post('GetMeta'))
  assert.equal((await connection.answer(WAIT_MS))?.status, 200)
  connection.destroy()
  for (const socket of sockets) socket.destroy()
  server.close()
  return Buffer.concat(parts)
}

/** Fails when it takes too long. */
async function within<T>(work: Promise<T>, otherwise: string): Promise<T> {
  const late = AbortSignal.timeout(WAIT_MS)
  const over = new Promise<never>((_, reject) => {
    late.addEventListener('abort', () => reject(new Error(otherwise)))
  })
  return Promise.race([work, over])
}

/** So many times the same, a few at a time. */
async function inTurns<T>(
  count: number,
  most: number,
  work: (n: number) => Promise<T>,
): Promise<T[]> {
  const done: T[] = []
  while (done.length < count) {
    const from = done.length
    const turn = Array.from({ length: Math.min(most, count - from) }, (_, n) => work(from + n))
    done.push(...(await Promise.all(turn)))
  }
  return done
}

/** Fails when it does not serve on this connection. */
async function askMeta(client: RawClient): Promise<void> {
  client.send(post('GetMeta'))
  assert.equal((await client.answer(WAIT_MS))?.status, 200)
}

/** The same, and closes it. */
async function served(client: RawClient): Promise<void> {
  await askMeta(client)
  client.destroy()
}
