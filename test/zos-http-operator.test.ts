/** The registry document for the operator, and the life of the plugin around its requests. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import zos from '../plugins/zos/index.ts'
import { hostPlugin } from './helpers/plugin-host.ts'
import {
  contractOf,
  FARMER,
  OWNER,
  registryText,
  SIGNERS,
  signedDeployment,
} from './helpers/zos-api.ts'
import { challenge } from './helpers/zos-auth.ts'
import { type Answer, errorOf, HERMETIC, serveZos, textOf } from './helpers/zos-http.ts'
import { inTime } from './helpers/zos-provision.ts'

const PATH = '/zos-registry'

function xAuth(twin: number): Readonly<Record<string, string>> {
  const signer = SIGNERS[twin]
  if (!signer) throw new Error(`twin ${twin} has no key`)
  return { 'x-auth': challenge(signer.sign, Math.floor(Date.now() / 1000), twin) }
}

function problemOf({ type, body }: Answer): { status: number; code: string; detail: string } {
  assert.equal(type, 'application/problem+json', body)
  return JSON.parse(body)
}

test('the registry document: none, a first one, the next one, as it was written', async (t) => {
  const zos = await serveZos(t, { config: { trust_twin_header: true } })
  const none = await zos.send(PATH)
  assert.deepEqual(problemOf(none), {
    status: 404,
    title: 'Not Found',
    code: 'ZOS_NO_DOCUMENT',
    detail: `There is no registry document in force: Cannot read registry: ENOENT: no such file or directory, stat '${zos.registry}'; write the document there or PUT it to /zos-registry`,
  })
  const farmer = () => zos.post('zos.admin.get_public_nic', '', { 'x-zos-twin': String(FARMER) })
  assert.equal((await farmer()).status, 503)
  for (const text of [registryText([]), ` ${registryText([], { admin_twins: [OWNER] })}\n`]) {
    const put = await zos.send(PATH, { method: 'PUT', body: text })
    assert.deepEqual([put.status, put.body], [204, ''])
    const got = await zos.send(PATH)
    assert.deepEqual([got.status, got.type, got.body], [200, 'application/json', text])
    assert.equal(textOf(zos.registry), text)
    assert.equal((await farmer()).status, 200)
  }
  const admin = { 'x-zos-twin': String(OWNER) }
  assert.equal((await zos.post('zos.debug.deployment.list', '', admin)).status, 200)
})

test('a bad document is refused with the place of what is wrong, and changes nothing', async (t) => {
  const document = registryText([])
  const zos = await serveZos(t, { document, config: { trust_twin_header: true } })
  const good = contractOf(signedDeployment([{ name: 'v', type: 'volume', data: { size: 1 } }]))
  for (const [text, detail] of [
    ['', /the document is no JSON: unexpected end of JSON input$/],
    ['null', /^Cannot take registry: /],
    ['{}', /^Cannot take registry: node /],
    [registryText([good, { ...good, contract_id: 1, state: 'x' }]), /contracts\[1\]\.state /],
    [registryText([good, good]), /contracts\[1\] has the id \d+ of one before it/],
    [registryText([], { twins: [{ id: 1, public_key: 'ab' }] }), /twins\[0\]\.public_key /],
    [registryText([], { admin_twins: [-1] }), /admin_twins\[0\] /],
    [registryText([], { farm: { id: 2, twin_id: 1 } }), /farm\.id must be the node's farm, 1/],
    [registryText([], { more: 1 }), /more/],
    [`${document}x`, /invalid character 'x' after top-level value/],
    [Uint8Array.from([0x7b, 0xff]), /it is not UTF-8$/],
  ] as const) {
    const put = await zos.send(PATH, { method: 'PUT', body: text })
    const { status, code, detail: told } = problemOf(put)
    assert.deepEqual([status, code], [400, 'ZOS_REGISTRY_INVALID'], told)
    assert.match(told, detail)
    assert.equal(textOf(zos.registry), document)
  }
  const farmer = { 'x-zos-twin': String(FARMER) }
  assert.equal((await zos.post('zos.admin.get_public_nic', '', farmer)).status, 200)
})

test('a file that cannot be used is not what is in force', async (t) => {
  const document = registryText([])
  const zos = await serveZos(t, { document })
  writeFileSync(zos.registry, '{broken')
  assert.equal((await zos.send(PATH)).body, document)
  writeFileSync(zos.registry, ` ${document}`)
  assert.equal((await zos.send(PATH)).body, ` ${document}`)

  const bad = await serveZos(t, { document: '{broken' })
  const { status, code, detail } = problemOf(await bad.send(PATH))
  assert.deepEqual([status, code], [404, 'ZOS_NO_DOCUMENT'])
  assert.match(detail, /in force: Cannot use registry .*: the document is no JSON/)
})

test('the hash is of what the node would take', async (t) => {
  const data = {
    network: { public_ip: 'v', interfaces: [{ network: 'n', ip: '10.1.0.2' }] },
    compute_capacity: { cpu: 1, memory: 2 ** 30 },
  }
  const slip = JSON.stringify({
    workloads: [
      { name: 'v', type: 'volume', data: { size: 1 } },
      { name: 'vm', type: 'zmachine', data },
    ],
  })
  for (const reference_slips of [false, true]) {
    const zos = await serveZos(t, { document: registryText([]), config: { reference_slips } })
    const hashed = (body: string | Uint8Array) =>
      zos.send('/cvmd/zos/hash', { method: 'POST', body })
    const answer = await hashed(slip)
    if (reference_slips) assert.equal(answer.status, 200, answer.body)
    else assert.match(problemOf(answer).detail, /workload of name 'v' is not a public ip/)
    const bytes = Uint8Array.from([0x22, 0xff, 0x22])
    assert.match(problemOf(await hashed(bytes)).detail, /^invalid payload: it is not UTF-8$/)
  }
})

test('only the operator sees the document: by a key with its scope, on listeners of the core', async (t) => {
  const document = registryText([])
  const zos = await serveZos(t, { document, listen: { auth: 'key' } })
  const { token } = await zos.server.keys.add({ name: 'grid', scopes: ['zos:registry'] })
  const { token: other } = await zos.server.keys.add({ name: 'other', scopes: ['zos:read'] })
  const of = (bearer?: string, method = 'GET') =>
    zos.send(PATH, {
      method,
      headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
      ...(method === 'PUT' && { body: document }),
    })
  for (const method of ['GET', 'PUT']) {
    assert.equal((await of(undefined, method)).status, 401)
    assert.equal((await of(`${token}x`, method)).status, 401)
    assert.equal(problemOf(await of(other, method)).code, 'SCOPE_MISSING')
  }
  assert.equal((await of(token)).body, document)
  assert.equal((await of(token, 'PUT')).status, 204)
  // Twins prove themselves to the node, not to the listener.
  assert.equal((await zos.post('zos.system.version')).status, 200)
  // A key of the daemon's is no twin.
  const keyed = { authorization: `Bearer ${token}` }
  assert.match(errorOf(await zos.post('zos.deployment.list', '', keyed)), /^401 255 /)

  const grid = await serveZos(t, { document, listen: { plugins: ['zos'], core: false } })
  assert.equal((await grid.send(PATH)).status, 404)
  assert.equal((await grid.send(PATH, { method: 'PUT', body: document })).status, 404)
  assert.equal((await grid.post('zos.system.version')).status, 200)
})

test('where the chain is the registry there is no document', async (t) => {
  const zos = await serveZos(t, {
    config: { registry: undefined, chain_url: ['ws://127.0.0.1:9'], node_id: 11 },
  })
  for (const method of ['GET', 'PUT']) {
    const sent = { method, ...(method === 'PUT' && { body: registryText([]) }) }
    const { status, code, detail } = problemOf(await zos.send(PATH, sent))
    assert.deepEqual([status, code], [404, 'ZOS_NO_DOCUMENT'])
    assert.match(detail, /chain/)
  }
  assert.equal((await zos.post('zos.system.version')).status, 200)
})

const post = (command: string, init: RequestInit = {}) =>
  [`/zos/${command}`, { method: 'POST', ...init }] as const

test('a daemon that nobody made a grid node of answers no strangers, until it is one', async (t) => {
  const zos = await serveZos(t, { config: { registry: undefined }, listen: { auth: 'key' } })
  const { token } = await zos.server.keys.add({ name: 'grid', scopes: ['zos:registry'] })
  const keyed = { authorization: `Bearer ${token}` }
  const unmade =
    /^401 255 nobody made a grid node of this daemon: .*registry.*\[plugins\.zos\].*PUT.*\/zos-registry/
  for (const command of ['zos.statistics.get', 'zos.deployment.list', 'zos.nothing']) {
    const of = { 'x-zos-twin': String(OWNER) }
    const signed = xAuth(OWNER)
    for (const headers of [{}, keyed, of, signed, { authorization: 'Bearer a.b.c' }]) {
      assert.match(errorOf(await zos.post(command, '', headers)), unmade, command)
    }
  }
  const put = await zos.send(PATH, { method: 'PUT', body: registryText([]), headers: keyed })
  assert.equal(put.status, 204)
  assert.equal((await zos.post('zos.statistics.get')).status, 200)
  assert.equal((await zos.post('zos.deployment.list', '', xAuth(OWNER))).body, '[]')
})

test('on a socket of its operator it is opened by the first question of a twin', async (t) => {
  const zos = await serveZos(t, { config: { registry: undefined }, unix: true })
  assert.match(errorOf(await zos.post('zos.statistics.get')), /^401 255 nobody made a grid node/)
  const of = { 'x-zos-twin': '1' }
  // Several first ones at a time open it once.
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => zos.post('zos.statistics.get', '', of)),
  )
  assert.deepEqual(
    answers.map(({ status }) => status),
    Array(8).fill(200),
  )
  // That did not make one of it.
  assert.match(errorOf(await zos.post('zos.statistics.get')), /^401 255 nobody made a grid node/)
})

test('before its start it answers nobody, afterwards its state is empty', async () => {
  const host = hostPlugin(zos, HERMETIC)
  try {
    const early = await host.request(...post('zos.system.version'))
    assert.equal(early.status, 503)
    await host.start()
    assert.deepEqual(readdirSync(host.stateDir), [])
    for (const headers of [{}, xAuth(OWNER), { 'x-zos-twin': '1' }]) {
      const answer = await host.request(...post('zos.system.version', { headers }))
      assert.equal(answer.status, 401)
    }
    assert.deepEqual(readdirSync(host.stateDir), [])
  } finally {
    await host.stop()
  }
})

test('a document that cannot be used makes no grid node', async () => {
  const host = hostPlugin(zos, HERMETIC)
  try {
    mkdirSync(host.stateDir, { recursive: true })
    const path = join(host.stateDir, 'registry.json')
    writeFileSync(path, '{}')
    await host.start()
    const answer = await host.request(...post('zos.system.version'))
    assert.equal(answer.status, 401)
    assert.match(await answer.text(), /nobody made a grid node of this daemon/)
  } finally {
    await host.stop()
  }
})

test('a state folder with deployments, or a document in it, is a grid node from the start', async () => {
  const host = hostPlugin(zos, HERMETIC)
  try {
    mkdirSync(host.stateDir, { recursive: true })
    writeFileSync(join(host.stateDir, 'registry.json'), registryText([]))
    await host.start()
    assert.ok(existsSync(join(host.stateDir, 'owner')))
    assert.equal((await host.request(...post('zos.system.version'))).status, 200)
  } finally {
    await host.stop()
  }
})

test('stopped while it opens, while it is asked, and before it started', async () => {
  const idle = hostPlugin(zos, HERMETIC)
  await idle.stop()
  const asTwin = post('zos.statistics.get', { headers: { 'x-zos-twin': '1' } })
  for (let round = 0; round < 5; round++) {
    const host = hostPlugin(zos, { ...HERMETIC, trust_twin_header: true })
    await host.start()
    const asked = Array.from({ length: 4 }, () => host.request(...asTwin))
    for (let turn = 0; turn < round; turn++) await new Promise((next) => setImmediate(next))
    await inTime(host.stop(), 'stop')
    for (const { status } of await inTime(Promise.all(asked), 'answer')) {
      assert.ok([200, 503].includes(status), String(status))
    }
    const late = await host.request(...asTwin)
    assert.equal(late.status, 503)
    assert.deepEqual(await late.json(), {
      error: { code: 255, message: 'The plugin zos is not started' },
    })
  }
})

test('stopped in the middle of a deployment that waits for its contract', async () => {
  const host = hostPlugin(zos, { ...HERMETIC, trust_twin_header: true })
  await host.start()
  await host.request('/zos-registry', { method: 'PUT', body: registryText([]) })
  const body = signedDeployment([{ name: 'v', type: 'volume', data: { size: 1 } }])
  const headers = { 'x-zos-twin': String(OWNER) }
  const deploying = host.request(...post('zos.deployment.deploy', { body, headers }))
  await new Promise((next) => setTimeout(next, 200))
  await inTime(host.stop(), 'stop')
  const answer = await inTime(deploying, 'answer')
  assert.equal(answer.status, 503, await answer.clone().text())
})
