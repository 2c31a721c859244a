import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import type { Policy, PolicyError } from '../../plugins/kms/policy/policy.ts'
import type { Service } from '../../plugins/kms/policy/service.ts'
import { webhookPolicy } from '../../plugins/kms/policy/webhook.ts'
import { Secret } from '../../src/config/secret.ts'
import { createSelfSigned } from '../../src/tls/self-signed.ts'
import { BOOT_INFO, type Handler, json, standIn, temporaryFile } from './kms-policy-fixtures.ts'

const YES = { isAllowed: true, gatewayAppId: '0xgateway', reason: '' }
const TOKEN = 'correct-horse-battery-staple'

const policyAt = (url: string, more: Partial<Service> = {}): Policy =>
  webhookPolicy({ kind: 'auth api', url, deadlineMs: 20_000, ...more })

const service = async (t: TestContext, answer: Handler, more: Partial<Service> = {}) => {
  const server = await standIn(t, answer)
  return { server, policy: policyAt(server.url, more) }
}

/** The error both questions fail with. */
async function failure(policy: Policy, signal?: AbortSignal): Promise<PolicyError> {
  const results = await Promise.allSettled([
    policy.app(BOOT_INFO, signal),
    policy.kms(BOOT_INFO, signal),
  ])
  const [app, kms] = results.map((one) => (one.status === 'rejected' ? one.reason : undefined))
  assert.ok(app && kms, `expected failures, got ${inspect(results)}`)
  assert.equal(app.name, 'PolicyError')
  assert.equal(kms.code, app.code)
  return app
}

test('both questions carry the whole boot info to their path', async (t) => {
  const { server, policy } = await service(t, json(YES))
  const approval = { allowed: true, gatewayAppId: '0xgateway' }
  assert.deepEqual(await policy.app(BOOT_INFO), approval)
  assert.deepEqual(await policy.kms(BOOT_INFO), approval)
  assert.deepEqual(
    server.seen.map(({ method, path }) => `${method} ${path}`),
    ['POST /bootAuth/app', 'POST /bootAuth/kms'],
  )
  for (const { body, headers } of server.seen) {
    assert.deepEqual(JSON.parse(body), BOOT_INFO)
    assert.equal(headers['content-type'], 'application/json')
    assert.equal(headers.authorization, undefined)
  }
})

test('the base URL keeps its path, with a slash at its end or without', async (t) => {
  const server = await standIn(t, json(YES))
  for (const url of [`${server.url}/policy`, `${server.url}/policy/`]) {
    await policyAt(url).app(BOOT_INFO)
  }
  assert.deepEqual(
    server.seen.map(({ path }) => path),
    ['/policy/bootAuth/app', '/policy/bootAuth/app'],
  )
})

test('no decision is remembered', async (t) => {
  const { server, policy } = await service(t, json(YES))
  assert.equal((await policy.app(BOOT_INFO)).allowed, true)
  server.answer = json({ ...YES, isAllowed: false, reason: 'revoked' })
  assert.deepEqual(await policy.app(BOOT_INFO), {
    allowed: false,
    reason: 'revoked',
    code: 'UNAUTHORIZED',
  })
})

const CODES = {
  'OS image is not allowed': 'MEASUREMENT_NOT_FOUND',
  'aggregated MR not allowed': 'MEASUREMENT_NOT_FOUND',
  'Aggregated MR not allowed': 'MEASUREMENT_NOT_FOUND',
  'app not registered': 'MEASUREMENT_NOT_FOUND',
  'App not registered': 'MEASUREMENT_NOT_FOUND',
  'App not deployed or invalid address': 'MEASUREMENT_NOT_FOUND',
  'compose hash not allowed': 'MEASUREMENT_NOT_FOUND',
  'Compose hash not allowed': 'MEASUREMENT_NOT_FOUND',
  'TCB status is not allowed': 'UNAUTHORIZED',
  'TCB status is not up to date': 'UNAUTHORIZED',
  'advisory ID is not allowed': 'UNAUTHORIZED',
  'KMS is not allowed to boot on this device': 'UNAUTHORIZED',
  'app is not allowed to boot on this device': 'UNAUTHORIZED',
  'Device not allowed': 'UNAUTHORIZED',
  'because I say so': 'UNAUTHORIZED',
  '': 'UNAUTHORIZED',
}

