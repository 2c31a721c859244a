/** A KMS on real sockets: its certificate, its clients on simulated machines, and the others. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectPlain, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { gzipSync } from 'node:zlib'
import { readAuthority } from '../../plugins/kms/certificates/authority.ts'
import { keyV0 } from '../../plugins/kms/derivation/app-keys.ts'
import { appRootKey, diskKey, envKey } from '../../plugins/kms/derivation/kms-keys.ts'
import { deny, type Policy } from '../../plugins/kms/policy/policy.ts'
import type { ConnectionLimits } from '../../plugins/kms/server/connections.ts'
import { listenRaTls, type RaTlsListener } from '../../plugins/kms/server/listener.ts'
import { verifyPeer } from '../../plugins/kms/server/peer.ts'
import type { Kms } from '../../plugins/kms/server/public-methods.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { kmsRoutes } from '../../plugins/kms/server/routes.ts'
import { issueRpcCertificate } from '../../plugins/kms/server/rpc-certificate.ts'
import {
  type VerificationBudget,
  verificationBudget,
} from '../../plugins/kms/trust/verification-budget.ts'
import { verifyEvidence } from '../../plugins/kms/trust/verified-evidence.ts'
import { readRaTls } from '../../src/attest/ra-tls.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { pemBlock } from '../../src/x509/issue.ts'
import { lacks } from '../helpers/counterpart.ts'
import { hex, unhex } from './kms-fixtures.ts'
import {
  APP_EVENTS,
  attestedBy,
  attestedForAnother,
  attesterOf,
  type Client,
  cloud,
  mint,
  mintBy,
  rootsOf,
  temporaryCaOf,
} from './kms-server-fixtures.ts'

const { trust, ...machines } = cloud()
const material = createMaterial(randomRootKeys(), 'kms.example', undefined)
const { root } = material

/** Two machines of two applications, and one of neither. */
const SHOP = { ...APP_EVENTS, 'app-id': '01'.repeat(20), 'compose-hash': '01'.repeat(32) }
const BANK = { ...APP_EVENTS, 'app-id': '02'.repeat(20), 'compose-hash': '02'.repeat(32) }
const OTHER = { ...APP_EVENTS, 'app-id': '03'.repeat(20), 'compose-hash': '03'.repeat(32) }
const KMS = { ...APP_EVENTS, 'app-id': '04'.repeat(20), 'compose-hash': '04'.repeat(32) }

/** Knows the shop, the bank and the KMS; the bank may have one key by name. */
const policy: Policy = {
  app: async ({ composeHash }) => {
    const keys = composeHash === BANK['compose-hash'] ? ['vault'] : undefined
    const known = [SHOP, BANK].some((app) => app['compose-hash'] === composeHash)
    return known ? { allowed: true, gatewayAppId: '', keys } : deny('compose hash not allowed')
  },
  kms: async ({ composeHash }) =>
    composeHash === KMS['compose-hash']
      ? { allowed: true, gatewayAppId: '' }
      : deny('aggregated MR not allowed'),
  describe: async () => ({ isDev: false }),
}

interface Served extends RaTlsListener {
  /** How often somebody's evidence was looked at. */
  readonly verified: () => number
  readonly counted: string[]
}

const running: RaTlsListener[] = []
after(() => Promise.all(running.map((listener) => listener.close(100))))

const rpc = await issueRpcCertificate(material, attesterOf(machines.tdx(KMS)))

async function served(
  limits: Partial<ConnectionLimits> = {},
  budget?: VerificationBudget,
): Promise<Served> {
  const { boot: self } = await verifyEvidence(rpc.platform, rpc.spki, trust, Date.now())
  const kms: Kms = { roots: rootsOf(material), policy, trust, self, now: Date.now }
  const counted: string[] = []
  const requests = {
    inc: (labels: Readonly<Record<string, string>> = {}) => {
      counted.push(`${labels.method} ${labels.outcome} ${labels.reason}`)
    },
  }
  const temporaryCa = temporaryCaOf(material)
  let verified = 0
  const listener = await listenRaTls({
    host: '127.0.0.1',
    port: 0,
    pair: rpc.pair,
    temporaryCa: material.temporaryCa.certificate,
    app: kmsRoutes({ kms, requests, onRefused: () => undefined }),
    verify: (certificate) => {
      verified += 1
      return verifyPeer(certificate, temporaryCa, trust, Date.now())
    },
    limits,
    budget,
  })
  running.push(listener)
  return Object.assign(listener, { verified: () => verified, counted })
}

