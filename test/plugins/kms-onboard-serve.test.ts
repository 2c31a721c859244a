/** The set-up of a KMS over HTTP, on real sockets: with curl's bytes, with a browser's, with others'. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import {
  type Onboarding,
  type OnboardingOptions,
  serveOnboarding,
} from '../../plugins/kms/onboarding/serve.ts'
import { deny, type Policy, PolicyError } from '../../plugins/kms/policy/policy.ts'
import { openRootKeys } from '../../plugins/kms/server/root-store.ts'
import { deviceId } from '../../src/attest/identity.ts'
import { NO_ATTESTER } from '../../src/attester/none.ts'
import { errnoOf } from '../../src/errors.ts'
import { type RawAnswer, RawClient, rawRequest } from '../helpers/raw-http.ts'
import { hex, unhex } from './kms-fixtures.ts'
import { FINE, failingSteps, kmsPolicy, temporaryFolder } from './kms-onboard-fixtures.ts'
import { APP_EVENTS, attesterOf, cloud } from './kms-server-fixtures.ts'

const { trust, ...machines } = cloud()
const attester = attesterOf(machines.tdx())

const running: Onboarding[] = []
after(() => Promise.all(running.map((onboarding) => onboarding.close(100))))

interface Served extends Onboarding {
  readonly folder: string
  readonly stateDir: string
  /** Methods, outcomes and reasons that were counted. */
  readonly counted: string[]
  readonly events: string[]
  readonly token: string
}

async function served(t: TestContext, parts: Partial<OnboardingOptions> = {}): Promise<Served> {
  const stateDir = join(temporaryFolder(t), 'kms')
  const folder = join(stateDir, 'root-keys')
  const counted: string[] = []
  const events: string[] = []
  const onboarding = await serveOnboarding({
    host: '127.0.0.1',
    port: 0,
    stateDir,
    folder,
    requireToken: true,
    attester,
    policy: kmsPolicy(FINE),
    trust,
    enforceSelf: true,
    siteName: 'site 7',
    requests: {
      inc: ({ method, outcome, reason } = {}) => {
        counted.push([method, outcome, ...(reason ? [reason] : [])].join(' '))
      },
    },
    onRefused: (method, { code }) => counted.push(`refused ${method} ${code}`),
    onEvent: (text) => events.push(text),
    ...parts,
  })
  running.push(onboarding)
  const { tokenFile } = onboarding
  const token = tokenFile === undefined ? '' : readFileSync(tokenFile, 'utf8').trim()
  return Object.assign(onboarding, { stateDir, folder, counted, events, token })
}

