import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { DataFolder, FolderSpace } from '../plugins/zos/node/pools.ts'
import { parseCpuList } from '../plugins/zos/node/processors.ts'
import { interfaces, machineRoot, nodeFacts } from './helpers/zos-node.ts'

const KIB = 1024n
const GIB = KIB ** 3n

const SERVER = {
  lo: ['127.0.0.1/8', '::1/128'],
  br0: ['fd00:1::2/64', '2001:db8::10/64', 'fe80::1/64', '203.0.113.10/24', '169.254.7.7/16'],
  docker0: ['172.17.0.1/16'],
  eno2: ['192.168.254.9/24'],
  tun0: ['200:1234::1/7'],
  mycelium: ['45e:9d3f::1/64'],
}

/** A file system of so many GiB on a device. */
function space(used: bigint, available: bigint, major: number, minor: number) {
  return async (path: string): Promise<FolderSpace> => ({
    path,
    device: { major, minor },
    used: used * GIB,
    available: available * GIB,
  })
}

test('a server: its processors and memory, and what it keeps for itself', async (t) => {
  const { facts, log } = nodeFacts(t, { root: machineRoot(t, 'server') })
  const mru = 65_860_620n * KIB
  assert.deepEqual(await facts.capacity(), {
    // 0-5 and 8-9 of the sixteen are online.
    total: { cru: 8n, mru, sru: 0n, hru: 0n, ipv4u: 0n },
    system: { cru: 0n, mru: (mru * 10n) / 100n, sru: 0n, hru: 0n, ipv4u: 0n },
  })
  assert.equal(await facts.availableMemory(), 49_876_543n * KIB)
  assert.equal(await facts.openConnections(), 3)
  assert.deepEqual(log, [])
})

test('a virtual machine: only its own CPUs count, and 2 GiB are kept of little memory', async (t) => {
  const { facts } = nodeFacts(t, { root: machineRoot(t, 'cloud') })
  const { total, system } = await facts.capacity()
  assert.equal(total.cru, 2n)
  assert.equal(total.mru, 1_980_000n * KIB)
  assert.equal(system.mru, 2n * GIB)
  assert.equal(await facts.openConnections(), 1)
})

test('a container: one CPU, no IPv6, a broken line in a table of the kernel', async (t) => {
  const { facts, log } = nodeFacts(t, { root: machineRoot(t, 'container') })
  const { total } = await facts.capacity()
  assert.equal(total.cru, 1n)
  assert.equal(await facts.openConnections(), 1)
  assert.deepEqual(log, [])
})

test('a root with nothing below it: everything is answered, and the reasons are said once', async (t) => {
  const { facts, log } = nodeFacts(t, { root: join(machineRoot(t, 'container'), 'nothing') })
  for (let round = 0; round < 2; round++) {
    const { total, system } = await facts.capacity()
    assert.ok(total.cru >= 1n)
    assert.equal(total.mru, 0n)
    assert.equal(system.mru, 2n * GIB)
    assert.equal(await facts.openConnections(), 0)
    assert.deepEqual(await facts.pools(), [])
    assert.deepEqual(await facts.interfaces(), { zos: [] })
    assert.deepEqual(await facts.adminInterfaces(), {})
    assert.equal(await facts.hasIpv6(), false)
    assert.equal(await facts.hypervisor(), '')
    assert.deepEqual((await facts.dmi()).sections, [])
  }
  assert.ok(log.some((line) => line.startsWith('Open connections are given as 0')))
  assert.equal(new Set(log).size, log.length)
})

test('addresses for everybody: the interface of the default route, and overlays', async (t) => {
  const root = machineRoot(t, 'server')
  const { facts } = nodeFacts(t, { root, interfaces: interfaces(SERVER) })
  assert.deepEqual(await facts.interfaces(), {
    zos: ['203.0.113.10', '2001:db8::10'],
    ygg: ['200:1234::1'],
    mycelium: ['45e:9d3f::1'],
  })
  assert.equal(await facts.hasIpv6(), true)
})

