import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Hono } from 'hono'
import * as v from 'valibot'
import type { KnownCertificate } from '../src/auth/certificates.ts'
import { definePlugin, type PluginEnv } from '../src/plugin.ts'
import { type ClientTrust, loadClientTrust } from '../src/tls/client-trust.ts'
import { createSelfSigned } from '../src/tls/self-signed.ts'
import { certificatePem } from '../src/x509/issue.ts'
import { certify, type Issued } from './helpers/certificates.ts'
import {
  crlOf,
  issueClient,
  keySha256,
  rsaAuthority,
  SERVER_AUTH,
  sha256,
  type TestClient,
} from './helpers/client-pki.ts'
import { lacks } from './helpers/counterpart.ts'
import { serveTest, type TestServer } from './helpers/http-server.ts'
import { type RawAnswer, RawClient } from './helpers/raw-http.ts'

const probe = definePlugin({
  name: 'probe',
  summary: 'Says who asks',
  config: v.strictObject({}),
  exposure: 'network',
  setup: () => ({
    routes: new Hono<PluginEnv>().get('/probe/who', (c) => {
      const { kind, name } = c.env.caller
      return c.text(`${kind} ${name}`)
    }),
  }),
})

const DAY_MS = 24 * 3600 * 1000
const authority = certify({ name: 'authority' })
const stranger = certify({ name: 'stranger' })
const pair = createSelfSigned(['localhost'], Date.now())