interface Asked {
  readonly method?: string
  readonly body?: string
  readonly host?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Sends a request as it is given, without anything a client would add. */
async function ask(
  { port, token }: Pick<Served, 'port' | 'token'>,
  path: string,
  { body, method = body === undefined ? 'GET' : 'POST', host, headers = {} }: Asked = {},
): Promise<RawAnswer> {
  const all = {
    ...(token !== '' && { Authorization: `Bearer ${token}` }),
    ...(body !== undefined && { 'Content-Length': String(Buffer.byteLength(body)) }),
    ...headers,
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  const head = `${method} ${path} HTTP/1.1\r\nHost: ${host ?? `127.0.0.1:${port}`}\r\n`
  const answer = await rawRequest({ port }, `${head}${lines.join('')}\r\n${body ?? ''}`, 20_000)
  assert.ok(answer, `${method} ${path} was not answered`)
  return answer
}

const bootstrap = (server: Served, asked: Asked = {}) =>
  ask(server, '/prpc/Onboard.Bootstrap', { body: '{"domain":"kms.example"}', ...asked })

const json = ({ body }: RawAnswer) => JSON.parse(body) as Record<string, string>

const refusal = (answer: RawAnswer) => [answer.status, json(answer).code]

const form = (fields: Readonly<Record<string, string>>, headers = {}): Asked => ({
  body: new URLSearchParams(fields).toString(),
  headers: { 'Content-Type': 'application/x-www-form-urlencoded', Authorization: '', ...headers },
})

describe('onboarding', () => {
  test('goes from no keys to the end by the two lines of the seed API', async (t) => {
    const server = await served(t, { requireToken: false })
    assert.equal(server.tokenFile, undefined)
    assert.deepEqual(refusal(await ask(server, '/finish')), [409, 'ROOT_KEYS_MISSING'])
    // curl -s "http://<KMS_URL>:12001/prpc/Onboard.Bootstrap?json" -d '{"domain": "<KMS_DOMAIN>"}'
    const curl = { 'User-Agent': 'curl/8.5.0', Accept: '*/*' }
    const answer = await ask(server, '/prpc/Onboard.Bootstrap?json', {
      body: '{"domain": "192.0.2.7"}',
      host: 'kms.example:12001',
      headers: { ...curl, 'Content-Type': 'application/x-www-form-urlencoded' },
    })
    assert.equal(answer.status, 200, answer.body)
    assert.equal(answer.headers.get('content-type'), 'application/json')
    assert.equal(answer.headers.get('cache-control'), 'no-store')
    assert.equal(answer.headers.get('content-length'), String(answer.body.length))
    const made = json(answer)
    const names = ['ca_pubkey', 'k256_pubkey', 'attestation', 'publicKey', 'measurement']
    assert.deepEqual(Object.keys(made), names)
    const keys = await openRootKeys(server.folder)
    assert.ok(keys)
    assert.equal(made.k256_pubkey, hex(publicKeyOf('secp256k1', keys.root.k256)))
    assert.equal(keys.domain, '192.0.2.7')

    let isFinished = false
    void server.finished.then(() => {
      isFinished = true
    })
    const again = await bootstrap(server)
    assert.deepEqual(refusal(again), [409, 'ROOT_KEYS_EXIST'])
    assert.equal(json(again).error, 'KMS has already been bootstrapped')
    assert.equal(isFinished, false)
    const finish = await ask(server, '/finish', { host: 'kms.example:12001', headers: curl })
    assert.deepEqual([finish.status, finish.body], [200, 'OK'])
    await server.finished
    await server.close(2000)
    // As a KMS needs it next.
    const next = createServer()
    await new Promise<void>((resolve, reject) => {
      next.once('error', reject)
      next.listen(server.port, '127.0.0.1', resolve)
    })
    await new Promise((resolve) => next.close(resolve))
    assert.deepEqual(server.events, ['made root keys for 192.0.2.7', 'the KMS is set up'])
    assert.deepEqual(server.counted, [
      'Finish ROOT_KEYS_MISSING',
      'refused Finish ROOT_KEYS_MISSING',
      'Bootstrap answered',
      'Bootstrap ROOT_KEYS_EXIST',
      'refused Bootstrap ROOT_KEYS_EXIST',
      'Finish answered',
    ])
  })

  test('sends the last answer whole, although the listener is closed at once', async (t) => {
    for (let round = 0; round < 5; round++) {
      const server = await served(t, { requireToken: false, enforceSelf: false })
      assert.equal((await bootstrap(server)).status, 200)
      const closed = server.finished.then(() => server.close(2000))
      const method = round % 2 === 0 ? '/finish' : '/prpc/Onboard.Finish'
      const answer = await ask(server, method, round % 2 === 0 ? {} : { body: '{}' })
      assert.deepEqual([answer.status, answer.body], [200, round % 2 === 0 ? 'OK' : 'null'])
      await closed
    }
  })

  test('is known by both names of each method, and by nothing else', async (t) => {
    const server = await served(t)
    assert.equal((await ask(server, '/health')).body, 'OK')
    const info = '/prpc/Onboard.GetAttestationInfo'
    assert.equal((await ask(server, '/prpc/GetAttestationInfo')).status, 200)
    assert.equal((await ask(server, info, { body: '' })).status, 200)
    assert.equal((await ask(server, '/prpc/Bootstrap', { body: '{"domain":"a"}' })).status, 200)
    for (const path of ['/prpc/Onboard.GetMeta', '/prpc/KMS.Bootstrap', '/Bootstrap', '/metrics']) {
      assert.deepEqual(refusal(await ask(server, path, { body: '{}' })), [404, 'SERVICE_NOT_FOUND'])
    }
    assert.equal((await ask(server, '/prpc/Finish', { body: '' })).body, 'null')
  })

  test('changes nothing by GET or HEAD but to finish, which HEAD does not', async (t) => {
    const server = await served(t, { requireToken: false })
    for (const path of ['Bootstrap?domain=kms.example', 'Onboard?domain=a', 'Finish']) {
      for (const prefix of ['/prpc/', '/prpc/Onboard.']) {
        const answer = await ask(server, `${prefix}${path}`)
        assert.deepEqual(refusal(answer), [405, 'METHOD_NOT_ALLOWED'])
        assert.equal(answer.headers.get('allow'), 'POST')
      }
    }
    assert.equal(existsSync(server.folder), false)
    assert.equal((await bootstrap(server)).status, 200)
    assert.equal((await ask(server, '/finish', { method: 'HEAD' })).status, 405)
    assert.equal(server.events.length, 1)
  })

  test('does one thing at a time', async (t) => {
    let release = () => {}
    let asked = () => {}
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve
    })
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const fine = kmsPolicy(FINE)
    const policy: Policy = {
      ...fine,
      kms: async (info) => {
        asked()
        await held
        return fine.kms(info)
      },
    }
    const server = await served(t, { policy })
    const first = bootstrap(server)
    await isAsked
    const busy = await bootstrap(server)
    assert.deepEqual(refusal(busy), [409, 'ONBOARDING_BUSY'])
    assert.match(String(json(busy).error), /bootstrap is under way/)
    const source = { source_url: 'https://kms.example', domain: 'b' }
    const body = JSON.stringify(source)
    const joining = await ask(server, '/prpc/Onboard.Onboard', { body })
    assert.deepEqual(refusal(joining), [409, 'ONBOARDING_BUSY'])
    assert.deepEqual(refusal(await ask(server, '/finish')), [409, 'ONBOARDING_BUSY'])
    release()
    assert.equal((await first).status, 200)
    const both = await Promise.all([bootstrap(server), bootstrap(server)])
    assert.deepEqual(
      both.map(({ status }) => status),
      [409, 409],
    )
  })

  test('of two who ask at the same moment, one gets keys', async (t) => {
    const server = await served(t)
    const both = await Promise.all([bootstrap(server), bootstrap(server)])
    assert.deepEqual(both.map(({ status }) => status).sort(), [200, 409])
    const [answer] = both.filter(({ status }) => status === 200)
    const keys = await openRootKeys(server.folder)
    assert.equal(
      answer && json(answer).k256_pubkey,
      hex(publicKeyOf('secp256k1', keys?.root.k256 as Uint8Array)),
    )
  })

  test('says what this machine is, verified, and nothing of a policy that is silent', async (t) => {
    const server = await served(t)
    const path = '/prpc/Onboard.GetAttestationInfo'
    const info = json(await ask(server, path, { body: '{}' }))
    assert.deepEqual(Object.keys(info), [
      'device_id',
      'mr_aggregated',
      'os_image_hash',
      'tee_variant',
      'site_name',
      'eth_rpc_url',
      'kms_contract_address',
      'ppid',
    ])
    assert.equal(info.device_id, hex(deviceId(unhex(info.ppid ?? ''))))
    assert.equal(info.os_image_hash, APP_EVENTS['os-image-hash'])
    assert.equal(info.tee_variant, 'dstack-tdx')
    assert.equal(info.site_name, 'site 7')
    assert.equal(info.kms_contract_address, `0x${'ab'.repeat(20)}`)
    assert.equal(info.eth_rpc_url, 'https://rpc.example')
    assert.equal(info.mr_aggregated, json(await bootstrap(server)).measurement)

    const silent = new PolicyError('POLICY_UNREACHABLE', 'nobody is there')
    const nitro = attesterOf(machines.nitro())
    const other = await served(t, { policy: kmsPolicy(silent), attester: nitro })
    const found = json(await ask(other, path))
    assert.equal(found.tee_variant, 'dstack-nitro-enclave')
    const unknown = ['eth_rpc_url', 'kms_contract_address', 'ppid']
    assert.deepEqual(
      unknown.map((name) => found[name]),
      ['', '', ''],
    )
    const none = await served(t, { attester: NO_ATTESTER })
    assert.deepEqual(refusal(await ask(none, path)), [400, 'WRONG_PLATFORM'])
    assert.deepEqual(refusal(await bootstrap(none)), [400, 'WRONG_PLATFORM'])
  })

  test('tells why a KMS may not be one, and is there for another try', async (t) => {
    const policy = { ...kmsPolicy(deny('OS image is not allowed')) }
    const server = await served(t, { policy })
    const denied = await bootstrap(server)
    assert.deepEqual(refusal(denied), [403, 'KMS_NOT_ALLOWED'])
    assert.equal(
      json(denied).error,
      'KMS is not allowed to bootstrap: boot denied: OS image is not allowed',
    )
    policy.kms = kmsPolicy(FINE).kms
    assert.equal((await bootstrap(server)).status, 200)
  })

  test('refuses bodies that are no JSON, too large, or not of the method', async (t) => {
    const server = await served(t)
    for (const [body, status, code] of [
      ['\n\u0006domain', 415, 'BODY_NOT_JSON'],
      ['{"domain":', 400, 'INVALID_JSON'],
      ['{"domain":7}', 400, 'INVALID_REQUEST'],
      ['{}', 400, 'DOMAIN_INVALID'],
      ['', 400, 'DOMAIN_INVALID'],
      [`{"domain":"${'a'.repeat(17_000)}"}`, 413, 'BODY_TOO_LARGE'],
    ] as const) {
      assert.deepEqual(
        refusal(await bootstrap(server, { body })),
        [status, code],
        body.slice(0, 40),
      )
    }
    const chunk = `4500\r\n${'a'.repeat(0x4500)}\r\n0\r\n\r\n`
    const head = `POST /prpc/Bootstrap HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${server.token}\r\n`
    const chunked = `${head}Transfer-Encoding: chunked\r\n\r\n${chunk}`
    const answer = await rawRequest({ port: server.port }, chunked)
    assert.equal(answer?.status, 413)
    assert.equal(existsSync(server.folder), false)
  })
})