test('an interface called zos is the one, wherever the default route goes', async (t) => {
  const root = machineRoot(t, 'server')
  const all = interfaces({ ...SERVER, zos: ['198.51.100.4/24'] })
  const { facts } = nodeFacts(t, { root, interfaces: all })
  assert.deepEqual((await facts.interfaces()).zos, ['198.51.100.4'])
})

test('without IPv4 the default route of IPv6 counts', async (t) => {
  const root = machineRoot(t, 'cloud')
  const all = interfaces({ lo: ['::1/128'], ens3: ['2001:db8:1::5/64'], other: ['10.0.0.1/8'] })
  const { facts } = nodeFacts(t, { root, interfaces: all })
  assert.deepEqual(await facts.interfaces(), { zos: ['2001:db8:1::5'] })
})

test('without any route that can be read, an interface that looks like hardware is taken', async (t) => {
  const root = machineRoot(t, 'container')
  rmSync(join(root, 'proc/net'), { recursive: true })
  const all = interfaces({ docker0: ['172.17.0.1/16'], enp1s0: ['10.0.0.5/8'] })
  const { facts, log } = nodeFacts(t, { root, interfaces: all })
  assert.deepEqual(await facts.interfaces(), { zos: ['10.0.0.5'] })
  assert.match(log.join('\n'), /"enp1s0" is taken for the interface "zos"/)
})

test('only addresses of the IPv6 internet make IPv6', async (t) => {
  const has = (ip: string, publicIp6 = '') => {
    const publicConfig = publicIp6 === '' ? undefined : config(publicIp6)
    return nodeFacts(t, { interfaces: interfaces({ eth0: [ip] }), publicConfig }).facts.hasIpv6()
  }
  assert.equal(await has('2a02:1::1/64'), true)
  for (const ip of [
    'fd00::1/64',
    'fe80::1/64',
    '::1/128',
    '200:1::1/7',
    '400:1::1/7',
    '1.2.3.4/8',
  ]) {
    assert.equal(await has(ip), false, ip)
  }
  assert.equal(await has('10.0.0.1/8', '2a02:1::7/64'), true)
})

function config(ipv6: string) {
  return { type: 'macvlan', ipv4: '', ipv6, gw4: '', gw6: '', domain: '' } as const
}

test('what addresses others can use', async (t) => {
  const global = ['8.8.8.8/8', '10.0.0.1/8', '240.0.0.1/8', '2001:db8::1/64', '64:ff9b::1/96']
  const others = ['127.0.0.2/8', '169.254.0.1/16', '224.0.0.1/4', '255.255.255.255/32', '0.0.0.0/0']
  const six = ['::/128', '::1/128', '0:0:0:0:0:0:0:1/128', 'ff02::1/128', 'fc00::1/7', 'febf::1/64']
  const all = interfaces({ zos: [...six, ...others, ...global] })
  const { facts } = nodeFacts(t, { interfaces: all })
  const ips = global.map((one) => one.split('/')[0])
  assert.deepEqual((await facts.interfaces()).zos, ips)
  // `::` before a last group that is not 1 is no loopback.
  const low = nodeFacts(t, { interfaces: interfaces({ zos: ['::2/128'] }) })
  assert.deepEqual((await low.facts.interfaces()).zos, ['::2'])
})

test('the farmer sees hardware and the management interface', async (t) => {
  const root = machineRoot(t, 'server')
  const { facts } = nodeFacts(t, { root, interfaces: interfaces(SERVER) })
  assert.deepEqual(await facts.adminInterfaces(), {
    zos: { ips: ['203.0.113.10/24', '2001:db8::10/64'], mac: '02:00:00:00:00:01' },
    eno1: { ips: null, mac: '0c:c4:7a:00:00:01' },
    eno2: { ips: ['192.168.254.9/24'], mac: '0c:c4:7a:00:00:02' },
    eno3: { ips: null, mac: '0c:c4:7a:00:00:03' },
  })
})

