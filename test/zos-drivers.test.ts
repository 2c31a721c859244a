/** A whole daemon on a container engine, seen from its clients: what machines have around them. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { within } from '../src/deadline.ts'
import { type TestEngine, useEngine } from './helpers/engine.ts'
import { writePciIds, writePciTree } from './helpers/pci-tree.ts'
import {
  deploy,
  features,
  fetchFrom,
  lastOf,
  listenTo,
  type Statistics,
  webMachine,
  webSocketServer,
} from './helpers/zos-drivers.ts'
import { ask, Grid, isErased, reaches, type ShownWorkload, TWIN } from './helpers/zos-grid.ts'
import { IP, network, startNode, workload } from './helpers/zos-machine.ts'
import { testRedis } from './helpers/zos-redis.ts'
import { eventually } from './supervisor/eventually.ts'

const engineOf = useEngine()

/** A folder of a node of its own below the engine's. */
function folderOf(engine: TestEngine, name: string): string {
  const at = join(engine.folder, name)
  mkdirSync(at)
  return at
}

const WEB_PORT = 8080

test('a machine, its log, its gateways and its public address', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const password = 'canary-of-redis'
  const redis = await testRedis(t, { password, also: engine.hostAddress })
  if (!redis) return
  const published = await listenTo(t, redis.url, password, 'log/of/vm')
  const ws = await webSocketServer(t, engine.hostAddress)
  await engine.client.networks.create({
    Name: 'public',
    Driver: 'bridge',
    IPAM: { Driver: 'default', Config: [{ Subnet: '185.1.2.0/24', Gateway: '185.1.2.1' }] },
  })
  const at = folderOf(engine, 'web')
  const grid = new Grid(join(at, 'registry.json'))
  grid.names.set('site', 900)
  const gateway = { ip: '185.1.2.10/24', gateway: '185.1.2.1' }
  const contract = 501
  grid.contracts.set(contract, {
    contract_id: contract,
    state: 'created',
    deployment_hash: '',
    public_ips: [gateway, { ip: '185.1.2.11/24', gateway: '185.1.2.1' }],
  })
  const start = () =>
    startNode(engine.socketPath, at, {
      keys: 'public_network = "public"\nsync_interval_s = 1',
      tables: `[plugins.zos.gateway]\nhttp = "0.0.0.0:${WEB_PORT}"\ndomain = "gw.example"`,
      inside: engine.inNetwork,
    })
  let node = await start()
  t.after(() => node.stop())
  assert.deepEqual(await features(node.socket), [
    'zmount',
    'volume',
    'network',
    'network-light',
    'ipv4',
    'ip',
    'zmachine',
    'zmachine-light',
    'zlogs',
    'gateway-name-proxy',
    'gateway-fqdn-proxy',
  ])

  const host = engine.hostAddress
  const to = { tls_passthrough: false, backends: [`http://${IP}:80`] }
  const on = { network: 'net', ip: IP }
  const vm = webMachine('vm', IP, {
    network: { public_ip: 'pub', planetary: false, interfaces: [on] },
  })
  const all = [
    workload('web', 'gateway-fqdn-proxy', { fqdn: 'www.own.example', network: 'net', ...to }),
    workload('name', 'gateway-name-proxy', { name: 'site', ...to }),
    workload('foreign', 'gateway-name-proxy', { name: 'other', ...to }),
    workload('log', 'zlogs', {
      zmachine: 'vm',
      output: `redis://:${password}@${host}:${redis.port}/log/of/vm`,
    }),
    workload('logws', 'zlogs', { zmachine: 'vm', output: `ws://${host}:${ws.port}/logs` }),
    workload('loglocal', 'zlogs', { zmachine: 'vm', output: 'redis://127.0.0.1/log' }),
    vm,
    workload('pub', 'ip', { v4: true, v6: false }),
    workload('old', 'ipv4', {}),
    network,
  ]
  await deploy(node.socket, grid, contract, all)
  const states = {
    web: 'ok',
    name: 'ok',
    foreign: 'error',
    log: 'ok',
    logws: 'ok',
    loglocal: 'error',
    vm: 'ok',
    pub: 'ok',
    old: 'ok',
    net: 'ok',
  }
  const shown = await reaches(node.socket, contract, states)
  const resultOf = (name: string) => shown.find((one) => one.name === name)?.result
  assert.deepEqual(resultOf('name')?.data, { fqdn: 'site.gw.example' })
  assert.deepEqual(resultOf('web')?.data, {})
  assert.equal(resultOf('log')?.data, null)
  const addresses = ['old', 'pub'].map((name) => resultOf(name)?.data?.ip)
  assert.deepEqual(addresses.sort(), ['185.1.2.10/24', '185.1.2.11/24'])
  assert.equal(resultOf('pub')?.data?.gateway, '185.1.2.1')
  assert.equal(
    resultOf('foreign')?.message,
    'failed to setup name proxy: failed to verify name contract: ' +
      'a name contract with the given name must be reserved first',
  )
  assert.equal(
    resultOf('loglocal')?.message,
    'cannot send logs to the output: it is an address of this node itself',
  )

  const addressOf = (name: string) => resultOf(name)?.data?.ip?.split('/')[0] ?? ''

  // Who comes by a name reaches the machine.
  const visit = (name: string) => fetchFrom(engine.address, WEB_PORT, name)
  const page = { status: 200, body: 'page-of-it' }
  const reachesVm = (name: string) =>
    eventually(`${name} reaches the machine`, () => visit(name), isPage)
  const isPage = ({ status, body }: { status: number; body: string }) =>
    status === page.status && body === page.body
  await reachesVm('www.own.example')
  await reachesVm(`SITE.gw.example:${WEB_PORT}`)
  assert.equal((await visit('other.gw.example')).status, 404)
  assert.equal((await visit(engine.address)).status, 404)
  const isLog = (text: string) => text.startsWith('first-line\nvisited\n')
  await eventually('Redis got the log', published, isLog)
  await eventually('the WebSocket got the log', ws.text, isLog)

  // The public address is the machine's, and is counted.
  const publicIp = addressOf('pub')
  const hear = ['busybox', 'sh', '-c', `nc -w 2 ${publicIp} 80 </dev/null`]
  const [program = '', ...args] = [...engine.inNetwork, ...hear]
  await eventually(
    'the machine is at its public address',
    () => execFileSync(program, args, { encoding: 'utf8', timeout: 10_000 }),
    (answer) => answer.endsWith(page.body),
  )
  const publicIps = async () => {
    const { used } = (await ask(node.socket, 'zos.statistics.get')).json<Statistics>()
    const ips = (await ask(node.socket, 'zos.network.list_public_ips')).json<string[]>()
    return { ips: ips.sort(), counted: used.ipv4u }
  }
  const both = { ips: ['185.1.2.10/24', '185.1.2.11/24'], counted: 2 }
  assert.deepEqual(await publicIps(), both)

  // The daemon is killed: all of it comes again, with the same addresses.
  node.signal('SIGKILL')
  await within(10_000, node.exited(), 'end')
  await assert.rejects(visit('www.own.example'))
  const seen = published().length
  node = await start()
  await reaches(node.socket, contract, states)
  assert.deepEqual(await publicIps(), both)
  await reachesVm('www.own.example')
  await eventually('the log is carried again', published, (text) =>
    text.slice(seen).includes('visited\n'),
  )

  // A name that is given up leads nowhere; a grace period holds the rest.
  grid.names.delete('site')
  grid.write()
  await reaches(node.socket, contract, { ...states, name: 'error' })
  assert.equal((await visit('site.gw.example')).status, 404)
  grid.setState(contract, 'grace_period')
  const paused = Object.entries({ ...states, name: 'error' }).map(([name, state]) => [
    name,
    state === 'ok' ? 'paused' : state,
  ])
  await reaches(node.socket, contract, Object.fromEntries(paused))
  assert.deepEqual((await publicIps()).ips, [])

  grid.setState(contract, 'deleted')
  await isErased(node.socket, contract)
  assert.equal((await visit('www.own.example')).status, 404)
  assert.deepEqual(await publicIps(), { ips: [], counted: 0 })
  await eventually('the log is not carried any more', ws.open, (open) => open === 0)
  assert.deepEqual(await engine.client.containers.list(), [])
  const clients = String(await redis.ask('CLIENT', 'LIST'))
    .trim()
    .split('\n')
  assert.deepEqual(
    clients.filter((one) => one.includes(`addr=${engine.address}:`)),
    [],
  )
  for (const canary of ['canary-of-redis', 'canary-of-a-key']) {
    assert.ok(!node.output().includes(canary), 'the log has no secrets')
  }
})