describe('the token', () => {
  test('is in a file of the owner alone, made anew at each start, gone in the end', async (t) => {
    const server = await served(t)
    const path = join(server.stateDir, 'onboard-token')
    assert.equal(server.tokenFile, path)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(statSync(server.stateDir).mode & 0o777, 0o700)
    assert.match(server.token, /^[\w-]{43}$/)
    const second = await served(t, { stateDir: server.stateDir })
    assert.notEqual(second.tokenFile && readFileSync(second.tokenFile, 'utf8').trim(), server.token)
    assert.deepEqual(refusal(await ask({ ...second, token: server.token }, '/finish')), [
      401,
      'UNAUTHORIZED',
    ])
    await server.close(100)
    assert.ok(existsSync(path), 'it is that of the other start')
    await second.close(100)
    assert.deepEqual(readdirSync(server.stateDir), [])

    const third = await served(t)
    assert.equal((await bootstrap(third)).status, 200)
    assert.equal((await ask(third, '/finish')).status, 200)
    await third.finished
    assert.equal(existsSync(third.tokenFile ?? ''), false)
  })

  test('is gone when the address could not be bound', async (t) => {
    const server = await served(t)
    const stateDir = temporaryFolder(t)
    await assert.rejects(
      served(t, { port: server.port, stateDir }),
      (error) => errnoOf(error) === 'EADDRINUSE',
    )
    assert.deepEqual(readdirSync(stateDir), [])
  })

  test('is needed for everything but the page and its health', async (t) => {
    const server = await served(t)
    const without = { port: server.port, token: '' }
    for (const path of ['/', '/health']) assert.equal((await ask(without, path)).status, 200)
    const calls = ['Bootstrap', 'Onboard', 'GetAttestationInfo', 'Finish'].flatMap((name) => [
      [`/prpc/Onboard.${name}`, '{}'],
      [`/prpc/${name}`, '{}'],
      [`/prpc/${name}`, undefined],
    ])
    for (const [path = '', body] of [
      ...calls,
      ['/finish', undefined],
      ['/finish', ''],
      ['/elsewhere', undefined],
      ['/prpc/Nothing', '{}'],
    ]) {
      const asked = body === undefined ? {} : { body }
      const answer = await ask(without, path, asked)
      assert.deepEqual(refusal(answer), [401, 'UNAUTHORIZED'], path)
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer realm=/)
      assert.match(String(json(answer).error), /onboard-token/)
    }
    // Never in a URL, and under no other scheme.
    const inUrl = `/finish?token=${server.token}&Authorization=Bearer%20${server.token}`
    assert.equal((await ask(without, inUrl)).status, 401)
    const basic = Buffer.from(`admin:${server.token}`).toString('base64')
    for (const authorization of [`Basic ${basic}`, server.token, `Token ${server.token}`]) {
      const headers = { Authorization: authorization }
      assert.equal((await ask(without, '/finish', { headers })).status, 401, authorization)
    }
    assert.deepEqual(refusal(await ask(server, '/finish')), [409, 'ROOT_KEYS_MISSING'])
    assert.equal(existsSync(server.folder), false)
  })

  test('cannot be guessed quickly, with or without the page', async (t) => {
    const server = await served(t)
    const guesses = { port: server.port, token: 'x'.repeat(43) }
    for (let i = 0; i < 5; i++) assert.equal((await ask(guesses, '/finish')).status, 401)
    for (let i = 0; i < 5; i++) {
      const fields = { action: 'finish', token: guesses.token }
      assert.equal((await ask(guesses, '/', form(fields))).status, 401)
    }
    for (const answer of [
      await ask(guesses, '/finish'),
      await ask(server, '/finish'),
      await ask(server, '/', form({ action: 'finish', token: server.token })),
    ]) {
      assert.equal(answer.status, 429)
      assert.match(answer.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
    }
    // Who gives none does not guess, and is told what to do.
    assert.equal((await ask({ ...server, token: '' }, '/finish')).status, 401)
  })

  test('is told to nobody', async (t) => {
    const server = await served(t)
    const answers = [
      await ask(server, '/'),
      await ask(server, '/nothing'),
      await ask(server, '/', form({ action: 'bootstrap', token: server.token, domain: '-' })),
      await bootstrap(server),
    ]
    const told = [...answers.map(({ body }) => body), ...server.events, ...server.counted].join(
      '\n',
    )
    assert.ok(!told.includes(server.token))
  })
})

