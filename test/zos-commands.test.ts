/** Every command of spec zos §1, over a real registry, real deployments and a fixture machine. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { printJson } from '../plugins/zos/json/print.ts'
import { RegistryError } from '../plugins/zos/registry/registry.ts'
import {
  ADMIN,
  apiNode,
  BIG,
  contractOf,
  FARMER,
  NOW,
  OTHER,
  OWNER,
  signedDeployment,
} from './helpers/zos-api.ts'
import { disk, inTime, machine, network, type Plan } from './helpers/zos-provision.ts'

const volume = (name: string, size: number, version = 0): Plan => ({
  name,
  type: 'volume',
  data: { size },
  version,
})

const CLASSES = {
  'zos.deployment.deploy': 'owner',
  'zos.deployment.update': 'owner',
  'zos.deployment.get': 'owner',
  'zos.deployment.changes': 'owner',
  'zos.deployment.list': 'owner',
  'zos.deployment.delete': 'any',
  'zos.statistics.get': 'any',
  'zos.storage.pools': 'any',
  'zos.network.list_wg_ports': 'any',
  'zos.network.has_ipv6': 'any',
  'zos.network.interfaces': 'any',
  'zos.network.list_public_ips': 'any',
  'zos.network.list_private_ips': 'owner',
  'zos.network.public_config_get': 'any',
  'zos.network.admin.interfaces': 'farmer',
  'zos.network.admin.get_public_nic': 'farmer',
  'zos.network.admin.set_public_nic': 'farmer',
  'zos.admin.interfaces': 'farmer',
  'zos.admin.get_public_nic': 'farmer',
  'zos.admin.set_public_nic': 'farmer',
  'zos.system.version': 'any',
  'zos.system.dmi': 'any',
  'zos.system.hypervisor': 'any',
  'zos.system.diagnostics': 'any',
  'zos.system.node_features_get': 'any',
  'zos.gpu.list': 'any',
  'zos.perf.get': 'any',
  'zos.perf.get_all': 'any',
  'zos.location.get': 'any',
  'zos.debug.deployment.list': 'admin',
  'zos.debug.deployment.get': 'admin',
  'zos.debug.deployment.history': 'admin',
  'zos.debug.deployment.info': 'admin',
  'zos.debug.deployment.health': 'admin',
}

const NOBODY =
  'authentication: this command needs the twin that calls: sign the request, see the README'

test('exactly the commands of the specification are served, each for its callers', async (t) => {
  const node = await apiNode(t)
  const served = Object.fromEntries(node.names.map((name) => [name, node.classOf(name)]))
  assert.deepEqual(Object.entries(served).sort(), Object.entries(CLASSES).sort())
})

test('callers: what each may ask for, and what the others are told', async (t) => {
  const node = await apiNode(t)
  for (const [name, caller] of Object.entries(CLASSES)) {
    if (caller === 'any') continue
    assert.equal(await node.refused(name), NOBODY, name)
    const [allowed, others] =
      caller === 'farmer'
        ? [FARMER, [OWNER, ADMIN, 17]]
        : caller === 'admin'
          ? [ADMIN, [OWNER, FARMER, 17]]
          : [OWNER, []]
    for (const twin of others) {
      assert.equal(await node.refused(name, '', twin), 'forbidden: unauthorized', `${name} ${twin}`)
    }
    const refusal = await node.refused(name, '', allowed)
    assert.doesNotMatch(refusal, /unauthorized|needs the twin/, name)
  }
})

test('commands that are not there, and what guarded branches tell of them', async (t) => {
  const node = await apiNode(t)
  const unknown = 'not-found: function is not found'
  for (const name of [
    '',
    'zos',
    'zos.',
    'zos.admin',
    'zos.debug',
    'zos.node.get',
    'zos.deployment.pause',
    'ZOS.statistics.get',
    ' zos.statistics.get',
    'zos.network.public_config_set',
    '__proto__',
    'constructor',
    'toString',
  ]) {
    assert.equal(node.classOf(name), undefined, name)
    for (const twin of [undefined, OWNER]) {
      assert.equal(await node.refused(name, 'no JSON', twin), unknown, name)
    }
  }
  for (const [name, allowed] of [
    ['zos.admin.x', FARMER],
    ['zos.admin.', FARMER],
    ['zos.network.admin.interfaces.x', FARMER],
    ['zos.debug.provision', ADMIN],
    ['zos.debug.deployment.exec', ADMIN],
  ] as const) {
    assert.equal(await node.refused(name), NOBODY)
    assert.equal(await node.refused(name, '', OWNER), 'forbidden: unauthorized', name)
    assert.equal(await node.refused(name, '', allowed), unknown, name)
  }
})

test('a deployment from its beginning to its end, byte for byte', async (t) => {
  const node = await apiNode(t)
  const first = signedDeployment([
    { name: 'a', type: 'zmount', data: { size: 9_007_199_254_740_993n, Extra: '<&>' } },
    volume('b', 1),
  ])
  await node.agree([contractOf(first)])
  assert.equal(await node.call('zos.deployment.deploy', first, OWNER), 'null')
  await inTime(node.deployments.idle(), 'come to rest')

  const id = `{"contract_id":${BIG}}`
  const result = (name: string) =>
    `"result":{"created":${NOW},"state":"ok","message":"","data":{"id":"42-${BIG}-${name}"}}}`
  const withResults = first
    .replace(/("data":\{"size":9007199254740993.*?"description":"")\}/, `$1,${result('a')}`)
    .replace(/("name":"b".*?"description":"")\}/, `$1,${result('b')}`)
  assert.equal(await node.call('zos.deployment.get', id, OWNER), withResults)
  assert.equal(await node.call('zos.deployment.get', `{"Contract_ID":${BIG}}`, OWNER), withResults)
  assert.equal(await node.call('zos.deployment.list', '', OWNER), `[${withResults}]`)
  assert.equal(await node.call('zos.deployment.list', 'null', OTHER), '[]')

  const changes = async () =>
    (JSON.parse(await node.call('zos.deployment.changes', id, OWNER)) as Changed[]).map(
      ({ name, version, result: { state, message } }) => `${name}@${version} ${state} ${message}`,
    )
  assert.deepEqual(await changes(), ['a@0 init ', 'b@0 init ', 'a@0 ok ', 'b@0 ok '])

  const second = signedDeployment([volume('b', 2, 1), volume('c', 3, 1)], { version: 1 })
  assert.equal(
    await node.refused('zos.deployment.update', second, OWNER),
    'invalid: contract hash does not match deployment hash',
  )
  await node.agree([contractOf(second)])
  assert.equal(await node.call('zos.deployment.update', second, OWNER), 'null')
  await inTime(node.deployments.idle(), 'come to rest')
  assert.deepEqual((await changes()).slice(4), [
    'c@1 init ',
    'a@0 deleted deleted by an update',
    // The largest first.
    'c@1 ok ',
    'b@1 ok ',
  ])
  assert.match(await node.call('zos.deployment.get', id, OWNER), /^\{"version":1,/)

  await node.agree([contractOf(second, 'grace_period')])
  await inTime(node.deployments.sync(), 'ask the registry')
  await inTime(node.deployments.idle(), 'come to rest')
  assert.deepEqual((await changes()).slice(8), ['b@1 paused paused', 'c@1 paused paused'])

  await node.agree([])
  await inTime(node.deployments.sync(), 'ask the registry')
  await inTime(node.deployments.idle(), 'come to rest')
  for (const command of ['zos.deployment.get', 'zos.deployment.changes']) {
    assert.equal(await node.refused(command, id, OWNER), 'not-found: deployment not found')
  }
  assert.equal(await node.call('zos.deployment.list', '""', OWNER), '[]')
})

interface Changed {
  readonly name: string
  readonly version: number
  readonly result: { readonly state: string; readonly message: string }
}

test('the list leaves out what has failed or is over, and nobody sees what is not theirs', async (t) => {
  const node = await apiNode(t)
  const driver = node.drivers.get('zmount')
  if (driver) {
    driver.script = () => {
      throw new Error('no space left')
    }
  }
  const failing = signedDeployment([disk('a', 1)], { contractId: 5n })
  const other = signedDeployment([volume('v', 1)], { contractId: 6n, twinId: OTHER })
  await node.deploy(failing)
  await node.deploy(other)
  assert.equal(await node.call('zos.deployment.list', '', OWNER), '[]')
  const failed = JSON.parse(await node.call('zos.deployment.get', '{"contract_id":5}', OWNER))
  assert.deepEqual(failed.workloads[0].result, {
    created: NOW,
    state: 'error',
    message: 'no space left',
    data: null,
  })
  for (const command of ['zos.deployment.get', 'zos.deployment.changes']) {
    const refusal = await node.refused(command, '{"contract_id":6}', OWNER)
    assert.equal(refusal, 'not-found: deployment not found', command)
  }
  assert.match(await node.call('zos.deployment.list', '', OTHER), /^\[\{.*"contract_id":6,/)
})

test('deploy: each refusal in the order and the words of the reference', async (t) => {
  const node = await apiNode(t)
  const good = signedDeployment([disk('a', 1)], { contractId: 5n })
  const steps: [text: string, refusal: string][] = [
    ['', 'decode: unexpected end of JSON input'],
    [
      '{"version":-1}',
      'decode: json: cannot unmarshal number -1 into Go struct field Deployment.version of type uint32',
    ],
    [good.replace('"size":1073741824', '"size":0'), 'invalid: invalid size'],
    [
      good.replace('"name":"a"', '"name":"ygg"'),
      "invalid: name 'ygg' is invalid: invalid name 'ygg' is reserved",
    ],
    [
      good.replace('"twin_id":42', '"twin_id":43'),
      'forbidden: twin id mismatch (deployment: 43, message: 42)',
    ],
    [
      good.replace(/"signature":"../, '"signature":"00'),
      'authentication: failed to verify signature',
    ],
    [
      signedDeployment([disk('a', 1)], { version: 3 }),
      'invalid: expected version to be 0 on deployment creation: invalid version',
    ],
    [good, "invalid: failed to get deployment contract: contract '5' not found"],
  ]
  for (const [text, refusal] of steps) {
    assert.equal(await node.refused('zos.deployment.deploy', text, OWNER), refusal)
  }
  const contracts: [over: object, refusal: string][] = [
    [{ type: 'rent' }, 'invalid: invalid contract type, expecting node contract'],
    [{ state: 'deleted' }, "invalid: invalid contract state, contract '5' is deleted"],
    [{ twin_id: OTHER }, "forbidden: invalid contract owner, contract '5' is of another twin"],
    [{ node_id: 12 }, 'invalid: invalid node address in contract'],
    [{ deployment_hash: '00'.repeat(16) }, 'invalid: contract hash does not match deployment hash'],
  ]
  for (const [over, refusal] of contracts) {
    await node.agree([contractOf(good, 'created', over)])
    assert.equal(await node.refused('zos.deployment.deploy', good, OWNER), refusal)
  }
  assert.equal(await node.call('zos.deployment.list', '', OWNER), '[]')
  await node.deploy(good)
  assert.equal(await node.refused('zos.deployment.deploy', good, OWNER), 'conflict: exists')
  const unknown = signedDeployment([disk('a', 1)], { version: 1, contractId: 6n })
  assert.equal(
    await node.refused('zos.deployment.update', unknown, OWNER),
    'not-found: deployment not found: deployment does not exist',
  )
  const late = signedDeployment([disk('a', 1)], { version: 2, contractId: 5n })
  assert.equal(
    await node.refused('zos.deployment.update', late, OWNER),
    'invalid: expecting deployment version 1, got 2: upgrade validation error',
  )
})

test('nothing is deleted over the API, by nobody', async (t) => {
  const node = await apiNode(t)
  for (const twin of [undefined, OWNER, FARMER]) {
    assert.equal(
      await node.refused('zos.deployment.delete', '{"contract_id":1}', twin),
      'failed: deletion over the api is disabled, please cancel your contract instead',
    )
  }
})

const struct = 'json: cannot unmarshal'
const PAYLOADS: [command: string, payload: string, refusal: string][] = [
  ['zos.deployment.get', '', 'decode: unexpected end of JSON input'],
  [
    'zos.deployment.get',
    '[]',
    `decode: ${struct} array into Go value of type struct { ContractID uint64 "json:\\"contract_id\\"" }`,
  ],
  [
    'zos.deployment.get',
    '{"contract_id":"7"}',
    `decode: ${struct} string into Go struct field .contract_id of type uint64`,
  ],
  [
    'zos.deployment.get',
    '{"contract_id":1.5}',
    `decode: ${struct} number 1.5 into Go struct field .contract_id of type uint64`,
  ],
  [
    'zos.deployment.get',
    '{"contract_id":-1}',
    `decode: ${struct} number -1 into Go struct field .contract_id of type uint64`,
  ],
  [
    'zos.deployment.get',
    '{"contract_id":18446744073709551616}',
    `decode: ${struct} number 18446744073709551616 into Go struct field .contract_id of type uint64`,
  ],
  ['zos.deployment.get', '{"contract_id":1', 'decode: unexpected end of JSON input'],
  [
    'zos.deployment.get',
    '{"contract_id":1}x',
    "decode: invalid character 'x' after top-level value",
  ],
  ['zos.deployment.get', 'null', 'not-found: deployment not found'],
  ['zos.deployment.get', '{}', 'not-found: deployment not found'],
  [
    'zos.deployment.changes',
    '{"contract_id":true}',
    `decode: ${struct} bool into Go struct field .contract_id of type uint64`,
  ],
  [
    'zos.perf.get',
    '{"name":1}',
    `decode: failed to unmarshal payload: ${struct} number into Go struct field Payload.Name of type string`,
  ],
  ['zos.perf.get', '{"name":"nothing"}', 'failed: result not found'],
  [
    'zos.network.list_private_ips',
    '{"network_name":[]}',
    `decode: ${struct} array into Go struct field .network_name of type gridtypes.Name`,
  ],
]

test('payloads that are not what they must be, in the words of Go', async (t) => {
  const node = await apiNode(t)
  const wrong: string[] = []
  for (const [command, payload, refusal] of PAYLOADS) {
    const got = await node.refused(command, payload, OWNER)
    if (got !== refusal) wrong.push(`${command} ${payload}\n  ${got}\n  ${refusal}`)
  }
  assert.deepEqual(wrong, [])
  for (const command of ['zos.admin.set_public_nic', 'zos.network.admin.set_public_nic']) {
    const before = 'decode: failed to decode input, expecting string: '
    const of = (payload: string) => node.refused(command, payload, FARMER)
    assert.equal(await of(''), `${before}unexpected end of JSON input`)
    assert.equal(
      await of('{}'),
      `${before}json: cannot unmarshal object into Go value of type string`,
    )
    assert.equal(await of('eno2'), `${before}invalid character 'e' looking for beginning of value`)
  }
})

test('statistics: exact sums of what runs and what the node keeps for itself', async (t) => {
  const node = await apiNode(t)
  const total = { cru: 8n, sru: 0n, hru: 0n, mru: 65_860_620n * 1024n, ipv4u: 0n }
  const system = { cru: 0n, sru: 0n, hru: 0n, mru: total.mru / 10n, ipv4u: 0n }
  const users = { deployments: 0, workloads: 0, last_deployment_timestamp: 0 }
  const nothing = { total, used: system, system, users, open_connections: 3 }
  assert.equal(await node.call('zos.statistics.get', 'whatever'), printJson(nothing))

  const size = 2n ** 62n
  await node.deploy(
    signedDeployment([
      { name: 'a', type: 'zmount', data: { size } },
      { name: 'b', type: 'zmount', data: { size } },
      { name: 'net', type: 'network', data: network('net').data },
      machine('vm', 'net'),
      { name: 'pub', type: 'ip', data: { v4: true, v6: false } },
    ]),
  )
  const used = {
    cru: 1n,
    sru: size * 2n + 524_288_000n,
    hru: 0n,
    mru: system.mru + 2n ** 30n,
    ipv4u: 1n,
  }
  const after = { deployments: 1, workloads: 5, last_deployment_timestamp: NOW }
  assert.equal(await node.call('zos.statistics.get'), printJson({ ...nothing, used, users: after }))
})

test('facts of a server, each in the form of the wire', async (t) => {
  const node = await apiNode(t, {
    facts: {
      publicConfig: {
        type: 'macvlan',
        ipv4: '185.1.2.3/24',
        ipv6: '',
        gw4: '185.1.2.1',
        gw6: '',
        domain: 'gent01.example',
      },
      location: {
        longitude: 3.72,
        latitude: 51.05,
        continent: 'Europe',
        country_name: 'Belgium',
        country_code: 'BE',
        city_name: 'Ghent',
      },
    },
    parts: {
      modules: () => [
        { name: 'zos', problem: undefined },
        { name: 'supervisor', problem: 'the engine is away' },
      ],
    },
  })
  const replies = {
    'zos.storage.pools': 'null',
    'zos.gpu.list': 'null',
    'zos.network.list_wg_ports': '[80,300,443,8082,9651,9943,9944,9945]',
    'zos.network.has_ipv6': 'true',
    'zos.network.interfaces': '{"zos":["203.0.113.10","2001:db8::10"]}',
    'zos.network.list_public_ips': '[]',
    'zos.network.public_config_get':
      '{"type":"macvlan","ipv4":"185.1.2.3/24","ipv6":"","gw4":"185.1.2.1","gw6":"","domain":"gent01.example"}',
    'zos.system.version': '{"zos":"1.2.3","zinit":""}',
    'zos.system.node_features_get': '["zmount","volume"]',
    'zos.system.diagnostics':
      '{"system_status_ok":false,"modules":{"zos":{"status":{"objects":[],"workers":[]}},"supervisor":{"status":{"objects":[],"workers":[]},"error":"the engine is away"}},"healthy":false}',
    'zos.location.get':
      '{"longitude":3.72,"latitude":51.05,"continent":"Europe","country_name":"Belgium","country_code":"BE","city_name":"Ghent"}',
    'zos.perf.get_all': 'null',
  }
  for (const [command, reply] of Object.entries(replies)) {
    for (const payload of ['', 'null', '""', '{"a":']) {
      assert.equal(await node.call(command, payload), reply, command)
    }
  }
  assert.equal(typeof JSON.parse(await node.call('zos.system.hypervisor')), 'string')
  const dmi = JSON.parse(await node.call('zos.system.dmi'))
  assert.deepEqual(Object.keys(dmi), ['tooling', 'sections'])
  assert.ok(dmi.sections.length > 0)
})

test('what a node does not have is said, or is empty', async (t) => {
  const node = await apiNode(t, { machine: 'container' })
  assert.equal(
    await node.refused('zos.network.public_config_get'),
    'failed: no public configuration',
  )
  assert.equal(
    await node.refused('zos.location.get'),
    'failed: failed to fetch location information',
  )
  const diagnostics = '{"system_status_ok":true,"modules":{},"healthy":true}'
  assert.equal(await node.call('zos.system.diagnostics'), diagnostics)
})

test('pools and results of tasks', async (t) => {
  const space = async (path: string) => ({
    path,
    device: { major: 8, minor: 0 },
    used: 2n ** 60n,
    available: 1n,
  })
  const node = await apiNode(t, { facts: { dataFolders: [{ path: '/data', type: 'hdd' }], space } })
  const pools = JSON.parse((await node.call('zos.storage.pools')).replace(/:(\d{16,})/g, ':"$1"'))
  assert.deepEqual(pools, [
    { name: pools[0]?.name, type: 'hdd', size: '1152921504606846977', used: '1152921504606846976' },
  ])
  await node.facts.start()
  const seen = async () => {
    while (node.facts.perf().length === 0) await new Promise((next) => setTimeout(next, 5))
  }
  await inTime(seen(), 'run the health check')
  const one = await node.call('zos.perf.get', '{"Name":"healthcheck"}')
  assert.match(one, /^\{"name":"healthcheck","description":"[^"]+","timestamp":\d+,"result":\{/)
  assert.equal(await node.call('zos.perf.get_all'), `[${one}]`)
  await node.facts.stop()
})

test('the farmer chooses the public NIC, under both names', async (t) => {
  const node = await apiNode(t)
  for (const prefix of ['zos.admin', 'zos.network.admin']) {
    const call = (name: string, payload = '') => node.call(`${prefix}.${name}`, payload, FARMER)
    const devices = JSON.parse(await call('interfaces'))
    assert.equal(devices.lo, undefined)
    assert.deepEqual(Object.keys(devices.eno2), ['ips', 'mac'])
    assert.deepEqual(devices.eno2.ips, ['192.168.254.9/24'])
    assert.equal(devices.eno3.ips, null)
    const single = '{"is_single":true,"is_dual":false,"dual_interface":""}'
    assert.equal(await call('get_public_nic'), single)
    assert.equal(await call('set_public_nic', '"eno2"'), 'null')
    const dual = '{"is_single":false,"is_dual":true,"dual_interface":"eno2"}'
    assert.equal(await call('get_public_nic'), dual)
    const refused = (payload: string) => node.refused(`${prefix}.set_public_nic`, payload, FARMER)
    assert.equal(await refused('"nothing"'), 'failed: Link not found')
    assert.equal(await refused('null'), 'failed: Link not found')
    assert.equal(
      await refused('"docker0"'),
      'failed: invalid exit bridge must be a physical nic or the default bridge',
    )
    assert.equal(await refused('"eno1"'), "failed: device is 'eno1' already used")
    assert.equal(await call('set_public_nic', '"zos"'), 'null')
  }
})

test('addresses of machines: public ones for everybody, private ones for their twin', async (t) => {
  const node = await apiNode(t)
  const ips = node.drivers.get('ip')
  if (ips) {
    ips.script = (_step, { workload }) => ({
      ip: workload.name === 'none' ? '' : `185.1.2.${workload.name.length}/24`,
      ip6: '',
      gateway: '',
    })
  }
  const address = (name: string): Plan => ({ name, type: 'ip', data: { v4: true } })
  const mine = [network('net'), machine('vm', 'net'), address('pub'), address('none')]
  await node.deploy(signedDeployment(mine, { contractId: 5n }))
  const other = [network('net'), machine('vm', 'net'), address('other')]
  await node.deploy(signedDeployment(other, { contractId: 6n, twinId: OTHER }))
  assert.equal(await node.call('zos.network.list_public_ips'), '["185.1.2.3/24","185.1.2.5/24"]')
  const of = (name: string, twin: number) =>
    node.call('zos.network.list_private_ips', `{"network_name":"${name}"}`, twin)
  assert.equal(await of('net', OWNER), '["10.1.2.3"]')
  assert.equal(await of('other', OWNER), '[]')
  assert.equal(await of('net', FARMER), '[]')
  assert.equal(
    await node.call('zos.network.list_wg_ports'),
    '[80,300,443,1234,8082,9651,9943,9944,9945]',
  )
})

test('without a registry: facts are told, everything else waits for it', async (t) => {
  const node = await apiNode(t, { empty: true })
  assert.match(await node.call('zos.statistics.get'), /^\{"total"/)
  assert.match(await node.refused('zos.admin.interfaces', '', FARMER), /^unavailable: /)
  const text = signedDeployment([disk('a', 1)])
  assert.match(await node.refused('zos.deployment.deploy', text, OWNER), /^unavailable: /)
  assert.equal(await node.call('zos.deployment.list', '', OWNER), '[]')
})

test('what nobody expected is told as the reference tells a panic, and is not endless', async (t) => {
  for (const [error, refusal] of [
    [new TypeError('no'), 'failed: handler panicked with: no'],
    ['text', 'failed: handler panicked with: text'],
    [new RegistryError('REGISTRY_VERSION', 'unknown version'), 'unavailable: unknown version'],
    [new Error('x'.repeat(9000)), `failed: handler panicked with: ${'x'.repeat(4096)}`],
  ] as const) {
    const node = await apiNode(t, {
      parts: {
        features: () => {
          throw error
        },
      },
    })
    assert.equal(await node.refused('zos.system.node_features_get'), refusal)
  }
})
