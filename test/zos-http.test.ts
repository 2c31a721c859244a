/** The commands over real sockets: statuses, who calls, and what bodies may be (spec zos §10.5). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readDeployment } from '../plugins/zos/deployment/read.ts'
import { RawClient } from './helpers/raw-http.ts'
import {
  BIG,
  contractOf,
  FARMER,
  OTHER,
  OWNER,
  registryText,
  SIGNERS,
  signedDeployment,
} from './helpers/zos-api.ts'
import { challenge, token } from './helpers/zos-auth.ts'
import { zosVectors } from './helpers/zos-deployment.ts'
import { errorOf, type Sent, serveZos } from './helpers/zos-http.ts'
import type { Plan } from './helpers/zos-provision.ts'

const MIB = 2 ** 20
const volume = (name: string, size = MIB): Plan => ({ name, type: 'volume', data: { size } })

const now = () => Math.floor(Date.now() / 1000)

function signer(twin: number) {
  const found = SIGNERS[twin]
  if (!found) throw new Error(`twin ${twin} has no key`)
  return found.sign
}

/** Makes tokens different. */
let salt = 0
const xAuth = (twin: number, at = now()) => ({ 'x-auth': challenge(signer(twin), at, twin) })
const jwt = (twin: number, more: object = {}) => {
  const claims = { iss: String(twin), aud: 'zos', exp: now() + 60, jti: String(salt++), ...more }
  return { authorization: token(signer(twin), claims) }
}
const named = (twin: number | string) => ({ 'x-zos-twin': String(twin) })

const ID = `{"contract_id":${BIG}}`

