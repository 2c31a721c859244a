/** `zos.debug`, which shows no secret, and the GPUs with the contracts that have them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { redact, redactText } from '../plugins/zos/commands/redact.ts'
import { gpusBelow } from './helpers/gpus.ts'
import { SMALL_PCI_IDS, writePciIds, writePciTree } from './helpers/pci-tree.ts'
import {
  ADMIN,
  type ApiPlan,
  apiNode,
  BIG,
  canary,
  NOW,
  signedDeployment,
} from './helpers/zos-api.ts'
import { folder } from './helpers/zos-node.ts'
import { disk, machine, network } from './helpers/zos-provision.ts'

const TARGET = `{"deployment":"42:${BIG}"}`
const info = (name: string) => `{"deployment":"42:${BIG}","workload":"${name}","verbose":true}`

test('what admins see of a deployment of anybody', async (t) => {
  const node = await apiNode(t)
  const text = signedDeployment([disk('a', 1), { name: 'b', type: 'volume', data: { size: 2 } }])
  await node.deploy(text)
  const disks = node.drivers.get('zmount')
  Object.assign(disks ?? {}, {
    logs: async () => 'last line\n',
    health: async () => [{ name: 'file', ok: false, message: 'it is gone', evidence: 'ENOENT' }],
  })
  const call = (name: string, payload: string) =>
    node.call(`zos.debug.deployment.${name}`, payload, ADMIN)
  const listed = `{"deployments":[{"twin_id":42,"contract_id":${BIG},"workloads":[{"type":"zmount","name":"a","state":"ok"},{"type":"volume","name":"b","state":"ok"}]}]}`
  for (const payload of ['', '{}', 'null', '{"twin_id":42}', '{"twin_id":0}', '{"TWIN_ID":null}']) {
    assert.equal(await call('list', payload), listed, payload)
  }
  assert.equal(await call('list', '{"twin_id":43}'), '{"deployments":[]}')
  const own = await node.call('zos.deployment.get', `{"contract_id":${BIG}}`, 42)
  assert.equal(await call('get', TARGET), `{"deployment":${own}}`)
  const entry = (seq: number, type: string, name: string, state: string) =>
    `{"seq":${seq},"type":"${type}","name":"${name}","created":${NOW},"state":"${state}","message":""}`
  const history = [
    entry(1, 'zmount', 'a', 'init'),
    entry(2, 'volume', 'b', 'init'),
    entry(3, 'zmount', 'a', 'ok'),
    entry(4, 'volume', 'b', 'ok'),
  ]
  assert.equal(
    await call('history', TARGET),
    `{"deployment":"42:${BIG}","history":[${history.join(',')}]}`,
  )
  const result = `{"state":"ok","message":"","created":${NOW},"data":{"id":"42-${BIG}-a"}}`
  assert.equal(
    await call('info', info('a')),
    `{"workload_id":"42-${BIG}-a","type":"zmount","name":"a","info":${result},"logs":"last line\\n"}`,
  )
  const health = JSON.parse((await call('health', TARGET)).replace(String(BIG), '0'))
  assert.equal(health.twin_id, 42)
  assert.deepEqual(health.workloads[0].checks.at(-1), {
    name: 'file',
    ok: false,
    message: 'it is gone',
    evidence: 'ENOENT',
  })
  assert.deepEqual(
    health.workloads.map(({ name, status }: { name: string; status: string }) => [name, status]),
    [
      ['a', 'unhealthy'],
      ['b', 'healthy'],
    ],
  )
})

test('which deployment is asked for, and how it is wrong', async (t) => {
  const node = await apiNode(t)
  const wrong: [deployment: string, refusal: string][] = [
    ['', 'decode: deployment identifier is required'],
    ['42', "decode: invalid deployment format: expected 'twin-id:contract-id', got '42'"],
    ['1:2:3', "decode: invalid deployment format: expected 'twin-id:contract-id', got '1:2:3'"],
    ['x:2', 'decode: invalid twin ID: x: strconv.ParseUint: parsing "x": invalid syntax'],
    [':2', 'decode: invalid twin ID: : strconv.ParseUint: parsing "": invalid syntax'],
    ['-1:2', 'decode: invalid twin ID: -1: strconv.ParseUint: parsing "-1": invalid syntax'],
    [
      '4294967296:2',
      'decode: invalid twin ID: 4294967296: strconv.ParseUint: parsing "4294967296": value out of range',
    ],
    [
      '1:18446744073709551616',
      'decode: invalid contract ID: 18446744073709551616: strconv.ParseUint: parsing "18446744073709551616": value out of range',
    ],
    ['42:7', 'not-found: deployment not found'],
  ]
  for (const name of ['get', 'history', 'info', 'health']) {
    const command = `zos.debug.deployment.${name}`
    for (const [deployment, refusal] of wrong) {
      const payload = JSON.stringify({ deployment, workload: 'w' })
      assert.equal(await node.refused(command, payload, ADMIN), refusal, `${name} ${deployment}`)
    }
    const typed = `${name[0]?.toUpperCase()}${name.slice(1)}Request`
    assert.equal(
      await node.refused(command, '{"deployment":7}', ADMIN),
      `decode: json: cannot unmarshal number into Go struct field ${typed}.deployment of type string`,
    )
    // No command line is run for anybody.
    const probe = '{"options":{"system_probe":"id"}}'
    assert.match(
      await node.refused(command, probe, ADMIN),
      /^decode: .*(identifier|name) is required$/,
    )
  }
  await node.deploy(signedDeployment([disk('a', 1)]))
  const command = 'zos.debug.deployment.info'
  assert.equal(await node.refused(command, info(''), ADMIN), 'decode: workload name is required')
  assert.equal(
    await node.refused(command, info('b'), ADMIN),
    "not-found: workload 'b' not found in deployment",
  )
  assert.equal(
    await node.refused('zos.debug.deployment.list', '{"twin_id":"42"}', ADMIN),
    'decode: json: cannot unmarshal string into Go struct field ListRequest.twin_id of type uint32',
  )
})

/** A deployment with a secret in every place that may have one. */
function secrets(): { plans: readonly ApiPlan[]; metadata: string; all: readonly string[] } {
  const all: string[] = []
  const secret = (place: string) => {
    const one = canary(place)
    all.push(one)
    return one
  }
  const hex = (place: string) =>
    secret(place)
      .replace('canary', 'ca9a59')
      .padEnd(64, '0')
      .slice(0, place === 'seed' ? 12 : 64)
  const hexes = ['hex key', 'seed', 'qsfs', 'meta'].map((place) => [place, hex(place)] as const)
  const keys = new Map(hexes)
  all.push(...keys.values())
  const backends = [{ address: '[::1]:9900', namespace: 'n', password: secret('backend') }]
  const vm = machine('vm', 'net').data as Record<string, object>
  const userAccess = { user_accesses: [{ subnet: '10.1.3.0/24', private_key: secret('user') }] }
  const plans: ApiPlan[] = [
    {
      name: 'net',
      type: 'network',
      metadata: JSON.stringify({ version: 3, ...userAccess }),
      data: {
        ...network('net').data,
        wireguard_private_key: undefined,
        WireGuard_Private_Key: secret('wireguard'),
        mycelium: { hex_key: keys.get('hex key'), peers: [] },
      },
    },
    {
      name: 'vm',
      type: 'zmachine',
      data: {
        ...vm,
        flist: `https://user:${secret('flist')}@hub.example/a.flist?token=${secret('query')}`,
        network: { ...vm.network, mycelium: { Network: 'net', hex_seed: keys.get('seed') } },
        env: { TOKEN: secret('env'), PATH: secret('path') },
        ENV: { LATER: secret('env again') },
      },
    },
    {
      name: 'logs',
      type: 'zlogs',
      data: {
        zmachine: 'vm',
        output: `redis://me:${secret('zlogs')}@${secret('at')}@10.1.1.1/a?p=${secret('p')}`,
      },
    },
    {
      name: 'db',
      type: 'zdb',
      data: { size: 1, mode: 'seq', paſſword: secret('zdb'), public: false },
    },
    {
      name: 'fs',
      type: 'qsfs',
      data: {
        cache: 1,
        config: {
          minimal_shards: 1,
          expected_shards: 2,
          encryption: { algorithm: 'AES', key: keys.get('qsfs') },
          meta: {
            type: 'zdb',
            config: {
              prefix: 'p',
              encryption: { algorithm: 'AES', key: keys.get('meta') },
              backends,
            },
          },
          groups: [{ backends }],
          compression: { algorithm: 'snappy' },
        },
      },
    },
  ]
  const metadata = JSON.stringify({
    type: 'vm',
    nested: JSON.stringify({ password: secret('nested') }),
  })
  return { plans, metadata, all }
}