test('a container has no hardware to show', async (t) => {
  const root = machineRoot(t, 'container')
  const all = interfaces({ lo: ['127.0.0.1/8'], eth0: ['172.17.0.2/16'] })
  const { facts } = nodeFacts(t, { root, interfaces: all })
  assert.deepEqual(await facts.adminInterfaces(), {
    zos: { ips: ['172.17.0.2/16'], mac: '02:00:00:00:00:01' },
  })
})

const DISKS = [
  { what: 'a partition of a disk that rotates', at: [8, 1], type: 'hdd' },
  { what: 'the whole disk', at: [8, 0], type: 'hdd' },
  { what: 'a partition of an NVMe disk', at: [259, 2], type: 'ssd' },
  { what: 'a mapped device over a disk that rotates', at: [253, 0], type: 'hdd' },
  { what: 'btrfs, by what is mounted there', at: [0, 45], path: '/srv/my pool/data', type: 'hdd' },
  { what: 'btrfs on a mapped device', at: [0, 48], path: '/srv/lvm', type: 'hdd' },
] as const

for (const { what, at, type, ...rest } of DISKS) {
  test(`kind of storage: ${what}`, async (t) => {
    const path = 'path' in rest ? rest.path : '/data'
    const root = machineRoot(t, 'server')
    const { facts, log } = nodeFacts(t, {
      root,
      dataFolders: [{ path }],
      space: space(100n, 300n, at[0], at[1]),
    })
    const name = path.split('/').at(-1)
    const pool = { name, type, size: 400n * GIB, used: 100n * GIB }
    assert.deepEqual(await facts.pools(), [pool])
    const { total } = await facts.capacity()
    assert.equal(type === 'ssd' ? total.sru : total.hru, 400n * GIB)
    assert.equal(type === 'ssd' ? total.hru : total.sru, 0n)
    assert.deepEqual(log, [])
  })
}

test('a virtio disk counts as SSD: its flag is a default that nobody set', async (t) => {
  const root = machineRoot(t, 'cloud')
  const dataFolders = [{ path: '/data' }]
  const { facts, log } = nodeFacts(t, { root, dataFolders, space: space(1n, 9n, 254, 1) })
  assert.equal((await facts.pools())[0]?.type, 'ssd')
  assert.deepEqual(log, [])
})

test('storage of unknown kind counts as SSD with a word in the log, or as configured', async (t) => {
  const root = machineRoot(t, 'server')
  const look = (folder: DataFolder) =>
    nodeFacts(t, { root, dataFolders: [folder], space: space(1n, 1n, 0, 47) })
  const covered = look({ path: '/srv/old' })
  assert.equal((await covered.facts.pools())[0]?.type, 'ssd')
  assert.equal((await covered.facts.pools())[0]?.type, 'ssd')
  assert.deepEqual(covered.log, ['"/srv/old" counts as SSD: the kernel does not show its disk'])
  const told = look({ path: '/srv/old', type: 'hdd', name: 'tank' })
  assert.deepEqual((await told.facts.pools())[0], {
    name: 'tank',
    type: 'hdd',
    size: 2n * GIB,
    used: GIB,
  })
  assert.deepEqual(told.log, [])
})