function trustIn(authorities: readonly Issued[], crls?: readonly string[]): ClientTrust {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-trust-'))
  try {
    const [client_ca, client_crl] = [join(folder, 'ca.pem'), join(folder, 'crl.pem')]
    writeFileSync(client_ca, authorities.map(({ der }) => certificatePem(der)).join(''))
    if (crls) writeFileSync(client_crl, crls.join(''))
    return loadClientTrust({ client_ca, ...(crls && { client_crl }) })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const known = (by: Partial<KnownCertificate>, scopes = ['probe:read']): KnownCertificate => ({
  name: 'ada',
  scopes,
  ...by,
})

async function serving(
  work: (server: TestServer) => Promise<void>,
  trust: ClientTrust,
  certificates: readonly KnownCertificate[] = [known({ common_name: 'client' })],
): Promise<void> {
  const auth = ['certificate', 'key'] as const
  const tls = { ...pair, clients: trust }
  const server = await serveTest([probe], { auth: [...auth] }, { tls, certificates })
  try {
    await work(server)
  } finally {
    await server.stop()
  }
}

function connectAs(
  { listener }: TestServer,
  client?: Pick<TestClient, 'cert' | 'key'>,
  version: 'TLSv1.2' | 'TLSv1.3' = 'TLSv1.3',
): Promise<RawClient> {
  const versions = { minVersion: version, maxVersion: version }
  const shown = client && { cert: client.cert, key: client.key }
  const tls = { rejectUnauthorized: false, ...versions, ...shown }
  return RawClient.connect({ port: listener.port, tls })
}

async function ask(client: RawClient, token?: string): Promise<RawAnswer> {
  const authorization = token === undefined ? '' : `Authorization: Bearer ${token}\r\n`
  client.send(`GET /probe/who HTTP/1.1\r\nHost: localhost\r\n${authorization}\r\n`)
  const answer = await client.answer(5000)
  assert.ok(answer, 'an answer')
  return answer
}

async function askAs(...args: Parameters<typeof connectAs>): Promise<RawAnswer> {
  const client = await connectAs(...args)
  try {
    return await ask(client)
  } finally {
    client.destroy()
  }
}

const detail = ({ body }: RawAnswer): string => (JSON.parse(body) as { detail: string }).detail

test('each way to tell a certificate names its caller, on TLS 1.2 and 1.3', async () => {
  const names = { uri: 'spiffe://x/ada', dns: 'ada.example', email: 'ada@example.org' }
  const client = issueClient(authority, { name: 'Ada', ...names })
  for (const by of [
    { sha256: sha256(client.der) },
    { key_sha256: keySha256(client) },
    { common_name: 'Ada' },
    { uri: names.uri },
    { dns: names.dns },
    { email: names.email },
  ]) {
    const work = async (server: TestServer) => {
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
        const answer = await askAs(server, client, version)
        assert.equal(`${answer.status} ${answer.body}`, '200 certificate ada', JSON.stringify(by))
      }
    }
    await serving(work, trustIn([stranger, authority]), [known(by)])
  }
})

test('of several entries the first counts, scopes hold, and a kind is no other kind', async () => {
  const client = issueClient(authority, { name: 'uri:x', uri: 'ada' })
  const work = async (server: TestServer) => {
    const answer = await askAs(server, client)
    assert.equal(answer.status, 403)
    assert.equal(detail(answer), 'Caller "first" lacks the scope "probe:read"')
    assert.equal((await askAs(server, issueClient(authority, { name: 'ada' }))).status, 401)
  }
  await serving(work, trustIn([authority]), [
    known({ uri: 'x', name: 'wrong' }),
    known({ uri: 'ada', name: 'first' }, ['events:read']),
    known({ common_name: 'uri:x', name: 'second' }),
  ])
})

test('certificates that are not good are refused with the reason, and are no caller', async () => {
  const below = issueClient(authority, { name: 'below', ca: true })
  const leaf = issueClient(authority)
  const past = { from: Date.UTC(2020, 0), to: Date.UTC(2021, 0) }
  const ended = issueClient(authority, { name: 'ended', ca: true, ...past })
  const cases: [TestClient, RegExp][] = [
    [issueClient(authority, past), /^The client certificate "client" has expired$/],
    [issueClient(authority, { from: Date.UTC(2050, 0), to: Date.UTC(2051, 0) }), /not valid yet$/],
    [issueClient(stranger), /is not signed by one of the authorities here$/],
    [issueClient(certify({ name: 'authority' })), /is not signed by one of the authorities here$/],
    [issueClient(below), /is not signed by one of the authorities here$/],
    [issueClient(leaf, { with: [leaf] }), /is signed by "client", which is no certificate of/],
    [issueClient(ended, { with: [ended] }), /not valid when the connection was made$/],
    [issueClient(authority, { usage: SERVER_AUTH }), /is not made for clients/],
    [issueClient(authority, { name: 'unknown' }), /is nobody's who is known here$/],
  ]
  await serving(
    async (server) => {
      for (const [client, why] of cases) {
        const answer = await askAs(server, client)
        assert.equal(answer.status, 401, String(why))
        assert.match(detail(answer), why)
        assert.equal(answer.headers.get('connection'), 'close')
      }
      const through = issueClient(below, { with: [below] })
      assert.equal((await askAs(server, through)).body, 'certificate ada')
    },
    trustIn([authority]),
  )
})

test('who has no certificate, or a bad one, may use the other ways', async () => {
  await serving(
    async (server) => {
      const { token } = await server.keys.add({ name: 'ci', scopes: ['probe:read'] })
      for (const [shown, caller] of [
        [undefined, 'key ci'],
        [issueClient(stranger), 'key ci'],
        [issueClient(authority), 'certificate ada'],
      ] as const) {
        const client = await connectAs(server, shown)
        assert.equal((await ask(client, token)).body, caller)
        client.destroy()
      }
      const none = await askAs(server)
      assert.equal(none.status, 401)
      assert.equal(none.headers.get('www-authenticate'), 'Bearer realm="cvmd"')
      assert.notEqual(none.headers.get('connection'), 'close')
    },
    trustIn([authority]),
  )
})

test('authorities and keys may be RSA, too', async () => {
  const rsa = rsaAuthority('rsa')
  await serving(
    async (server) => {
      const client = issueClient(rsa, { kind: 'rsa' })
      assert.equal((await askAs(server, client)).body, 'certificate ada')
      assert.equal((await askAs(server, issueClient(rsaAuthority('rsa')))).status, 401)
    },
    trustIn([rsa]),
  )
})

test('revoked certificates are refused, and those nobody keeps a current list for', async () => {
  const below = issueClient(authority, { name: 'below', ca: true })
  const [good, bad] = [issueClient(authority), issueClient(authority)]
  const through = issueClient(below, { with: [below] })
  const list = crlOf(authority, [bad])
  const refusals = async (trust: ClientTrust, clients: readonly TestClient[]) => {
    const found: string[] = []
    await serving(async (server) => {
      for (const client of clients) {
        const answer = await askAs(server, client)
        found.push(answer.status === 200 ? answer.body : detail(answer))
      }
    }, trust)
    return found.map((text) => text.replace('The client certificate "client" ', ''))
  }
  assert.deepEqual(await refusals(trustIn([authority], [list]), [good, bad, through]), [
    'certificate ada',
    'is revoked',
    'has no revocation list of "below"',
  ])
  const both = trustIn([authority], [list, crlOf(below, [])])
  assert.deepEqual(await refusals(both, [through]), ['certificate ada'])
  const withoutBelow = trustIn([authority], [crlOf(authority, [below]), crlOf(below, [])])
  assert.deepEqual(await refusals(withoutBelow, [through]), ['is revoked'])
  const late = crlOf(authority, [], { from: Date.now() - 2 * DAY_MS, to: Date.now() - DAY_MS })
  assert.deepEqual(await refusals(trustIn([authority], [late]), [good]), [
    'is signed by an authority, or on a list, that is out of date',
  ])
  assert.deepEqual(await refusals(trustIn([authority], [late, list]), [good, bad]), [
    'certificate ada',
    'is revoked',
  ])
})

test('open connections are judged by what is in force', async () => {
  const client = issueClient(authority)
  await serving(
    async (server) => {
      const open = await connectAs(server, client)
      assert.equal((await ask(open)).status, 200)
      server.listener.replaceTls({ ...pair, clients: trustIn([authority], [crlOf(authority, [])]) })
      assert.equal((await ask(open)).status, 200)
      const revoked = [crlOf(authority, [client])]
      server.listener.replaceTls({ ...pair, clients: trustIn([authority], revoked) })
      assert.match(detail(await ask(open)), /is revoked$/)
      assert.ok(await open.closed(5000))
      server.listener.replaceTls({ ...pair, clients: trustIn([stranger]) })
      assert.equal((await askAs(server, client)).status, 401)
      assert.equal((await askAs(server, issueClient(stranger))).status, 200)
    },
    trustIn([authority]),
  )
})

test('a certificate that ends while its connection is open is good no longer', async () => {
  const client = issueClient(authority, { to: Math.ceil(Date.now() / 1000) * 1000 + 2000 })
  await serving(
    async (server) => {
      const open = await connectAs(server, client)
      const answers: RawAnswer[] = []
      while (answers.at(-1)?.status !== 401) {
        answers.push(await ask(open))
        await new Promise((tick) => setTimeout(tick, 100))
      }
      assert.equal(answers[0]?.status, 200)
      assert.match(detail(answers.at(-1) as RawAnswer), /has expired$/)
      open.destroy()
    },
    trustIn([authority]),
  )
})

test('a resumed session is no way around any of this', async (t) => {
  if (lacks(t, 'openssl')) return
  const client = issueClient(authority)
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-resume-'))
  const at = (name: string) => join(folder, name)
  writeFileSync(at('cert.pem'), client.cert)
  writeFileSync(at('key.pem'), client.key)
  // Bun gives no session to come back with.
  const resumed = (name: string) => (existsSync(at(name)) ? ['-sess_in', at(name)] : [])
  const shown = ['-cert', at('cert.pem'), '-key', at('key.pem')]
  try {
    await serving(
      async (server) => {
        const to = ['s_client', '-connect', `127.0.0.1:${server.listener.port}`, '-ign_eof']
        for (const version of ['-tls1_2', '-tls1_3']) {
          const once = (...args: string[]) => talk([...to, version, ...args])
          server.listener.replaceTls({ ...pair, clients: trustIn([authority]) })
          assert.match(await once(...shown, '-sess_out', at('session')), /certificate ada/)
          assert.match(await once('-sess_out', at('none')), /401 Unauthorized/)
          server.listener.replaceTls({ ...pair, clients: trustIn([stranger]) })
          assert.match(await once(...shown, ...resumed('session')), /401 Unauthorized/)
          assert.match(await once(...resumed('none')), /401 Unauthorized/)
        }
        // A client that becomes another one within its connection.
        assert.match(
          await talk([...to.slice(0, -1), '-tls1_2', ...shown], 'R\n'),
          /no renegotiation/,
        )
      },
      trustIn([authority]),
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

/** Runs openssl's client, whose first line of input may be a command of its own. */
function talk(args: readonly string[], command = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('openssl', args, { stdio: ['pipe', 'pipe', 'pipe'] })
    let text = ''
    const heard = (data: Buffer) => {
      text += data
    }
    child.stdout.on('data', heard)
    child.stderr.on('data', heard)
    child.stdin.on('error', () => undefined)
    child.once('error', reject)
    child.once('close', () => resolve(text))
    child.stdin.write(
      command || 'GET /probe/who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    )
  })
}

test('what cannot be read is refused', () => {
  assert.throws(() => trustIn([issueClient(authority)]), /"client" is no certificate of an auth/)
  assert.throws(() => trustIn([]), /there is no CERTIFICATE block/)
  assert.throws(() => trustIn([authority], ['']), /there is no X509 CRL block/)
  const forged = crlOf(certify({ name: 'authority' }), [])
  assert.throws(() => trustIn([authority], [forged]), /a list of "authority" is not signed by it/)
  assert.throws(() => trustIn(Array(65).fill(authority)), /more than 64 CERTIFICATE blocks/)
  const missing = { client_ca: '/nonexistent/ca.pem' }
  assert.throws(() => loadClientTrust(missing), /Cannot use client authorities "\/nonexistent/)
})