for (const [reason, code] of Object.entries(CODES)) {
  test(`denied with "${reason}" is ${code}`, async (t) => {
    const { policy } = await service(t, json({ ...YES, isAllowed: false, reason }))
    assert.deepEqual(await policy.app(BOOT_INFO), { allowed: false, reason, code })
    assert.deepEqual(await policy.kms(BOOT_INFO), { allowed: false, reason, code })
  })
}

test('a long reason is cut and stays on one line', async (t) => {
  const reason = `two\r\nlines ${'x'.repeat(5000)}`
  const { policy } = await service(t, json({ ...YES, isAllowed: false, reason }))
  const decision = await policy.app(BOOT_INFO)
  assert.ok(!decision.allowed)
  assert.match(decision.reason, /^two lines x{490,}$/)
  assert.ok(decision.reason.length <= 512)
})

test('who measured no image, or no application, is denied without asking', async (t) => {
  const { server, policy } = await service(t, json(YES))
  const noImage = { ...BOOT_INFO, osImageHash: '' }
  const image = {
    allowed: false,
    reason: 'OS image is not allowed',
    code: 'MEASUREMENT_NOT_FOUND',
  }
  assert.deepEqual(await policy.app(noImage), image)
  assert.deepEqual(await policy.kms(noImage), image)
  assert.deepEqual(await policy.app({ ...BOOT_INFO, composeHash: '' }), {
    ...image,
    reason: 'compose hash not allowed',
  })
  assert.equal(server.seen.length, 0)
})

test('a status that is not 2xx is told with the URL and the body', async (t) => {
  const { server, policy } = await service(t, json({ error: 'down' }, 503))
  const error = await failure(policy)
  assert.equal(error.code, 'POLICY_REFUSED')
  assert.equal(error.message, `auth api ${server.url}/bootAuth/app returned 503: {"error":"down"}`)
})

test('an approval under a wrong status is none', async (t) => {
  for (const status of [300, 400, 404, 500]) {
    const { policy } = await service(t, json(YES, status))
    assert.equal((await failure(policy)).code, 'POLICY_REFUSED')
  }
})

test('a redirect is not followed', async (t) => {
  const other = await standIn(t, json(YES))
  for (const status of [301, 302, 303, 307, 308]) {
    const { policy } = await service(t, (_seen, response) => {
      response.writeHead(status, { location: `${other.url}/bootAuth/app` })
      response.end()
    })
    const error = await failure(policy)
    assert.equal(error.code, 'POLICY_REFUSED')
    assert.match(error.message, new RegExp(`returned ${status}: $`))
  }
  assert.equal(other.seen.length, 0)
})

const MALFORMED: Record<string, unknown> = {
  null: null,
  'a list': [YES],
  'no isAllowed': { gatewayAppId: '', reason: '' },
  'no gatewayAppId': { isAllowed: true, reason: '' },
  'no reason': { isAllowed: true, gatewayAppId: '' },
  'isAllowed as text': { ...YES, isAllowed: 'true' },
  'isAllowed as number': { ...YES, isAllowed: 1 },
  'reason null': { ...YES, reason: null },
  'a huge gatewayAppId': { ...YES, gatewayAppId: 'x'.repeat(1000) },
}

for (const [name, value] of Object.entries(MALFORMED)) {
  test(`malformed: ${name}`, async (t) => {
    const { policy } = await service(t, json(value))
    const error = await failure(policy)
    assert.equal(error.code, 'POLICY_MALFORMED')
    assert.match(
      error.message,
      /^Cannot read answer of auth api http:\S+: (missing or wrong|it is no JSON object): /,
    )
    assert.ok(error.message.length < 800)
  })
}

test('what is not JSON is no answer', async (t) => {
  const yes = JSON.stringify(YES)
  for (const body of ['', 'yes', yes.slice(0, -1), `${yes}x`, '['.repeat(60_000), gzipSync(yes)]) {
    const { policy } = await service(t, (_seen, response) => void response.end(body))
    assert.equal((await failure(policy)).code, 'POLICY_MALFORMED')
  }
})

test('arbitrary bytes are no approval and no untyped error', async (t) => {
  const { server, policy } = await service(t, json(YES))
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.json()), async (body) => {
      server.answer = (_seen, response) => void response.end(body)
      await assert.rejects(policy.app(BOOT_INFO), { name: 'PolicyError', code: 'POLICY_MALFORMED' })
    }),
    { numRuns: 60 },
  )
})