test('reads need nobody: any content type, empty bodies, and JSON in return', async (t) => {
  const zos = await serveZos(t, { document: registryText([]) })
  for (const headers of [
    {},
    { 'content-type': 'text/plain' },
    { 'content-type': 'application/json' },
  ]) {
    for (const body of [undefined, '', 'null', '""']) {
      const answer = await zos.post('zos.system.node_features_get', body, headers)
      assert.deepEqual(
        [answer.status, answer.type, answer.body],
        [200, 'application/json', '["zmount","volume"]'],
      )
    }
  }
  assert.match((await zos.post('zos.statistics.get')).body, /^\{"total":\{"cru":\d+,/)
  // Credentials that nobody asks for are not looked at.
  const bad = await zos.post('zos.system.version', '', { 'x-auth': 'nonsense' })
  assert.equal(bad.status, 200)
})

test('each status of the specification', async (t) => {
  const text = signedDeployment([volume('v')])
  const trusted = { config: { trust_twin_header: true } }
  const zos = await serveZos(t, { document: registryText([contractOf(text)]), ...trusted })
  const of = async (command: string, body: Sent['body'], twin?: number) =>
    errorOf(await zos.post(command, body, twin === undefined ? {} : named(twin)))
  assert.equal(
    await of('zos.deployment.get', 'x', OWNER),
    "400 255 invalid character 'x' looking for beginning of value",
  )
  assert.equal(
    await of('zos.deployment.deploy', text.replace('"name":"v"', '"name":""'), OWNER),
    "400 255 name '' is invalid: name cannot be empty",
  )
  assert.equal(
    await of('zos.deployment.get', ID),
    '401 255 this command needs the twin that calls: sign the request, see the README',
  )
  assert.equal(
    await of('zos.deployment.deploy', text.replace(/"signature":"../, '"signature":"00'), OWNER),
    '401 255 failed to verify signature',
  )
  assert.equal(await of('zos.admin.interfaces', '', OWNER), '403 255 unauthorized')
  assert.equal(await of('zos.debug.deployment.list', '', FARMER), '403 255 unauthorized')
  assert.equal(
    await of('zos.deployment.deploy', text, OTHER),
    `403 255 twin id mismatch (deployment: ${OWNER}, message: ${OTHER})`,
  )
  assert.equal(await of('zos.nothing', ''), '404 255 function is not found')
  assert.equal(await of('zos.deployment.get', ID, OWNER), '404 255 deployment not found')
  assert.equal(
    await of('zos.deployment.delete', ID, OWNER),
    '500 255 deletion over the api is disabled, please cancel your contract instead',
  )
  // Only commands and deployments are found or not.
  assert.equal(await of('zos.perf.get', '{"Name":"x"}'), '500 255 result not found')
  assert.equal(await of('zos.network.public_config_get', ''), '500 255 no public configuration')
  const accepted = await zos.post('zos.deployment.deploy', text, named(OWNER))
  assert.deepEqual(
    [accepted.status, accepted.type, accepted.body],
    [202, 'application/json', 'null'],
  )
  assert.equal(await of('zos.deployment.deploy', text, OWNER), '409 255 exists')
  assert.equal(
    await of('zos.deployment.update', text, OWNER),
    '400 255 expecting deployment version 1, got 0: upgrade validation error',
  )
  const refused = await zos.post('zos.deployment.get', ID)
  assert.equal(refused.headers['www-authenticate'], 'Bearer realm="zos"')
  const wrong = await zos.send('/zos/zos.system.version')
  assert.deepEqual([wrong.status, wrong.headers.allow], [405, 'POST'])
})

test('a registry that is not there: 503 for what needs it, 200 for the rest', async (t) => {
  const zos = await serveZos(t, { config: { trust_twin_header: true } })
  const farmer = await zos.post('zos.admin.interfaces', '', named(FARMER))
  assert.match(
    errorOf(farmer),
    /^503 255 Cannot read registry: .*registry\.json.*PUT it to \/zos-registry/,
  )
  const text = signedDeployment([volume('v')])
  assert.match(errorOf(await zos.post('zos.deployment.deploy', text, named(OWNER))), /^503 255 /)
  assert.match(errorOf(await zos.post('zos.deployment.list', '', xAuth(OWNER))), /^503 255 /)
  assert.equal((await zos.post('zos.deployment.list', '', named(OWNER))).body, '[]')
  assert.equal((await zos.post('zos.storage.pools')).status, 200)
})

test('over TCP a twin signs: with a token or a challenge, each of its own key', async (t) => {
  const text = signedDeployment([volume('v')], { contractId: 5n, twinId: OTHER })
  const zos = await serveZos(t, { document: registryText([contractOf(text)]) })
  const list = (headers: Record<string, string>) => zos.post('zos.deployment.list', '', headers)
  for (const headers of [jwt(OWNER), xAuth(OWNER), xAuth(OTHER)]) {
    assert.equal((await list(headers)).body, '[]')
  }
  assert.match(
    errorOf(await list(named(OWNER))),
    /^401 255 X-Zos-Twin is taken over a Unix socket only/,
  )
  assert.match(errorOf(await list(jwt(OTHER))), /^401 255 .*sr25519.*use X-Auth$/)
  assert.match(errorOf(await list(jwt(OWNER, { exp: now() - 60 }))), /^401 255 /)
  assert.match(errorOf(await list(jwt(OWNER, { exp: now() + 600 }))), /^401 255 /)
  assert.match(errorOf(await list(jwt(OWNER, { aud: 'other' }))), /^401 255 /)
  assert.match(
    errorOf(await list(xAuth(OWNER, now() - 120))),
    /^401 255 invalid X-Auth: it was signed 1/,
  )
  assert.match(errorOf(await list({ 'x-auth': 'x' })), /^401 255 invalid X-Auth: /)
  const forged = challenge(signer(OTHER), now(), OWNER)
  assert.equal(
    errorOf(await list({ 'x-auth': forged })),
    '401 255 the signature is not that of twin 42',
  )
  // The first way that is tried has to succeed, and another's header gives nothing.
  assert.match(errorOf(await list({ 'x-auth': forged, ...named(OWNER) })), /^401 255 the signature/)
  assert.equal((await list({ ...xAuth(OTHER), ...named(OWNER) })).body, '[]')

  // It is signed for itself, so that one second is enough for many.
  const headers = xAuth(OTHER)
  assert.equal((await zos.post('zos.deployment.deploy', text, headers)).status, 202)
  const again = await zos.post('zos.deployment.deploy', text, headers)
  assert.equal(errorOf(again), '409 255 exists')
  assert.match((await list(headers)).body, /"contract_id":5,/)
})

test('one challenge of the farmer changes one thing', async (t) => {
  const document = registryText([], { farm: { id: 1, twin_id: OWNER } })
  const zos = await serveZos(t, { document })
  const headers = xAuth(OWNER)
  assert.equal((await zos.post('zos.admin.get_public_nic', '', headers)).status, 200)
  assert.equal(errorOf(await zos.post('zos.admin.set_public_nic', '1', headers)).slice(0, 3), '400')
  assert.match(
    errorOf(await zos.post('zos.network.admin.set_public_nic', '"zos"', headers)),
    /^401 255 X-Auth must be signed anew for each change: it was used before$/,
  )
})

test('over a Unix socket the header is believed; nonsense in it is not', async (t) => {
  const zos = await serveZos(t, { unix: true, document: registryText([]) })
  assert.equal((await zos.post('zos.deployment.list', '', named(OWNER))).body, '[]')
  assert.equal((await zos.post('zos.admin.get_public_nic', '', named(FARMER))).status, 200)
  assert.equal(errorOf(await zos.post('zos.deployment.list')).slice(0, 3), '401')
  for (const twin of ['0', '-1', '4294967296', 'x', '0x2a', '1e1']) {
    const answer = errorOf(await zos.post('zos.deployment.list', '', named(twin)))
    assert.match(answer, /^401 255 invalid X-Zos-Twin: /, twin)
  }
})

test('require_auth: nobody reads anything, nor learns which commands there are', async (t) => {
  const zos = await serveZos(t, { document: registryText([]), config: { require_auth: true } })
  for (const command of [
    'zos.statistics.get',
    'zos.nothing',
    'zos.admin.x',
    'zos.deployment.get',
  ]) {
    const answer = errorOf(await zos.post(command))
    assert.equal(answer, '401 255 this node answers only twins it knows', command)
  }
  assert.equal((await zos.post('zos.statistics.get', '', jwt(OWNER))).status, 200)
  assert.equal(
    errorOf(await zos.post('zos.nothing', '', jwt(OWNER))),
    '404 255 function is not found',
  )
  const farmer = await zos.post('zos.system.version', '', named(FARMER))
  assert.match(errorOf(farmer), /^401 255 X-Zos-Twin/)
})

test('bodies: too large, broken off, no UTF-8, no JSON', async (t) => {
  const zos = await serveZos(t, {
    document: registryText([]),
    listen: { max_body_bytes: 1000 },
    config: { trust_twin_header: true },
  })
  const post = async (body: Sent['body']) =>
    errorOf(await zos.post('zos.deployment.get', body, named(OWNER)))
  assert.equal(
    await post(' '.repeat(1001)),
    '413 255 Cannot read the body: it is larger than 1000 bytes',
  )
  assert.equal(await post(`{"contract_id":1${' '.repeat(900)}}`), '404 255 deployment not found')
  for (const bytes of [[0xff], [0x22, 0xc3, 0x22], [0xed, 0xa0, 0x80], [0xc0, 0x80]]) {
    assert.equal(await post(Uint8Array.from(bytes)), '400 255 invalid payload: it is not UTF-8')
  }
  const withMark = Uint8Array.from([0xef, 0xbb, 0xbf, 0x7b, 0x7d])
  assert.equal(await post(withMark), "400 255 invalid character 'ï' looking for beginning of value")
  assert.equal(
    await post('{"contract_id":1}{'),
    "400 255 invalid character '{' after top-level value",
  )
  assert.equal(await post('['.repeat(90)), '400 255 unexpected end of JSON input')
  const raw = await RawClient.connect(zos.server.target)
  raw.send(
    'POST /zos/zos.deployment.get HTTP/1.1\r\nHost: localhost\r\nX-Zos-Twin: 42\r\nContent-Length: 90\r\n\r\n{"contract',
  )
  raw.destroy()
  assert.equal((await zos.post('zos.system.version')).status, 200)
})

test('names of commands that are no names', async (t) => {
  const zos = await serveZos(t, { document: registryText([]) })
  for (const name of [
    '%00',
    '..%2f..',
    'zos%2Estatistics%2Eget%20',
    '__proto__',
    'a'.repeat(128),
  ]) {
    assert.equal(errorOf(await zos.post(name)), '404 255 function is not found', name)
  }
  assert.match(errorOf(await zos.post('a'.repeat(129))), /^400 255 Invalid param: command/)
  const encoded = await zos.post('zos%2Esystem%2Eversion')
  assert.equal(encoded.status, 200)
  const deeper = await zos.post('zos.system.version/x')
  assert.equal(deeper.status, 404)
})

interface SignatureVectors {
  readonly twins: Readonly<Record<string, { readonly type: string; readonly public_key: string }>>
  readonly cases: readonly {
    readonly name: string
    readonly deployment_json: string
    readonly hash: string
    readonly error: string | null
  }[]
}

test('the signatures of the shared vectors, by HTTP', async (t) => {
  const vectors = zosVectors<SignatureVectors>(t, 'signatures')
  if (!vectors) return
  const twins = Object.entries(vectors.twins).map(([id, { type, public_key }]) => ({
    id: Number(id),
    key_type: type,
    public_key,
  }))
  const zos = await serveZos(t, {
    document: registryText([], { twins }),
    config: { trust_twin_header: true, strict_signatures: true },
  })
  const wrong: string[] = []
  for (const { name, deployment_json, hash, error } of vectors.cases) {
    const { twinId, contractId } = readDeployment(deployment_json)
    const contract = {
      contract_id: contractId,
      twin_id: twinId,
      node_id: 11,
      type: 'node',
      deployment_hash: hash,
      state: 'created',
    }
    await zos.send('/zos-registry', { method: 'PUT', body: registryText([contract], { twins }) })
    const answer = await zos.post('zos.deployment.deploy', deployment_json, named(twinId))
    // One that exists is looked for after the signatures.
    const right =
      error === null ? [202, 409].includes(answer.status) : errorOf(answer) === `401 255 ${error}`
    if (!right) wrong.push(`${name}: ${answer.status} ${answer.body} instead of ${error}`)
  }
  assert.deepEqual(wrong, [])
})
