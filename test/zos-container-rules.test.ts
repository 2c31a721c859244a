import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { networkId } from '../plugins/zos/deployment/ids.ts'
import { privateAddress, publicAddress } from '../plugins/zos/drivers/container/address.ts'
import { imageOf } from '../plugins/zos/drivers/container/image.ts'
import { createContainerMachineDriver } from '../plugins/zos/drivers/container/machine.ts'
import { bindMounts } from '../plugins/zos/drivers/container/mounts.ts'
import { type Asked, bodyOf, hashOf } from '../plugins/zos/drivers/container/spec.ts'
import { DriverError } from '../plugins/zos/drivers/driver.ts'
import type { GpuClaims } from '../plugins/zos/drivers/gpu-claims.ts'
import { createEngineNetworkDriver } from '../plugins/zos/drivers/network-engine/network.ts'
import {
  gatewayOf,
  readIpv4,
  readSubnet,
  writeIpv4,
  writeSubnet,
} from '../plugins/zos/drivers/network-engine/subnet.ts'
import { openEngine } from '../src/engine/engine.ts'
import {
  driverError,
  machineData,
  networkData,
  type TestTwin,
  tasksOf,
  workloadOf,
} from './helpers/zos-container.ts'

const NETWORK = workloadOf('network', 'net', networkData('10.44.2.0/24'))

/** An engine that is not there: what is refused by rule is refused before it is asked. */
const engine = openEngine({ socketPath: '/nonexistent/engine.sock' })

test('a machine comes from a Docker image, and from nothing else', () => {
  const digest = `sha256:${'0'.repeat(64)}`
  for (const image of ['alpine', 'alpine:3', 'reg.example:5000/team/app:1', `a/b@${digest}`]) {
    assert.equal(imageOf(`docker://${image}`), image)
  }
  const offered = 'this node takes "docker://image\\[:tag\\]" or "docker://image@sha256:…"$'
  const refused: [string, string][] = [
    ['https://hub.example/a/b.flist', 'flists are not mounted here'],
    ['https://user:canary@hub.example/a.flist', 'flists are not mounted here'],
    ['file:///rootfs', 'unknown image source'],
    ['', 'unknown image source'],
    ['docker://', 'names no image'],
    ['docker://Not A Name', 'names no image'],
    ['docker://../../etc', 'names no image'],
  ]
  for (const [flist, words] of refused) {
    assert.throws(
      () => imageOf(flist),
      (error) => {
        assert.doesNotMatch(String(error), /canary/)
        return driverError('failed', new RegExp(`${words}.*${offered}`))(error)
      },
    )
  }
})