const main = await served()

interface Answer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

/** A client that speaks HTTP by itself, on one connection. */
class Connection {
  readonly socket: TLSSocket
  #received = Buffer.alloc(0)
  #ended = false

  private constructor(socket: TLSSocket) {
    this.socket = socket
    socket.on('data', (data: Buffer) => {
      this.#received = Buffer.concat([this.#received, data])
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#ended = true
    })
  }

  static async to(
    { port }: { readonly port: number },
    client?: Client,
    options: ConnectionOptions = {},
  ): Promise<Connection> {
    const own = client ? { cert: client.cert, key: client.key.pem } : {}
    const socket = connect({
      port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...own,
      ...options,
    })
    const connection = new Connection(socket)
    await once(socket, 'secureConnect')
    return connection
  }

  async ask(method: string, body: string | Uint8Array = '{}', head = ''): Promise<Answer> {
    const bytes = Buffer.from(body)
    this.socket.write(
      `POST ${method} HTTP/1.1\r\nHost: kms.example\r\n${head}Content-Length: ${bytes.length}\r\n\r\n`,
    )
    this.socket.write(bytes)
    return this.answer()
  }

  /** The next answer, which has to have its length. */
  async answer(): Promise<Answer> {
    for (;;) {
      const end = this.#received.indexOf('\r\n\r\n')
      if (end >= 0) {
        const [first = '', ...lines] = this.#received.subarray(0, end).toString().split('\r\n')
        const headers = new Map(
          lines.map((line): [string, string] => {
            const at = line.indexOf(':')
            return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()]
          }),
        )
        const length = Number(headers.get('content-length') ?? 0)
        const body = this.#received.subarray(end + 4, end + 4 + length)
        if (body.length === length) {
          this.#received = this.#received.subarray(end + 4 + length)
          return { status: Number(first.split(' ')[1]), headers, body }
        }
      }
      assert.ok(!this.#ended, `the connection ended after ${this.#received.toString('latin1')}`)
      await Promise.race([once(this.socket, 'data'), once(this.socket, 'close')])
    }
  }
}

/** One request on a connection of its own. */
async function ask(
  method: string,
  client?: Client,
  args: object | string = {},
  at: { readonly port: number } = main,
): Promise<Answer> {
  const connection = await Connection.to(at, client)
  const answer = await connection.ask(
    method,
    typeof args === 'string' ? args : JSON.stringify(args),
  )
  connection.socket.destroy()
  return answer
}

const json = ({ body }: Answer) => JSON.parse(body.toString()) as Record<string, string>

async function refusal(...args: Parameters<typeof ask>): Promise<readonly unknown[]> {
  const answer = await ask(...args)
  const { error, code } = json(answer)
  return [answer.status, code, error]
}

const clientOf = (events: Readonly<Record<string, string>>): Client =>
  mint(material, attestedBy(machines.tdx(events)))