describe('the page', () => {
  const DOMAIN = 'kms.example'

  test('has forms for what can be done now, and no script', async (t) => {
    const server = await served(t)
    const empty = await ask({ ...server, token: '' }, '/')
    assert.equal(empty.headers.get('content-type'), 'text/html; charset=utf-8')
    const csp = empty.headers.get('content-security-policy') ?? ''
    assert.match(csp, /default-src 'none'/)
    assert.match(csp, /frame-ancestors 'none'/)
    assert.doesNotMatch(csp, /script|unsafe/)
    assert.doesNotMatch(empty.body, /<script|javascript:|\son\w+=|src=|<link/)
    assert.match(empty.body, /value="bootstrap"/)
    assert.match(empty.body, /value="join"/)
    assert.doesNotMatch(empty.body, /value="finish"/)
    assert.equal(empty.body.match(/name="token"/g)?.length, 2)

    const made = await ask(
      server,
      '/',
      form({ action: 'bootstrap', token: server.token, domain: ` ${DOMAIN} ` }),
    )
    assert.equal(made.status, 200, made.body)
    const keys = await openRootKeys(server.folder)
    assert.equal(keys?.domain, DOMAIN)
    const publicKey = hex(publicKeyOf('secp256k1', keys?.root.k256 as Uint8Array))
    for (const answer of [made, await ask({ ...server, token: '' }, '/')]) {
      assert.ok(answer.body.includes(publicKey))
      assert.match(answer.body, /&#34;measurement&#34;: &#34;[0-9a-f]{64}&#34;/)
      assert.match(answer.body, /value="finish"/)
      assert.doesNotMatch(answer.body, /value="bootstrap"/)
    }
    const again = await ask(
      server,
      '/',
      form({ action: 'bootstrap', token: server.token, domain: DOMAIN }),
    )
    assert.equal(again.status, 409)
    assert.match(again.body, /role="alert">KMS has already been bootstrapped/)

    const done = await ask(server, '/', form({ action: 'finish', token: server.token }))
    assert.equal(done.status, 200)
    assert.match(done.body, /The set-up is finished/)
    assert.doesNotMatch(done.body, /<form/)
    await server.finished
    assert.deepEqual(
      server.counted.filter((text) => !text.startsWith('refused')),
      ['Bootstrap answered', 'Bootstrap ROOT_KEYS_EXIST', 'Finish answered'],
    )
  })

  test('asks for no token where none is needed', async (t) => {
    const server = await served(t, { requireToken: false })
    assert.doesNotMatch((await ask(server, '/')).body, /name="token"/)
    assert.equal(
      (await ask(server, '/', form({ action: 'bootstrap', domain: DOMAIN }))).status,
      200,
    )
  })

  test('shows what went wrong as text, whatever is in it', async (t) => {
    const policy = kmsPolicy(deny('<img src=x onerror=alert(1)>"\'&'))
    const server = await served(t, { policy })
    const { token } = server
    const denied = await ask(server, '/', form({ action: 'bootstrap', token, domain: DOMAIN }))
    assert.equal(denied.status, 403)
    assert.doesNotMatch(denied.body, /<img/)
    assert.match(denied.body, /boot denied: &#60;img src=x/)
    const join = { action: 'join', token, domain: DOMAIN, source_url: 'http://a' }
    const url = await ask(server, '/', form(join))
    assert.equal(url.status, 400)
    assert.match(url.body, /expected https:/)
    assert.equal((await ask(server, '/', form({ action: 'nothing', token }))).status, 400)
    assert.equal((await ask(server, '/', form({ action: 'finish', token }))).status, 409)
    const noToken = await ask(server, '/', form({ action: 'bootstrap', domain: DOMAIN }))
    assert.equal(noToken.status, 401)
    assert.equal(noToken.headers.get('www-authenticate'), undefined)
    assert.equal((await ask(server, '/', { body: '{"action":"finish"}' })).status, 415)
    const large = form({ action: 'bootstrap', token, domain: 'a'.repeat(20_000) })
    assert.equal((await ask(server, '/', large)).status, 413)
  })

  test('warns on a simulated machine', async (t) => {
    const server = await served(t, { attester: { ...attester, simulated: true } })
    assert.match((await ask(server, '/')).body, /nothing here is protected/)
  })
})

describe('pages of other sites', () => {
  const others: readonly Readonly<Record<string, string>>[] = [
    { Origin: 'https://evil.example' },
    { Origin: 'null' },
    { Referer: 'http://evil.example/page' },
    { 'Sec-Fetch-Site': 'cross-site' },
    { 'Sec-Fetch-Site': 'same-site' },
  ]

  test('cause nothing, with a token or without', async (t) => {
    for (const requireToken of [true, false]) {
      const server = await served(t, { requireToken, enforceSelf: false })
      for (const headers of others) {
        assert.deepEqual(refusal(await bootstrap(server, { headers })), [403, 'CROSS_SITE'])
        const fields = { action: 'bootstrap', token: server.token, domain: 'a' }
        assert.equal((await ask(server, '/', form(fields, headers))).status, 403)
      }
      assert.equal(existsSync(server.folder), false)
      assert.equal((await bootstrap(server)).status, 200)
      for (const headers of others) {
        assert.deepEqual(refusal(await ask(server, '/finish', { headers })), [403, 'CROSS_SITE'])
        const path = '/prpc/GetAttestationInfo'
        assert.deepEqual(refusal(await ask(server, path, { headers })), [403, 'CROSS_SITE'])
      }
      assert.equal((await ask(server, '/', { headers: others[0] ?? {} })).status, 200)
      assert.equal(server.events.length, 1)
    }
  })

  test('are not told by a Host header from our own, where there is no token', async (t) => {
    const server = await served(t, { requireToken: false, hosts: ['KMS.example'] })
    const from = (host: string) => ({ host, headers: { Origin: `http://${host}` } })
    const body = '{"domain":"-"}'
    for (const host of ['evil.example', `evil.example:${server.port}`, '127.0.0.1.evil.example']) {
      const answer = await bootstrap(server, { ...from(host), body })
      assert.deepEqual(refusal(answer), [421, 'HOST_UNKNOWN'])
    }
    for (const host of [`127.0.0.1:${server.port}`, '[::1]:81', 'localhost:1', 'kms.example']) {
      const answer = await bootstrap(server, { ...from(host), body })
      assert.deepEqual(refusal(answer), [400, 'DOMAIN_INVALID'], host)
    }
    // With a token it does not matter: the other page has none.
    const guarded = await served(t)
    const answer = await bootstrap(guarded, { ...from('kms.other'), body })
    assert.deepEqual(refusal(answer), [400, 'DOMAIN_INVALID'])
    const page = await ask(guarded, '/', { host: '"><script>' })
    assert.doesNotMatch(page.body, /<script/)
  })
})

describe('connections', () => {
  test('are bounded in number and in time, and carry one answer', async (t) => {
    const limits = { maxConnectionsPerPeer: 2, headTimeoutMs: 500, idleTimeoutMs: 1000 }
    const server = await served(t, { limits })
    const target = { port: server.port }
    const slow = await RawClient.connect(target)
    slow.send('GET / HTTP/1.1\r\nHost:')
    const idle = await RawClient.connect(target)
    const third = await RawClient.connect(target)
    assert.ok(await third.closed(5000), 'one more than allowed')
    assert.ok(await slow.closed(10_000), 'half a head')
    assert.ok(await idle.closed(10_000), 'nothing at all')
    const client = await RawClient.connect(target)
    client.send('GET /health HTTP/1.1\r\nHost: a\r\n\r\n')
    const answer = await client.answer(5000)
    assert.equal(answer?.headers.get('connection'), 'close')
    assert.ok(await client.closed(5000))
  })

  test('are closed with the listener, what was begun is finished', async (t) => {
    let release = () => {}
    let asked = () => {}
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve
    })
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const policy: Policy = {
      ...kmsPolicy(FINE),
      kms: async () => {
        asked()
        await held
        return FINE
      },
    }
    const server = await served(t, { policy })
    const answer = bootstrap(server)
    await isAsked
    const closed = server.close(20_000)
    release()
    assert.equal((await answer).status, 200)
    await closed
    await assert.rejects(RawClient.connect({ port: server.port }))
  })
})