test('an engine that comes after the daemon, goes away and comes back', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const at = folderOf(engine, 'late')
  const grid = new Grid(join(at, 'registry.json'))
  await engine.end()
  const node = await startNode(engine.socketPath, at, { keys: 'probe_interval_s = 1' })
  t.after(() => node.stop())
  assert.deepEqual(await features(node.socket), ['zmount', 'volume', 'zlogs'])
  const contract = 601
  const vm = webMachine('vm', IP)
  const qsfs = workload('fs', 'qsfs', QSFS)
  await deploy(node.socket, grid, contract, [vm, network, qsfs])
  const shown = await reaches(node.socket, contract, { vm: 'error', net: 'error', fs: 'error' })
  const [first, second, third] = shown.map(({ result }) => result.message)
  const away =
    /^this node does not offer workloads of type '(zmachine|network)' now: Cannot .*engine/
  assert.match(first ?? '', away)
  assert.match(second ?? '', away)
  assert.equal(third, "this node does not offer workloads of type 'qsfs'")

  await engine.start()
  const up = { vm: 'ok', net: 'ok', fs: 'error' }
  await reaches(node.socket, contract, up)
  const offered = await features(node.socket)
  for (const type of ['network', 'network-light', 'zmachine', 'zmachine-light', 'zlogs']) {
    assert.ok(offered.includes(type), type)
  }
  assert.ok(!offered.includes('qsfs'))
  const running = async () => (await engine.client.containers.list()).map(({ State }) => State)
  assert.deepEqual(await running(), ['running'])

  // It takes the machine with it, and the machine comes back with it.
  await engine.end()
  const more = [{ ...vm }, network, qsfs, { ...webMachine('vm2', '10.1.2.8'), version: 1 }]
  const text = grid.signed(contract, more, { version: 1 })
  const updated = await ask(node.socket, 'zos.deployment.update', text)
  assert.equal(updated.status, 202, updated.body)
  await reaches(node.socket, contract, { ...up, vm2: 'error' })
  await engine.start()
  await eventually('both machines run', running, (all) => `${all}` === 'running,running')
  await reaches(node.socket, contract, { ...up, vm2: 'ok' })

  // What ends while it is away is taken away when it is back.
  await engine.end()
  grid.setState(contract, 'deleted')
  await eventually(
    'its removal was tried',
    async () => (await ask(node.socket, 'zos.deployment.get', { contract_id: contract })).body,
    (body) => body.includes('engine'),
  )
  await engine.start()
  await isErased(node.socket, contract)
  assert.deepEqual(await engine.client.containers.list(), [])
})