test('no secret of a deployment is in what admins see, in errors or in events', async (t) => {
  const node = await apiNode(t)
  const { plans, metadata, all } = secrets()
  const seen: string[] = []
  const text = signedDeployment(plans, { metadata })
  // Refused in all kinds of ways first.
  for (const bad of [
    text,
    text.replace('"size":1,', '"size":-1,'),
    text.replace('redis://', 'redis:// '),
    text.replace('redis://', 'http://'),
    text.replace('"mode":"seq"', '"mode":"x"'),
    text.replace('"hex_key":"', '"hex_key":"0'),
    text.replace('"hex_seed":"', '"hex_seed":"zz'),
    text.replace('"algorithm":"AES","key":"', '"algorithm":"AES","key":"xy'),
    text.replace('"subnet":"10.1.2.0/24"', '"subnet":"10"'),
    text.slice(0, -1),
    text.replace(/"signature":"../, '"signature":"00'),
  ]) {
    const refusal = await node.refused('zos.deployment.deploy', bad, 42)
    assert.doesNotMatch(refusal, /^answered/)
    seen.push(refusal)
  }
  await node.deploy(text)
  const command = (name: string) => `zos.debug.deployment.${name}`
  seen.push(await node.call(command('list'), '', ADMIN))
  for (const name of ['get', 'history', 'health']) {
    seen.push(await node.call(command(name), TARGET, ADMIN))
  }
  for (const { name } of plans) seen.push(await node.call(command('info'), info(name), ADMIN))
  seen.push(...node.events)
  const shown = seen.join('\n')
  assert.deepEqual(
    all.filter((one) => shown.includes(one)),
    [],
  )
  // They were there, and the owner still has them.
  const own = await node.call('zos.deployment.get', `{"contract_id":${BIG}}`, 42)
  const missing = all.filter((one) => !own.includes(one) && !one.startsWith('canary'))
  assert.deepEqual(missing, [])
  assert.ok(own.includes(canary('wireguard')) && own.includes(canary('env')))
  const debug = JSON.parse(
    (await node.call(command('get'), TARGET, ADMIN)).replaceAll(String(BIG), '0'),
  )
  const [net, vm, logs] = debug.deployment.workloads
  assert.equal(net.data.WireGuard_Private_Key, '***')
  assert.equal(net.data.ip_range, '10.1.0.0/16')
  assert.deepEqual(JSON.parse(net.metadata).user_accesses, [
    { subnet: '10.1.3.0/24', private_key: '***' },
  ])
  assert.deepEqual(vm.data.env, { TOKEN: '***', PATH: '***' })
  assert.equal(vm.data.flist, 'https://***@hub.example/a.flist?***')
  assert.equal(logs.data.output, 'redis://***@10.1.1.1/a?***')
})

test('what is hidden stays JSON, and what is no secret stays as it is', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), (text) => {
      const safe = redact(text).text
      JSON.parse(safe)
      assert.equal(redact(safe).text, safe)
    }),
  )
  const plain = '{"a":[18446744073709551615,-0.5e3,null,true,"x","{","[1,"],"b":{"c":"http://h/p"}}'
  assert.equal(redact(plain).text, plain)
  assert.equal(redactText('{not JSON'), '{not JSON')
  assert.equal(redactText('[staging] ours'), '[staging] ours')
  assert.equal(redactText('{"password":"p",}'), '***')
  assert.equal(redactText('see ws://u:p@h/x and wss://h?t=1'), 'see ws://***@h/x and wss://h?***')
  assert.equal(redactText('a://b:c@d,e://f:g@h/i@j'), 'a://***@d,e://***@h/i@j')
  assert.equal(redactText('a://b?c=d://e&f=g #h\ti#j'), 'a://b?*** #h\ti#j')
  let deep = '{"password":"p"}'
  for (let i = 0; i < 8; i++) deep = JSON.stringify({ in: deep })
  assert.doesNotMatch(redactText(deep), /"p\\*"/)
})

