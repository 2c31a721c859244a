/**
 * A KMS in a process of its own, and everybody who is to get nothing of it: on real sockets, with
 * certificates that look like those of clients. All that it ever sent is searched in the end.
 */
import assert from 'node:assert/strict'
import { connect as connectPlain, createServer, type Socket } from 'node:net'
import { after, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { writeContainer } from '../src/attest/container.ts'
import { raTlsExtensions } from '../src/attest/ra-tls.ts'
import {
  assertGivesKeys,
  assertNothingLeft,
  assertUnharmed,
  BANK,
  KMS,
  kmsAmongStrangers,
  OTHER,
  SHOP,
  secretsOf,
} from './helpers/kms-among-strangers.ts'
import { BOMBS, impostors, rawExtension } from './helpers/kms-impostors.ts'
import {
  damage,
  requestWith,
  signingRequest,
  unboundContainer,
} from './helpers/kms-signing-requests.ts'
import { type Body, post, strangeKms } from './helpers/kms-stranger.ts'
import { RawClient } from './helpers/raw-http.ts'
import { unhex } from './plugins/kms-fixtures.ts'
import { attestedBy, type Client, mint } from './plugins/kms-server-fixtures.ts'

const WAIT_MS = 20_000

const KEY_METHODS = [
  'KMS.GetAppKey?json',
  'GetAppKey',
  'GetKmsKey',
  'GetKey',
  'getKey?json',
] as const

const among = await kmsAmongStrangers()
const { site, daemon, kms, clientOf } = among
/** Resident memory before anybody did anything, in MiB. */
const memoryBefore = among.memory()
after(() => among.site.close())

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

const nameOf = (method: string): string =>
  method.replace(/^KMS\.|\?.*$/g, '').replace('getKey', 'GetKey')

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
    for (const [events, reason, code] of [
      [OTHER, 'app not registered', 'APP_NOT_REGISTERED'],
      [KMS, 'app not registered', 'APP_NOT_REGISTERED'],
      [posing, 'compose hash not allowed', 'COMPOSE_HASH_NOT_ALLOWED'],
      [image, 'OS image is not allowed', 'OS_IMAGE_NOT_ALLOWED'],
    ] as const) {
      const client = clientOf(events)
      for (const method of ['GetAppKey', 'GetKey'] as const) {
        const counted = `${method} MEASUREMENT_NOT_FOUND ${code}`
        const expected = [...refusedFor('App', reason), counted]
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
        'GetKmsKey MEASUREMENT_NOT_FOUND AGGREGATED_MR_NOT_ALLOWED',
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
    const found = own.heard.traces(secretsOf(kms.material))
    assert.deepEqual(found, ['BANK disk hex', 'BANK env hex', 'BANK root hex'])
  })

  test('gets none with the certificate that this KMS signed for an application', async () => {
    const { csr, signature, key } = signingRequest(kms.machines.tdx(SHOP))
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
      const counted = `${method} INTERNAL_ERROR AGGREGATED_MR_NOT_ALLOWED`
      const expected = [500, 'INTERNAL_ERROR', self, counted]
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
    const { csr, signature } = signingRequest(kms.machines.tdx(SHOP))
    const other = signingRequest(kms.machines.tdx(SHOP))
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
    const { key: _, ...unbound } = signingRequest(kms.machines.tdx(SHOP), new Uint8Array(64))
    assert.deepEqual(await refused(undefined, 'SignCert', { api_version: 2, ...unbound }), [
      401,
      'UNAUTHORIZED',
      'Quote verification failed: report data mismatch',
      'SignCert UNAUTHORIZED REPORT_DATA_MISMATCH',
    ])
    const { key: _k, ...unknown } = signingRequest(kms.machines.tdx(OTHER))
    assert.deepEqual(await refused(undefined, 'SignCert', { api_version: 2, ...unknown }), [
      403,
      'MEASUREMENT_NOT_FOUND',
      'App not allowed: Boot denied: app not registered',
      'SignCert MEASUREMENT_NOT_FOUND APP_NOT_REGISTERED',
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
      const request = { api_version: 2, ...requestWith(kms.machines.tdx(SHOP), content) }
      const [other, why, error] = await refused(undefined, 'SignCert', request)
      assert.deepEqual([other, why], [400, 'INVALID_REQUEST'], name)
      assert.match(error, /^Failed to parse csr: /)
    }
  })

  test('by bytes that are others than they were, in SCALE and in MessagePack', async () => {
    // In certificates each is a handshake: fewer of these.
    for (const version of [0, 1] as const) {
      const whole = writeContainer(unboundContainer(kms.machines.tdx(SHOP), version))
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
          const request = requestWith(kms.machines.tdx(SHOP), content)
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

describe('after all of it', () => {
  test('no byte of a key has left', () => assertNothingLeft(among))

  test('the process is as it was', () => assertUnharmed(among, memoryBefore))

  test('an application gets its keys, and another KMS what it needs', () => assertGivesKeys(among))
})

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