describe('anybody', () => {
  test('is told about the KMS', async () => {
    const meta = await ask('/prpc/GetMeta?json')
    assert.equal(meta.status, 200)
    assert.equal(json(meta).ca_cert, material.authority.chain[0])
    assert.match(meta.headers.get('x-app-version') ?? '', /^v\d/)
    assert.equal(meta.headers.get('cache-control'), 'no-store')
    const protobuf = await ask('/prpc/KMS.GetMeta', undefined, '\x0a\x01a')
    assert.equal(protobuf.status, 200, 'its body is not looked at')
    const connection = await Connection.to(main)
    connection.socket.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n')
    assert.equal((await connection.answer()).body.toString(), 'OK')
    connection.socket.write(
      `GET /prpc/KMS.GetAppEnvEncryptPubKey?app_id=${'01'.repeat(20)} HTTP/1.1\r\nHost: x\r\n\r\n`,
    )
    assert.match(json(await connection.answer()).public_key ?? '', /^[0-9a-f]{64}$/)
    connection.socket.destroy()
  })

  test('is told which methods there are not', async () => {
    for (const path of ['/prpc/KMS.Nothing', '/prpc/Admin.ClearImageCache', '/Nothing']) {
      const method = path.slice(path.lastIndexOf('/') + 1)
      const expected = [404, 'SERVICE_NOT_FOUND', `Service not found: ${method}`]
      assert.deepEqual(await refusal(path), expected)
    }
  })

  test('gets no keys, and nothing signed, for the asking', async () => {
    const none = [401, 'UNAUTHORIZED', 'No attestation provided']
    for (const method of ['GetAppKey', 'GetKmsKey', 'GetKey', 'getKey']) {
      assert.deepEqual(await refusal(`/prpc/${method}`), none)
      assert.deepEqual(await refusal(`/prpc/KMS.${method}?json`), none)
    }
    const unsigned = [400, 'INVALID_REQUEST', 'Unsupported API version: 0']
    assert.deepEqual(await refusal('/prpc/KMS.SignCert?json'), unsigned)
  })
})

/** What is said to somebody who goes on sending, which a reset may overtake: one of some is heard. */
async function heard(
  client: Client,
  send: (connection: Connection) => Promise<Answer>,
): Promise<Answer> {
  for (let left = 20; ; left -= 1) {
    const connection = await Connection.to(main, client)
    try {
      return await send(connection)
    } catch (error) {
      if (left === 0) throw error
    } finally {
      connection.socket.destroy()
    }
  }
}

describe('a guest', () => {
  test('gets its keys by the sequence of dstack', async () => {
    // 1: the temporary authority, from a server that is not verified yet.
    const { temp_ca_cert, temp_ca_key, ca_cert } = json(await ask('/prpc/KMS.GetTempCaCert?json'))
    // 2: a certificate of its own making.
    const authority = readAuthority(temp_ca_cert ?? '', createPrivateKey(temp_ca_key ?? ''))
    const client = mintBy(authority, attestedBy(machines.tdx(SHOP)))
    // 3: the same server, with its chain, its name and its usage.
    const strict = { ca: ca_cert, rejectUnauthorized: true, servername: 'kms.example' }
    const connection = await Connection.to(main, client, strict)
    const shown = parseCertificate(new Uint8Array(connection.socket.getPeerCertificate().raw))
    const { usage, evidence } = readRaTls(shown)
    assert.equal(usage, 'kms:rpc')
    assert.ok(evidence?.bound)
    const server = await verifyEvidence(evidence.platform, shown.spki, trust, Date.now())
    assert.equal(server.boot.appId, KMS['app-id'])
    // 4: the keys.
    const body = JSON.stringify({ api_version: 1, vm_config: '{}' })
    const answer = await connection.ask('/prpc/KMS.GetAppKey?json', body)
    const keys = json(answer)
    assert.equal(answer.status, 200, keys.error)
    const appId = unhex(SHOP['app-id'])
    assert.equal(keys.k256_key, hex(appRootKey(root, appId)))
    assert.equal(keys.env_crypt_key, hex(envKey(root, appId)))
    assert.equal(keys.disk_crypt_key, hex(diskKey(root, appId, unhex(SHOP['instance-id']))))
    assert.equal(keys.os_image_hash, SHOP['os-image-hash'])
    // And by name, as bytes and as JSON, on the same connection and the same verification.
    const before = main.verified()
    const raw = await connection.ask('/prpc/getKey', '{"name":"my-api-key"}')
    const expected = keyV0(appRootKey(root, appId), 'my-api-key')
    assert.equal(raw.headers.get('content-type'), 'application/octet-stream')
    assert.equal(hex(raw.body), hex(expected))
    const text = await connection.ask('/prpc/KMS.GetKey?json', '{"name":"my-api-key"}')
    assert.deepEqual(json(text), { key: hex(expected) })
    assert.equal(main.verified(), before)
    connection.socket.destroy()
  })

  test('on another machine gets others, and in an enclave, too, if it is registered', async () => {
    const [one, two] = [
      await ask('/prpc/GetAppKey', clientOf(SHOP)),
      await ask('/prpc/GetAppKey', clientOf(BANK)),
    ]
    assert.equal(one.status, 200)
    assert.equal(json(two).k256_key, hex(appRootKey(root, unhex(BANK['app-id']))))
    assert.notEqual(json(one).k256_key, json(two).k256_key)
    const enclave = mint(material, attestedBy(machines.nitro()))
    const why = 'App not allowed: Boot denied: compose hash not allowed'
    assert.deepEqual(await refusal('/prpc/GetAppKey', enclave), [403, 'MEASUREMENT_NOT_FOUND', why])
  })

  test('gets no keys by names that the policy does not list', async () => {
    const client = clientOf(BANK)
    assert.equal((await ask('/prpc/getKey', client, { name: 'vault' })).body.length, 32)
    const [status, code] = await refusal('/prpc/getKey', client, { name: 'other' })
    assert.deepEqual([status, code], [404, 'KEY_NOT_FOUND'])
  })

  test('that is no KMS gets no root keys, and a KMS does', async () => {
    assert.deepEqual(await refusal('/prpc/GetKmsKey', clientOf(SHOP)), [
      403,
      'MEASUREMENT_NOT_FOUND',
      'KMS not allowed: Boot denied: aggregated MR not allowed',
    ])
    const answer = JSON.parse((await ask('/prpc/GetKmsKey', clientOf(KMS))).body.toString())
    assert.equal(answer.keys[0].k256_key, hex(root.k256))
    const spki = createPublicKey(createPrivateKey(answer.keys[0].ca_key))
    const own = createPublicKey(material.authority.privateKey)
    assert.ok(spki.equals(own))
  })
})