test('what an earlier process left of its keys is found before anybody makes others', async (t) => {
  const server = await served(t)
  assert.equal((await bootstrap(server)).status, 200)
  writeFileSync(join(server.folder, 'root-k256.key'), 'damaged')
  const again = await bootstrap(server)
  assert.deepEqual(refusal(again), [409, 'ROOT_KEYS_EXIST'])
  assert.match(String(json(again).error), /^KMS has already been bootstrapped: .*root-k256\.key/)
  assert.deepEqual(refusal(await ask(server, '/finish')), [409, 'ROOT_KEYS_UNUSABLE'])
})

test('keys whose writing was cut off are written to the end, and finish the set-up', async (t) => {
  // The first step puts all of them into one file; the second is the first that can be repeated.
  const server = await served(t, { steps: failingSteps(1, 'before') })
  const cut = await bootstrap(server)
  assert.deepEqual(refusal(cut), [500, 'ROOT_KEYS_NOT_WRITTEN'])
  assert.match(String(json(cut).error), /the power is gone/)
  const again = await bootstrap(server, { body: '{"domain":"other.example"}' })
  assert.deepEqual(refusal(again), [409, 'ROOT_KEYS_EXIST'])
  assert.match((await ask(server, '/')).body, /value="finish"/)
  assert.equal((await ask(server, '/finish')).body, 'OK')
  assert.equal((await openRootKeys(server.folder))?.domain, 'kms.example')
})