test('a body without end is given up at 64 KiB, and its sender notices', async (t) => {
  let gone = 0
  const { policy } = await service(t, (_seen, response) => {
    const more = () => {
      while (!response.destroyed && response.write(' '.repeat(16_384)));
    }
    response.on('drain', more)
    response.on('close', () => {
      gone += 1
    })
    more()
  })
  const error = await failure(policy)
  assert.equal(error.code, 'POLICY_TOO_LARGE')
  assert.match(error.message, /more than 65536 bytes$/)
  while (gone < 2) await new Promise((done) => setTimeout(done, 5))
})

test('64 KiB are still read', async (t) => {
  const { policy } = await service(t, (_seen, response) => {
    response.end(JSON.stringify(YES).padEnd(65_536))
  })
  assert.equal((await policy.app(BOOT_INFO)).allowed, true)
})

test('no answer within the deadline: before the head, and in the middle of the body', async (t) => {
  const handlers: Handler[] = [
    () => {},
    (_seen, response) => {
      response.writeHead(200, { 'content-length': '100' })
      response.write('{"isAllowed":true')
    },
  ]
  for (const answer of handlers) {
    const { policy } = await service(t, answer, { deadlineMs: 150 })
    const error = await failure(policy)
    assert.equal(error.code, 'POLICY_TIMEOUT')
    assert.match(error.message, /within 150 ms/)
  }
})

test('an answer that breaks off is none', async (t) => {
  const { policy } = await service(t, (_seen, response) => {
    response.writeHead(200, { 'content-length': '1000' })
    response.write(JSON.stringify(YES))
    setTimeout(() => response.socket?.destroy(), 20)
  })
  assert.equal((await failure(policy)).code, 'POLICY_UNREACHABLE')
})

test('the caller can give up, before and while it waits', async (t) => {
  const { server, policy } = await service(t, () => {})
  const given = new AbortController()
  const waiting = failure(policy, given.signal)
  while (server.seen.length < 2) await new Promise((done) => setTimeout(done, 5))
  given.abort(new Error('elsewhere'))
  assert.equal((await waiting).code, 'POLICY_ABORTED')
  assert.equal((await failure(policy, given.signal)).code, 'POLICY_ABORTED')
  assert.equal(server.seen.length, 2)
})

test('nobody listens', async () => {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as { port: number }
  await new Promise((done) => server.close(done))
  const error = await failure(policyAt(`http://127.0.0.1:${port}`))
  assert.equal(error.code, 'POLICY_UNREACHABLE')
  assert.match(error.message, /ECONNREFUSED$/)
})

test('something else than HTTP answers', async (t) => {
  const server = createServer((socket) => void socket.end('SSH-2.0-OpenSSH_9.2\r\n'))
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.after(() => void server.close())
  const { port } = server.address() as { port: number }
  const error = await failure(policyAt(`http://127.0.0.1:${port}`, { deadlineMs: 2000 }))
  assert.match(error.code, /^POLICY_(UNREACHABLE|TIMEOUT)$/)
})

test('over TLS the service is who the authorities say', async (t) => {
  const hosts = ['127.0.0.1', 'localhost']
  const [own, foreign] = [createSelfSigned(hosts, Date.now()), createSelfSigned(hosts, Date.now())]
  const server = await standIn(t, json(YES), own)
  const asked = (caFile?: string) => policyAt(server.url, { caFile })
  const ownFile = temporaryFile(t, 'own.pem', own.cert)
  assert.equal((await asked(ownFile).app(BOOT_INFO)).allowed, true)
  for (const caFile of [undefined, temporaryFile(t, 'foreign.pem', foreign.cert)]) {
    assert.equal((await failure(asked(caFile))).code, 'POLICY_UNREACHABLE')
  }
  assert.equal(server.seen.length, 1)
  // Replaced while running.
  writeFileSync(ownFile, foreign.cert)
  assert.equal((await failure(asked(ownFile))).code, 'POLICY_UNREACHABLE')
})