describe('nobody else gets keys, and the KMS serves on', () => {
  const secrets = [SHOP, BANK, OTHER, KMS].flatMap((app) => {
    const id = unhex(app['app-id'])
    const keys = [
      appRootKey(root, id),
      envKey(root, id),
      diskKey(root, id, unhex(app['instance-id'])),
    ]
    return [...keys, keyV0(keys[0] as Uint8Array, '')]
  })
  const guarded = [...secrets, root.ca, root.k256]

  test('with evidence that is another’s, forged, debugged, unregistered, or by another maker', async () => {
    const debug = machines.tdx(SHOP, (report) => {
      report[512] = 1
    })
    const elsewhere = createMaterial(randomRootKeys(), 'kms.example', undefined)
    const clients: Client[] = [
      mint(material, () => []),
      mint(material, attestedForAnother(machines.tdx(SHOP))),
      mint(material, attestedBy(cloud().tdx(SHOP))),
      mint(material, attestedBy(debug)),
      mint(elsewhere, attestedBy(machines.tdx(SHOP))),
      mint(material, attestedBy(machines.tdx(SHOP)), { notAfter: 1_000_000_000 }),
      clientOf(OTHER),
    ]
    for (const client of clients) {
      for (const method of ['GetAppKey', 'GetKmsKey', 'GetKey?json']) {
        const { status, body } = await ask(`/prpc/${method}`, client)
        assert.ok(status === 401 || status === 403, `${method}: ${status} ${body}`)
        for (const secret of guarded) {
          assert.ok(!body.includes(Buffer.from(secret)) && !body.includes(hex(secret)))
        }
      }
    }
    assert.ok(main.counted.includes('GetAppKey UNAUTHORIZED REPORT_DATA_MISMATCH'))
    assert.ok(main.counted.includes('GetAppKey UNAUTHORIZED TD_DEBUG'))
    assert.ok(main.counted.includes('GetAppKey MEASUREMENT_NOT_FOUND COMPOSE_HASH_NOT_ALLOWED'))
    assert.ok(main.counted.includes('GetAppKey answered '))
  })

  test('with requests that are none', async () => {
    const client = clientOf(SHOP)
    const bomb = gzipSync(Buffer.alloc(1_000_000))
    for (const [body, head, status, code] of [
      ['{"api_version":"1"}', '', 400, 'INVALID_REQUEST'],
      ['{"api_version":-1}', '', 400, 'INVALID_REQUEST'],
      ['{"api_version":', '', 400, 'INVALID_JSON'],
      [Buffer.from('0801', 'hex'), '', 415, 'BODY_NOT_JSON'],
      [bomb, 'Content-Encoding: gzip\r\n', 415, 'BODY_NOT_JSON'],
    ] as const) {
      const connection = await Connection.to(main, client)
      const answer = await connection.ask('/prpc/GetAppKey', body, head)
      assert.deepEqual([answer.status, json(answer).code], [status, code])
      connection.socket.destroy()
    }
    const surrogate = await refusal('/prpc/getKey', client, '{"name":"\\ud800"}')
    assert.deepEqual(surrogate.slice(0, 2), [400, 'INVALID_REQUEST'])
    assert.equal((await refusal('/prpc/GetAppKey', client, { api_version: 2 }))[0], 400)
    const large = 'x'.repeat(0x110000)
    const refused = await heard(client, (connection) => connection.ask('/prpc/GetAppKey', large))
    assert.deepEqual([refused.status, json(refused).code], [413, 'BODY_TOO_LARGE'])
    const chunked = await heard(client, (connection) => {
      const { socket } = connection
      socket.write('POST /prpc/GetAppKey HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n')
      socket.write(`110000\r\n${large}\r\n0\r\n\r\n`)
      return connection.answer()
    })
    assert.equal(chunked.status, 413)
    assert.equal((await ask('/prpc/GetAppKey', client)).status, 200)
  })

  test('with a certificate that is somebody else’s', async (t) => {
    if (lacks(t, 'openssl')) return
    const [victim, thief] = [clientOf(SHOP), clientOf(SHOP)]
    const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
    t.after(() => rmSync(folder, { recursive: true, force: true }))
    const before = main.verified()
    const asked = async (key: string) => {
      writeFileSync(join(folder, 'cert.pem'), victim.cert)
      writeFileSync(join(folder, 'key.pem'), key)
      const files = ['-cert', join(folder, 'cert.pem'), '-key', join(folder, 'key.pem')]
      const to = ['-connect', `127.0.0.1:${main.port}`]
      const args = ['s_client', '-quiet', ...to, ...files]
      const client = spawn('openssl', args, { timeout: 20_000 })
      const parts: Buffer[] = []
      client.stdout.on('data', (data: Buffer) => parts.push(data))
      client.stdin.on('error', () => undefined)
      client.stdin.write('GET /prpc/GetAppKey HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
      await once(client, 'close')
      return Buffer.concat(parts).toString('latin1')
    }
    // The key of the thief, said to be that of the certificate, which programs take its word for.
    const forged = Buffer.from(pkcs8(victim))
    const scalar = forged.indexOf(scalarOf(victim))
    forged.set(scalarOf(thief), scalar)
    assert.equal(await asked(pemBlock('PRIVATE KEY', forged)), '')
    assert.equal(main.verified(), before, 'nobody even looked at it')
    assert.match(await asked(victim.key.pem), /^HTTP\/1\.1 200 /)
  })

  test('without TLS, or with an older one', async () => {
    // Whoever does not speak it is not waited for.
    const listener = await served({ handshakeTimeoutMs: 3_600_000 })
    const before = listener.counted.length
    for (const said of [
      'POST /prpc/GetAppKey HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n',
      'GET / HTTP/1.0\r\n\r\n',
      'SSH-2.0-OpenSSH_9.2\r\n',
    ]) {
      const plain = connectPlain(listener.port, '127.0.0.1')
      plain.on('error', () => undefined)
      let text = ''
      plain.on('data', (data) => {
        text += data.toString('latin1')
      })
      plain.write(said)
      await once(plain, 'close')
      assert.ok(!text.includes('HTTP'), text)
    }
    assert.equal(listener.counted.length, before)
    const old = { maxVersion: 'TLSv1.2' } as const
    await assert.rejects(Connection.to(main, clientOf(SHOP), old))
    assert.equal((await ask('/prpc/GetAppKey', clientOf(SHOP))).status, 200)
  })
})

const pkcs8 = ({ key }: Client): Buffer =>
  createPrivateKey(key.pem).export({ type: 'pkcs8', format: 'der' })

const scalarOf = ({ key }: Client): Buffer =>
  Buffer.from(createPrivateKey(key.pem).export({ format: 'jwk' }).d ?? '', 'base64url')

describe('the listener', () => {
  const ended = (socket: Socket) => (socket.destroyed ? undefined : once(socket, 'close'))

  test('cuts those who are slow in the handshake, in a head, in a body, or do nothing', async () => {
    const limits = { handshakeTimeoutMs: 300, idleTimeoutMs: 300, requestTimeoutMs: 300 }
    const listener = await served(limits)
    const silent = connectPlain(listener.port, '127.0.0.1')
    const [idle, head, body] = [
      await Connection.to(listener),
      await Connection.to(listener),
      await Connection.to(listener),
    ]
    for (const socket of [silent, idle.socket, head.socket, body.socket]) {
      socket.on('error', () => undefined)
      socket.resume()
    }
    head.socket.write('GET /health HTTP/1.1\r\nHos')
    body.socket.write('POST /prpc/GetMeta HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{')
    await Promise.all([silent, idle.socket, head.socket, body.socket].map(ended))
    assert.equal((await ask('/prpc/GetMeta', undefined, {}, listener)).status, 200)
  })

  test('takes so many connections of one peer and no more, until some end', async () => {
    const listener = await served({ maxConnectionsPerPeer: 2 })
    const [one, two] = [await Connection.to(listener), await Connection.to(listener)]
    await assert.rejects(Connection.to(listener))
    one.socket.destroy()
    await ended(one.socket)
    for (;;) {
      const next = await Connection.to(listener).catch(() => undefined)
      if (!next) continue
      assert.equal((await next.ask('/prpc/GetMeta')).status, 200)
      break
    }
    assert.equal((await two.ask('/prpc/GetMeta')).status, 200)
  })

  test('has a head of a bounded size', async () => {
    const connection = await Connection.to(main)
    connection.socket.write(`GET /health HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`)
    // What it was refused with may be lost, as the rest of the head is never read.
    const answer = await connection.answer().catch(() => undefined)
    assert.ok(answer === undefined || answer.status === 431)
    await ended(connection.socket)
    assert.equal((await ask('/prpc/GetMeta')).status, 200)
  })

  test('answers some requests in one piece, and cuts who asks on and on', async () => {
    const asked = (count: number) =>
      'POST /prpc/GetMeta HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n'.repeat(count)
    const connection = await Connection.to(main)
    connection.socket.write(asked(8))
    for (let n = 0; n < 8; n++) assert.equal((await connection.answer()).status, 200)
    const before = main.counted.length
    // Not by `once`, for which an error is none.
    const cut = new Promise((resolve) => connection.socket.on('close', resolve))
    connection.socket.write(asked(2000))
    await cut
    assert.ok(main.counted.length - before < 100)
    assert.equal((await ask('/prpc/GetMeta')).status, 200)
  })

  test('takes another certificate while it serves, and asks clients for theirs as before', async () => {
    const listener = await served()
    const renewed = await issueRpcCertificate(material, attesterOf(machines.tdx(KMS)))
    const shown = async () => {
      const connection = await Connection.to(listener, clientOf(SHOP))
      const { raw } = connection.socket.getPeerCertificate()
      const { status } = await connection.ask('/prpc/GetAppKey')
      connection.socket.destroy()
      return [hex(parseCertificate(new Uint8Array(raw)).spki), status]
    }
    assert.deepEqual(await shown(), [hex(rpc.spki), 200])
    listener.replaceTls(renewed.pair)
    assert.deepEqual(await shown(), [hex(renewed.spki), 200])
  })

  test('knows a client again that comes back with the session it had', async () => {
    const client = clientOf(SHOP)
    const first = await Connection.to(main, client)
    const sessions: Buffer[] = []
    first.socket.on('session', (session: Buffer) => sessions.push(session))
    assert.equal((await first.ask('/prpc/GetAppKey')).status, 200)
    first.socket.destroy()
    for (const session of sessions) {
      const again = await Connection.to(main, client, { session })
      assert.equal((await again.ask('/prpc/GetAppKey')).status, 200)
      again.socket.destroy()
    }
  })

  test('looks at the evidence of a client once, also where it refuses it', async () => {
    for (const [client, status] of [
      [clientOf(SHOP), 200],
      [mint(material, attestedForAnother(machines.tdx(SHOP))), 401],
    ] as const) {
      const before = main.verified()
      const connection = await Connection.to(main, client)
      for (let i = 0; i < 3; i++) {
        assert.equal((await connection.ask('/prpc/GetAppKey')).status, status)
      }
      connection.socket.destroy()
      for (let i = 0; i < 3; i++) {
        assert.equal((await ask('/prpc/GetAppKey', client)).status, status)
      }
      assert.equal(main.verified(), before + 1)
    }
    const before = main.verified()
    const client = clientOf(BANK)
    const several = [1, 2, 3, 4].map(() => ask('/prpc/GetAppKey', client))
    for (const { status } of await Promise.all(several)) assert.equal(status, 200)
    assert.equal(main.verified(), before + 1)
  })

  test('tells clients apart that come from one machine', async () => {
    const [shop, bank] = [clientOf(SHOP), clientOf(BANK)]
    for (const [client, app] of [
      [shop, SHOP],
      [bank, BANK],
      [shop, SHOP],
    ] as const) {
      const { k256_key } = json(await ask('/prpc/GetAppKey', client))
      assert.equal(k256_key, hex(appRootKey(root, unhex(app['app-id']))))
    }
  })

  test('verifies so much for strangers and no more, and serves on whom it knows', async () => {
    const rate = { burst: 2, perSecond: 1 / 3600 }
    const budget = verificationBudget({ perPeer: rate, all: rate, maxPeers: 10 })
    const listener = await served({}, budget)
    const known = clientOf(SHOP)
    const status = async (client?: Client) =>
      (await ask('/prpc/GetAppKey', client, {}, listener)).status
    assert.equal(await status(known), 200)
    assert.equal(await status(mint(material, () => [])), 401)
    const refused = await ask('/prpc/GetAppKey', clientOf(SHOP), {}, listener)
    assert.equal(refused.status, 429)
    assert.equal(json(refused).code, 'RATE_LIMITED')
    const wait = Number(refused.headers.get('retry-after'))
    assert.ok(wait > 3000 && wait <= 3600, String(wait))
    const before = listener.verified()
    assert.equal(await status(known), 200)
    assert.equal(await status(), 401)
    assert.equal((await ask('/prpc/GetMeta', undefined, {}, listener)).status, 200)
    assert.equal(await status(clientOf(BANK)), 429)
    assert.equal(listener.verified(), before + 1, 'only whoever showed no certificate')
    assert.ok(listener.counted.includes('GetAppKey RATE_LIMITED '))
  })

  test('pays for evidence inside of requests, too', async () => {
    const rate = { burst: 1, perSecond: 1 / 3600 }
    const budget = verificationBudget({ perPeer: rate, all: rate, maxPeers: 10 })
    const listener = await served({}, budget)
    const body = { api_version: 2, csr: '00', signature: '00' }
    const sign = async () => (await ask('/prpc/KMS.SignCert', undefined, body, listener)).status
    assert.equal(await sign(), 400)
    assert.equal(await sign(), 429)
    assert.equal((await ask('/prpc/GetAppKey', clientOf(SHOP), {}, listener)).status, 429)
  })

  test('ends what is idle when it closes, and nobody comes in', async () => {
    const listener = await served()
    const idle = await Connection.to(listener)
    assert.equal((await idle.ask('/prpc/GetMeta')).status, 200)
    const silent = connectPlain(listener.port, '127.0.0.1')
    silent.on('error', () => undefined)
    await once(silent, 'connect')
    await listener.close(5000)
    silent.resume()
    await Promise.all([ended(idle.socket), ended(silent)])
    await assert.rejects(Connection.to(listener))
  })
})