const QSFS = {
  cache: 1024 ** 3,
  config: {
    minimal_shards: 1,
    expected_shards: 2,
    redundant_groups: 0,
    redundant_nodes: 0,
    max_zdb_data_dir_size: 32,
    encryption: { algorithm: 'AES', key: '00'.repeat(32) },
    meta: {
      type: 'zdb',
      config: {
        prefix: 'x',
        encryption: { algorithm: 'AES', key: '00'.repeat(32) },
        backends: [{ address: '[2001:db8::1]:9900', namespace: 'a', password: 'canary-of-qsfs' }],
      },
    },
    groups: [{ backends: [] }],
    compression: { algorithm: 'snappy' },
  },
}

test('a disk grows when no machine has it that runs, or will', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const at = folderOf(engine, 'grow')
  const grid = new Grid(join(at, 'registry.json'))
  const node = await startNode(engine.socketPath, at)
  t.after(() => node.stop())
  const contract = 801
  const mounts = [{ name: 'disk', mountpoint: '/disk' }]
  const vm = (more: object, version = 0) => ({
    ...webMachine('vm', IP, { mounts, ...more }),
    version,
  })
  const disk = (mib: number, version: number) => ({
    ...workload('disk', 'zmount', { size: mib * 1024 ** 2 }),
    version,
  })
  let version = 0
  const update = async (workloads: Parameters<Grid['signed']>[1]) => {
    const text = grid.signed(contract, workloads, { version })
    const answer = await ask(node.socket, 'zos.deployment.update', text)
    assert.equal(answer.status, 202, answer.body)
  }
  const file = join(at, `state/zos/data/vdisks/${TWIN}-${contract}-disk`)
  const size = () => statSync(file).size / 1024 ** 2
  const refused = async (mib: number, machine: object, message: string) => {
    version++
    await update([machine as typeof network, disk(mib, version), network])
    const isSo = (last: ShownWorkload | undefined) => last?.version === version
    const last = await eventually('it is over', () => lastOf(node.socket, contract, 'disk'), isSo)
    assert.deepEqual([last?.result.state, last?.result.message], ['unchanged', message])
  }
  await deploy(node.socket, grid, contract, [vm({}), disk(64, 0), network])
  await reaches(node.socket, contract, { vm: 'ok', disk: 'ok', net: 'ok' })
  const mounted = 'disk is mounted, please delete the VM first'
  await refused(96, vm({}), mounted)
  await refused(32, vm({}), 'not safe to shrink a disk')
  // Nor while it is paused, for it comes back.
  grid.setState(contract, 'grace_period')
  await reaches(node.socket, contract, { vm: 'paused', disk: 'paused', net: 'paused' })
  await refused(96, vm({}), mounted)
  grid.setState(contract, 'created')
  await reaches(node.socket, contract, { vm: 'ok', disk: 'ok', net: 'ok' })
  assert.equal(size(), 64)

  // A machine that goes with the same update is gone by then.
  version++
  await update([disk(96, version), network])
  await reaches(node.socket, contract, { disk: `ok@${version}`, net: 'ok' })
  assert.equal(size(), 96)

  // One that does not come up has it neither.
  version++
  const broken = { entrypoint: '/bin/not-there' }
  await update([vm(broken, version), disk(96, version - 1), network])
  await reaches(node.socket, contract, { vm: 'error', disk: 'ok', net: 'ok' })
  version++
  await update([vm(broken, version - 1), disk(128, version), network])
  await reaches(node.socket, contract, { vm: 'error', disk: `ok@${version}`, net: 'ok' })
  assert.equal(size(), 128)
  grid.setState(contract, 'deleted')
  await isErased(node.socket, contract)
  assert.deepEqual(await engine.client.containers.list(), [])
})