test('pools: SSD first, each file system once, those that fail are left out', async (t) => {
  const spaces: Record<string, FolderSpace> = {
    '/hdd/data': await space(1n, 1n, 8, 1)('/hdd/data'),
    '/ssd/data': await space(2n, 2n, 259, 2)('/ssd/data'),
    '/ssd/more': await space(2n, 2n, 259, 2)('/ssd/more'),
  }
  let now = 0
  const { facts, log } = nodeFacts(t, {
    root: machineRoot(t, 'server'),
    dataFolders: ['/hdd/data', '/gone', '/ssd/data', '/ssd/more'].map((path) => ({ path })),
    space: async (path) => {
      const found = spaces[path]
      if (!found) throw new Error('ENOENT')
      return found
    },
    now: () => now,
  })
  assert.deepEqual(await facts.pools(), [
    // Two are called `data`.
    { name: '/ssd/data', type: 'ssd', size: 4n * GIB, used: 2n * GIB },
    { name: '/hdd/data', type: 'hdd', size: 2n * GIB, used: GIB },
  ])
  assert.deepEqual(log, ['The storage pool "/gone" is left out: ENOENT'])
  // What grows is seen a second later, and not before.
  spaces['/ssd/data'] = await space(3n, 2n, 259, 2)('/ssd/data')
  assert.equal((await facts.pools())[0]?.used, 2n * GIB)
  now = 1000
  assert.equal((await facts.pools())[0]?.used, 3n * GIB)
})

test('a pool that does not answer is left out, and not asked again until it does', async (t) => {
  let asked = 0
  let answer: (space: FolderSpace) => void = () => {}
  let now = 0
  const { facts, log } = nodeFacts(t, {
    root: machineRoot(t, 'server'),
    dataFolders: [{ path: '/nfs' }],
    space: () => {
      asked++
      return new Promise((resolve) => {
        answer = resolve
      })
    },
    now: () => (now += 10_000),
  })
  assert.deepEqual(await facts.pools(), [])
  assert.deepEqual(await facts.pools(), [])
  assert.equal(asked, 1)
  const [said, ...more] = log
  assert.equal(said, 'The storage pool "/nfs" is left out: it did not answer within 5000 ms')
  assert.deepEqual(more, [])
  answer(await space(1n, 1n, 8, 1)('/nfs'))
  await new Promise((resolve) => setImmediate(resolve))
  const again = facts.pools()
  answer(await space(2n, 1n, 8, 1)('/nfs'))
  assert.equal((await again)[0]?.used, 2n * GIB)
})

test('a table of very many connections is counted to its end, without holding it', async (t) => {
  const root = machineRoot(t, 'container')
  const line = (number: number, state: string) =>
    `${String(number).padStart(4)}: 020011AC:9C40 640200C0:01BB ${state} 00000000:00000000 00:0`
  const lines = Array.from({ length: 50_000 }, (_, at) => line(at, at % 5 === 0 ? '06' : '01'))
  writeFileSync(join(root, 'proc/net/tcp'), `  sl  local_address\n${lines.join('\n')}`)
  writeFileSync(join(root, 'proc/net/tcp6'), 'x'.repeat(1_000_000))
  const { facts } = nodeFacts(t, { root })
  assert.equal(await facts.openConnections(), 40_000)
})

test('lists of CPUs as the kernel writes them', () => {
  assert.deepEqual([...parseCpuList('0-2,8,10-11')], [0, 1, 2, 8, 10, 11])
  assert.deepEqual([...parseCpuList('')], [])
  assert.deepEqual([...parseCpuList('5-3,x,-1,1-')], [])
  assert.equal(parseCpuList('0-99999').size, 65_536)
})

test('public configuration and location come from the configuration, or are an error', async (t) => {
  const none = nodeFacts(t).facts
  await assert.rejects(none.publicConfig(), {
    name: 'ZosError',
    kind: 'failed',
    message: 'no public configuration',
  })
  assert.throws(() => none.location(), {
    name: 'ZosError',
    message: 'failed to fetch location information',
  })
  const location = {
    longitude: 4.35,
    latitude: 50.85,
    continent: 'Europe',
    country_name: 'Belgium',
    country_code: 'BE',
    city_name: 'Brussels',
  }
  const { facts } = nodeFacts(t, { publicConfig: config('2001:db8::1/64'), location })
  assert.deepEqual(await facts.publicConfig(), config('2001:db8::1/64'))
  assert.deepEqual(facts.location(), location)
})