test('a certificate for another name is refused', async (t) => {
  const pair = createSelfSigned(['policy.example'], Date.now())
  const server = await standIn(t, json(YES), pair)
  const policy = policyAt(server.url, { caFile: temporaryFile(t, 'ca.pem', pair.cert) })
  assert.equal((await failure(policy)).code, 'POLICY_UNREACHABLE')
  assert.equal(server.seen.length, 0)
})

test('a file of authorities that holds none is never taken for "any"', async (t) => {
  const pair = createSelfSigned(['127.0.0.1'], Date.now())
  const server = await standIn(t, json(YES), pair)
  const files = [
    '/nonexistent/ca.pem',
    temporaryFile(t, 'empty.pem', ''),
    temporaryFile(t, 'key.pem', pair.key),
    temporaryFile(t, 'cut.pem', pair.cert.slice(0, -30)),
    temporaryFile(t, 'huge.pem', pair.cert.repeat(400)),
  ]
  for (const caFile of files) {
    const error = await failure(policyAt(server.url, { caFile }))
    assert.equal(error.code, 'POLICY_SETUP')
    assert.ok(error.message.includes(caFile))
  }
})

test('the token goes into the header and never into an error or a reason', async (t) => {
  const file = temporaryFile(t, 'token', `${TOKEN}\n`)
  const { server, policy } = await service(t, json(YES), { token: new Secret(file) })
  await policy.app(BOOT_INFO)
  assert.equal(server.seen[0]?.headers.authorization, `Bearer ${TOKEN}`)

  // Services that repeat what they were sent.
  const repeat = (status: number): Handler => {
    return ({ headers }, response) => {
      response.statusCode = status
      response.end(`${'.'.repeat(500)}${headers.authorization} is not good`)
    }
  }
  for (const status of [401, 200]) {
    server.answer = repeat(status)
    const error = await failure(policy)
    assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(TOKEN.slice(0, 8)))
    assert.match(error.message, /Bearer \[secr/)
  }
  server.answer = json({ ...YES, isAllowed: false, reason: `no ${TOKEN}` })
  const decision = await policy.app(BOOT_INFO)
  assert.deepEqual(decision, { allowed: false, reason: 'no [secret]', code: 'UNAUTHORIZED' })

  // Rotated while running.
  writeFileSync(file, 'another-token-altogether')
  server.answer = json(YES)
  await policy.app(BOOT_INFO)
  assert.equal(server.seen.at(-1)?.headers.authorization, 'Bearer another-token-altogether')
})

test('a token that cannot be used', async (t) => {
  const { server } = await service(t, json(YES))
  for (const text of ['', 'short', 'two words in here', 'line one\nline two', 'wörter-und-mehr']) {
    const token = new Secret(temporaryFile(t, 'token', text))
    const error = await failure(policyAt(server.url, { token }))
    assert.equal(error.code, 'POLICY_SETUP')
    assert.ok(text === '' || !inspect(error, { depth: 9 }).includes(text))
  }
  const missing = await failure(policyAt(server.url, { token: new Secret('/nonexistent/token') }))
  assert.equal(missing.code, 'POLICY_SETUP')
  assert.equal(server.seen.length, 0)
})

test('facts, whole and with members missing', async (t) => {
  const facts = {
    status: 'ok',
    kmsContractAddr: `0x${'1'.repeat(40)}`,
    gatewayAppId: '0xgateway',
    chainId: 8453,
    appImplementation: `0x${'2'.repeat(40)}`,
    ethRpcUrl: 'https://node.example',
  }
  const { server, policy } = await service(t, json(facts))
  assert.deepEqual(await policy.describe(), {
    isDev: false,
    kmsContractAddress: facts.kmsContractAddr,
    gatewayAppId: '0xgateway',
    chainId: 8453,
    appImplementation: facts.appImplementation,
    ethRpcUrl: 'https://node.example',
  })
  assert.equal(server.seen[0]?.method, 'GET')
  assert.equal(server.seen[0]?.path, '/')
  server.answer = json({})
  const { isDev, chainId, gatewayAppId } = await policy.describe()
  assert.deepEqual([isDev, chainId, gatewayAppId], [false, undefined, undefined])
  for (const wrong of [null, [], { chainId: '1' }, { chainId: -1 }, { gatewayAppId: 7 }]) {
    server.answer = json(wrong)
    await assert.rejects(policy.describe(), { name: 'PolicyError', code: 'POLICY_MALFORMED' })
  }
})