test('a GPU is for who rents the whole node, and for one machine', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const at = folderOf(engine, 'gpu')
  const grid = new Grid(join(at, 'registry.json'))
  const root = join(at, 'root')
  writePciTree(root, [
    { slot: '0000:28:00.0', class: '0x030000', vendor: '0x1002', device: '0x731f' },
    { slot: '0000:41:00.0', class: '0x030200', vendor: '0x10de', device: '0x2330' },
  ])
  writePciIds(root)
  mkdirSync(join(root, 'proc'))
  writeFileSync(join(root, 'proc/meminfo'), 'MemTotal: 16000000 kB\nMemAvailable: 16000000 kB\n')
  const node = await startNode(engine.socketPath, at, { args: ['--root', root] })
  t.after(() => node.stop())
  const ids = ['0000:28:00.0/1002/731f', '0000:41:00.0/10de/2330'] as const
  const list = async () =>
    (await ask(node.socket, 'zos.gpu.list')).json<{ id: string; contract: number }[]>()
  assert.deepEqual(
    (await list()).map(({ id, contract }) => ({ id, contract })),
    ids.map((id) => ({ id, contract: 0 })),
  )
  let contract = 900
  /** What comes of a machine that asks for these. */
  const asksFor = async (...gpu: readonly string[]) => {
    contract++
    const net = { ...network, name: `net${contract}` }
    const subnet = `10.${contract - 900}.2.0/24`
    const on = { network: net.name, ip: subnet.replace('0/24', '7') }
    const vm = webMachine('vm', IP, {
      gpu,
      network: { public_ip: '', planetary: false, interfaces: [on] },
    })
    const data = { ...(network.data as object), subnet }
    await deploy(node.socket, grid, contract, [vm, { ...net, data }])
    const [shown] = await reaches(node.socket, contract, { vm: 'error', [net.name]: 'ok' })
    return shown?.result.message
  }
  assert.equal(await asksFor(ids[0]), 'usage of GPU is not allowed unless node is rented')
  assert.equal(await asksFor('x/y/z'), 'usage of GPU is not allowed unless node is rented')
  grid.rent = 77
  grid.write()
  assert.equal(await asksFor('0000:99:00.0/10de/2330'), "unknown GPU id '0000:99:00.0/10de/2330'")
  assert.equal(await asksFor(ids[1], 'x/y/z'), "unknown GPU id 'x/y/z'")
  const cannot = (id: string) => `Cannot give GPU '${id}' to a container:`
  assert.equal(
    await asksFor(ids[0]),
    `${cannot(ids[0])} engines take NVIDIA's only, it takes a virtual machine`,
  )
  // Another machine's tree says nothing about this one's driver.
  assert.equal(
    await asksFor(ids[1]),
    `${cannot(ids[1])} nvidia-smi does not tell its UUID, load its driver`,
  )
  // Nobody has what could not be given.
  assert.deepEqual(
    (await list()).map((one) => one.contract),
    [0, 0],
  )
  assert.deepEqual(await engine.client.containers.list(), [])
})