test('disks and volumes become folders at places that are free', () => {
  const { of } = tasksOf({
    workloads: [
      NETWORK,
      workloadOf('zmount', 'disk', { size: 1n }),
      workloadOf('volume', 'vol', { size: 1n }),
      workloadOf('volume', 'bad', { size: 1n }),
      workloadOf('zmachine', 'vm', machineData('10.44.2.9')),
    ],
    results: { bad: { state: 'error' } },
  })
  const task = of('zmachine', 'vm')
  const mounts = [
    { name: 'disk', mountpoint: '/disk' },
    { name: 'vol', mountpoint: '/mnt//data/' },
  ]
  assert.deepEqual(bindMounts(mounts, task, '/data'), [
    { source: '/data/mounts/7-40-disk', target: '/disk' },
    { source: '/data/volumes/7-40-vol', target: '/mnt/data' },
  ])
  const refused: [string, string, RegExp][] = [
    ['none', '/a', /^failed to get mount 'none' workload$/],
    ['net', '/a', /^expecting a reservation of type 'zmount' or 'volume' for disk 'net'$/],
    ['bad', '/a', /^invalid disk 'bad' state$/],
    ['vol', 'a', /^invalid mountpoint 'a': it must be an absolute path other than/],
    ...['', '/', '//', '/a/../..', '/proc', '/sys/fs', '/dev/shm', '/a\nb', '/./proc'].map(
      (path): [string, string, RegExp] => ['vol', path, /^invalid mountpoint '/],
    ),
  ]
  for (const [name, mountpoint, words] of refused) {
    assert.throws(
      () => bindMounts([{ name, mountpoint }], task, '/data'),
      driverError('failed', words),
    )
  }
  assert.throws(
    () => bindMounts([...mounts, { name: 'vol', mountpoint: '/disk/' }], task, '/data'),
    driverError('failed', /^cannot mount 'vol': '\/disk' is mounted twice$/),
  )
})

test('a private address is one of the network that is free for machines', () => {
  const { of } = tasksOf({
    workloads: [NETWORK, workloadOf('zmachine', 'vm', machineData('10.44.2.9'))],
  })
  const task = of('zmachine', 'vm')
  assert.deepEqual(privateAddress(machineData('10.44.2.254'), task), {
    network: `n-${networkId(7, 'net')}`,
    ip: '10.44.2.254',
  })
  const refused: [string, RegExp][] = [
    ['10.44.3.9', /^IP 10\.44\.3\.9 is not part of local nr subnet 10\.44\.2\.0\/24$/],
    ['10.44.2.1', /^ip 10\.44\.2\.1 is reserved$/],
    ['10.44.2.0', /^ip 10\.44\.2\.0 is reserved$/],
    ['10.44.2.255', /^ip 10\.44\.2\.255 is reserved$/],
    ['fd00::9', /^'fd00::9' is no IPv4 address/],
    ['', /^'' is no IPv4 address/],
  ]
  for (const [ip, words] of refused) {
    assert.throws(() => privateAddress(machineData(ip), task), driverError('failed', words))
  }
  const network = { ...machineData('10.44.2.9').network, interfaces: [] }
  assert.throws(() => privateAddress({ network }, task), driverError('failed', /^only one private/))
  const elsewhere = { network: { ...network, interfaces: [{ network: 'vm', ip: '10.44.2.9' }] } }
  assert.throws(
    () => privateAddress(elsewhere, task),
    driverError('failed', /network 'vm' does not run$/),
  )
})

test('a public address is what the ip workload got', () => {
  const ip = (data: string, state: 'ok' | 'error' = 'ok') =>
    tasksOf({
      workloads: [
        workloadOf('ip', 'pub', { v4: true, v6: false }),
        workloadOf('volume', 'vol', { size: 1n }),
        workloadOf('zmachine', 'vm', machineData('10.44.2.9')),
      ],
      results: { pub: { state, data } },
    }).of('zmachine', 'vm')
  const given = ip('{"ip":"198.51.100.7/24","ip6":"","gateway":"198.51.100.1"}')
  assert.equal(publicAddress('pub', given), '198.51.100.7')
  assert.equal(publicAddress('', given), undefined)
  assert.equal(publicAddress('pub', ip('{"ip":"","ip6":"2001:db8::1/64"}')), undefined)
  assert.equal(publicAddress('pub', ip('null')), undefined)
  const words = /^workload of name '(?:vol|none)' is not a public ip$/
  for (const name of ['vol', 'none']) {
    assert.throws(() => publicAddress(name, given), driverError('failed', words))
  }
  assert.throws(
    () => publicAddress('pub', ip('null', 'error')),
    driverError('failed', /^public ip 'pub' is not ok$/),
  )
  assert.throws(
    () => publicAddress('pub', ip('{"ip":"2001:db8::1/64"}')),
    driverError('failed', /got no IPv4 address$/),
  )
})

test('what cannot be offered is refused before the engine is asked', async () => {
  const machine = (more: Parameters<typeof machineData>[1], twin: Partial<TestTwin> = {}) => {
    const vm = workloadOf('zmachine', 'vm', machineData('10.44.2.9', more))
    const pub = workloadOf('ip', 'pub', { v4: true, v6: false })
    const data = '{"ip":"198.51.100.7/24","ip6":"","gateway":""}'
    const all = tasksOf({
      workloads: [NETWORK, pub, vm],
      results: { pub: { data }, vm: { state: 'init' } },
      ...twin,
    })
    const options = { engine, owner: 'node-1', dataDir: '/data' }
    return createContainerMachineDriver('zmachine', options).provision(all.of('zmachine', 'vm'))
  }
  const { network } = machineData('10.44.2.9')
  const id = '0000:28:00.0/10de/2330'
  const result = { id: '7-40-vm', ip: '10.44.2.9', planetary_ip: '' }
  await assert.rejects(machine({ gpu: [id] }), (error) => {
    assert.ok(error instanceof DriverError)
    assert.deepEqual(error.data, { ...result, mycelium_ip: '', console_url: '' })
    return error.message === 'usage of GPU is not allowed unless node is rented'
  })
  await assert.rejects(
    machine({ gpu: [id] }, { rentContract: 9n }),
    driverError('failed', /^unknown GPU id '0000:28:00\.0\/10de\/2330'$/),
  )
  await assert.rejects(
    machine({ network: { ...network, publicIp: 'pub' } }),
    driverError('failed', /^public ipv4 is requested, but not supported on this node: no network/),
  )
  await assert.rejects(machine({ corex: true }), driverError('failed', /^corex is not offered/))
  await assert.rejects(
    machine({ flist: 'https://hub.example/a.flist' }),
    driverError('failed', /flists are not mounted here/),
  )
  // And what can be offered waits for the engine.
  await assert.rejects(machine({}), driverError('transient', /^Cannot reach the engine: /))
})

test('drivers say when the engine is not there', async () => {
  const options = { engine, owner: 'node-1', dataDir: '/data' }
  const { signal } = new AbortController()
  for (const driver of [
    createContainerMachineDriver('zmachine-light', options),
    createEngineNetworkDriver('network-light', options),
  ]) {
    const probe = await driver.probe(signal)
    assert.ok(!probe.able && /^Cannot reach the engine: /.test(probe.reason))
  }
})

test('GPUs are claimed before a machine is made, and given back when it is not', async () => {
  const calls: string[] = []
  const taken = 'a/b/taken'
  const gpus: GpuClaims = {
    async claim(id, contractId, workloadId) {
      calls.push(`claim ${id} ${contractId} ${workloadId}`)
      if (id === taken) throw new Error(`GPU '${id}' is used by contract 9`)
    },
    release: (workloadId) => void calls.push(`release ${workloadId}`),
    deviceRequests: (ids) => [{ DeviceIDs: ids }],
  }
  const options = { engine, owner: 'node-1', dataDir: '/data', gpus }
  const driver = createContainerMachineDriver('zmachine', options)
  const task = (gpu: string[]) =>
    tasksOf({
      workloads: [NETWORK, workloadOf('zmachine', 'vm', machineData('10.44.2.9', { gpu }))],
      results: { vm: { state: 'init' } },
      rentContract: 9n,
    }).of('zmachine', 'vm')
  await assert.rejects(
    driver.provision(task(['a/b/c', taken])),
    driverError('failed', /^GPU 'a\/b\/taken' is used by contract 9$/),
  )
  const first = ['claim a/b/c 40 7-40-vm', 'claim a/b/taken 40 7-40-vm', 'release 7-40-vm']
  assert.deepEqual(calls.splice(0), first)
  // While the engine is away the machine may run, with its GPU.
  await assert.rejects(driver.provision(task(['a/b/c'])), driverError('transient', /^Cannot /))
  assert.deepEqual(calls, ['claim a/b/c 40 7-40-vm'])
})

const ASKED: Asked = {
  id: '7-40-vm',
  owner: 'node-1',
  type: 'zmachine',
  name: 'vm',
  image: 'alpine:3',
  machine: machineData('10.44.2.9', {
    cpu: 3,
    entrypoint: `/bin/sh -c 'echo "a b"' x\\ y`,
    env: new Map([
      ['B', 'two=2'],
      ['A', 'canary'],
    ]),
  }),
  address: { network: 'n-x', ip: '10.44.2.9' },
  publicAddress: undefined,
  mounts: [{ source: '/data/volumes/7-40-vol', target: '/mnt' }],
  devices: undefined,
}

test('a machine in the words of the engine', () => {
  const { HostConfig, NetworkingConfig, Labels, ...body } = bodyOf(ASKED)
  assert.deepEqual(body, {
    Image: 'alpine:3',
    Hostname: 'vm',
    Env: ['A=canary', 'B=two=2'],
    Entrypoint: ['/bin/sh', '-c', 'echo "a b"', 'x y'],
    Cmd: [],
  })
  assert.doesNotMatch(JSON.stringify(Labels), /canary/)
  assert.deepEqual(NetworkingConfig, {
    EndpointsConfig: { 'n-x': { IPAMConfig: { IPv4Address: '10.44.2.9' } } },
  })
  const host = HostConfig as Record<string, unknown>
  assert.deepEqual(
    [host.Memory, host.MemorySwap, host.CpuPeriod, host.CpuQuota],
    [268_435_456, 268_435_456, 100_000, 300_000],
  )
  assert.deepEqual(host.Mounts, [
    { Type: 'bind', Source: '/data/volumes/7-40-vol', Target: '/mnt' },
  ])
  const { machine } = ASKED
  assert.deepEqual(bodyOf({ ...ASKED, machine: { ...machine, entrypoint: ' ' } }).Cmd, undefined)
  for (const [entrypoint, env, words] of [
    ['sh "', [], /quote that is not closed$/],
    ['', [['', 'canary']], /environment variable ""$/],
    ['', [['A=B', 'canary']], /environment variable "A=B"$/],
    ['', [['A', 'canary\0']], /environment variable "A"$/],
  ] as const) {
    const other = { ...machine, entrypoint, env: new Map(env) }
    assert.throws(
      () => bodyOf({ ...ASKED, machine: other }),
      (error) => {
        assert.doesNotMatch(String(error), /canary/)
        return driverError('failed', words)(error)
      },
    )
  }
})

test('another wish is another machine, and the order of the environment is none', () => {
  const { machine } = ASKED
  const env = new Map([...machine.env].reverse())
  assert.equal(hashOf({ ...ASKED, machine: { ...machine, env } }), hashOf(ASKED))
  const others: Asked[] = [
    { ...ASKED, image: 'alpine:4' },
    { ...ASKED, address: { ...ASKED.address, ip: '10.44.2.10' } },
    { ...ASKED, publicAddress: ASKED.address },
    { ...ASKED, mounts: [] },
    { ...ASKED, machine: { ...machine, cpu: 2 } },
    { ...ASKED, machine: { ...machine, memory: 1n } },
    { ...ASKED, machine: { ...machine, env: new Map() } },
    { ...ASKED, machine: { ...machine, gpu: ['a'] } },
    { ...ASKED, machine: { ...machine, entrypoint: '' } },
  ]
  assert.equal(new Set([ASKED, ...others].map(hashOf)).size, others.length + 1)
})

test('subnets are read and written, and nothing else is taken for one', () => {
  assert.deepEqual(readSubnet('10.1.2.7/24'), readSubnet('10.1.2.0/24'))
  assert.equal(gatewayOf(readSubnet('255.255.255.9/28') as never), '255.255.255.1')
  const bad = ['', '10.1.2.0', '10.1.2.0/33', '10.1.2/24', '10.01.2.0/24', '::1/64', '1.2.3.4/8/8']
  for (const text of bad) assert.equal(readSubnet(text), undefined, text)
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), (ip, prefix) => {
      const subnet = readSubnet(`${ip}/${prefix}`)
      assert.ok(subnet)
      assert.equal(writeIpv4(readIpv4(ip) as number), ip)
      assert.ok(subnet.network <= (readIpv4(ip) as number))
      assert.ok((readIpv4(ip) as number) <= subnet.broadcast)
      assert.equal(subnet.broadcast - subnet.network + 1, 2 ** (32 - prefix))
      assert.deepEqual(readSubnet(writeSubnet(subnet)), subnet)
    }),
  )
})