test('texts that are long and odd are hidden in no time that grows faster than they do', () => {
  // Ten times as long, it takes about ten times as long; a hundred times would take minutes here.
  for (const part of ['://', '@', '?', ' :// ', '{"', '[', '\\"', ':/', '://@', '://a?']) {
    redactText(part.repeat(300_000))
  }
})

const GPU = '0000:28:00.0/1002/731f'
const DATA_CENTRE = '0000:81:00.0/10de/2330'

test('GPUs: their memory in MiB, and the contract of the machine that runs with one', async (t) => {
  const root = folder(t)
  writePciIds(root, SMALL_PCI_IDS)
  writePciTree(root, [
    {
      slot: '0000:28:00.0',
      class: '0x030000',
      vendor: '0x1002',
      device: '0x731f',
      windows: [2 ** 28, 2 ** 21 + 5],
    },
    {
      slot: '0000:81:00.0',
      class: '0x030200',
      vendor: '0x10de',
      device: '0x2330',
      windows: [2 ** 37],
    },
    { slot: '0000:00:02.0', class: '0x030000', vendor: '0x8086', device: '0x3e9b' },
  ])
  const gpus = gpusBelow(root)
  const node = await apiNode(t, { parts: { gpus } })
  const amd = (contract: bigint) =>
    `{"id":"${GPU}","vendor":"Advanced Micro Devices, Inc. [AMD/ATI]","device":"Navi 10 [Radeon RX 5600 OEM/5600 XT / 5700/5700 XT]","vram":256,"contract":${contract}}`
  const h100 = (contract: bigint) =>
    `{"id":"${DATA_CENTRE}","vendor":"NVIDIA Corporation","device":"GH100 [H100 SXM5 80GB]","vram":131072,"contract":${contract}}`
  assert.equal(await node.call('zos.gpu.list'), `[${amd(0n)},${h100(0n)}]`)

  const vm = machine('vm', 'net')
  const plans = [network('net'), { ...vm, data: { ...vm.data, gpu: [DATA_CENTRE] } }]
  await node.deploy(signedDeployment(plans))
  assert.equal(await node.call('zos.gpu.list'), `[${amd(0n)},${h100(BIG)}]`)
  await node.agree([])
  await node.deployments.sync()
  await node.deployments.idle()
  assert.equal(await node.call('zos.gpu.list'), `[${amd(0n)},${h100(0n)}]`)

  const reference = await apiNode(t, { parts: { gpus, gpuClasses: 'reference' } })
  assert.equal(await reference.call('zos.gpu.list'), `[${amd(0n)}]`)
})
