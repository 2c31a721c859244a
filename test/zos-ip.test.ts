import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { deviceName } from '../plugins/zos/deployment/ids.ts'
import { macOf } from '../plugins/zos/drivers/cloud-hypervisor/taps.ts'
import type { DriverError, RunningWorkload, Task } from '../plugins/zos/drivers/driver.ts'
import { createNftFilter } from '../plugins/zos/drivers/ip/filter.ts'
import { createIpDrivers } from '../plugins/zos/drivers/ip/ip.ts'
import { linkLocalAddress, slaacAddress } from '../plugins/zos/drivers/ip/slaac.ts'
import { runTool } from '../plugins/zos/drivers/tools.ts'
import type { Workload } from '../plugins/zos/model.ts'
import type { NodeContract, PublicIp } from '../plugins/zos/registry/registry.ts'
import { installed, lacks } from './helpers/counterpart.ts'
import { soon } from './helpers/zos-gateway.ts'
import { deploymentOf, resultIn, taskOf, workloadOf } from './helpers/zos-storage-task.ts'

const signal = new AbortController().signal

const contractWith = (...publicIps: readonly PublicIp[]): NodeContract => ({
  type: 'node',
  nodeId: 1,
  deploymentHash: '0'.repeat(32),
  publicIps,
})
const A: PublicIp = { ip: '185.1.2.10/24', gateway: '185.1.2.1' }
const B: PublicIp = { ip: '185.1.2.11/24', gateway: '185.1.2.1' }

const ip = (name: string, v4 = true, v6 = false) => workloadOf('ip', name, { v4, v6 })
const ipv4 = (name: string) => workloadOf('ipv4', name, {})
type IpTask = Task<'ip'>

/** Tasks of one deployment with a contract for these addresses. */
function tasksOf(
  addresses: readonly PublicIp[],
  workloads: readonly Workload[],
  more: Partial<IpTask> = {},
) {
  return workloads.map((workload) =>
    taskOf(workload as never, {
      deployment: deploymentOf(workloads),
      contract: contractWith(...addresses),
      ...(more as object),
    }),
  ) as unknown as [IpTask, IpTask, IpTask]
}

const failed = (message: string | RegExp) => (error: Error) => {
  assert.equal(error.name, 'DriverError', String(error.stack))
  assert.equal((error as DriverError).kind, 'failed')
  if (typeof message === 'string') assert.equal(error.message, message)
  else assert.match(error.message, message)
  return true
}

const allocating = () => createIpDrivers({ bridge: undefined, allocateOnly: true })

test('addresses of the contract are given once each, and come back', async () => {
  const drivers = allocating()
  assert.deepEqual(await drivers.ip.probe(signal), { able: true })
  const [one, two, three] = tasksOf([A, B], [ip('one'), ipv4('two'), ip('three', false, true)])
  // At the same time.
  const given = await Promise.all([
    drivers.ip.provision(one),
    drivers.ipv4.provision(two as unknown as Task<'ipv4'>),
    drivers.ip.provision(three),
  ])
  assert.deepEqual(given, [
    { ip: '185.1.2.10/24', ip6: '', gateway: '185.1.2.1' },
    { ip: '185.1.2.11/24', ip6: '', gateway: '185.1.2.1' },
    { ip: '', ip6: '', gateway: '' },
  ])
  assert.deepEqual(await drivers.ip.provision(one), given[0], 'the same again')
  await drivers.ip.deprovision(one)
  await drivers.ip.deprovision(one)
  const [again] = tasksOf([A, B], [ip('again')])
  assert.deepEqual(await drivers.ip.provision(again), given[0])
})

test('an address that others have, or that is not there, is not given', async () => {
  const { ip: driver } = allocating()
  const running: RunningWorkload = {
    id: '7-7-other',
    twinId: 7,
    contractId: 7n,
    workload: ip('other'),
    result: resultIn('paused', JSON.stringify({ ip: '185.1.2.10/24', ip6: '', gateway: '' })),
  }
  const foreign: RunningWorkload = { ...running, id: '8-8-x', result: resultIn('ok', '{"ip":5}') }
  const others = { running: () => [running, foreign] }
  const [second] = tasksOf([A, B], [ip('one')], others)
  assert.deepEqual(await driver.provision(second), { ip: B.ip, ip6: '', gateway: B.gateway })
  const [none] = tasksOf([A], [ip('two')], others)
  await assert.rejects(
    driver.provision(none),
    failed('could not allocate public IP address to workload'),
  )
  const [many] = tasksOf([A], [ip('a'), ipv4('b'), ip('c', false, true)])
  await assert.rejects(
    driver.provision(many),
    failed('required 2 ips while contract has 1 ip reserved'),
  )
  const [bad] = tasksOf([{ ip: '185.1.2.300/24', gateway: '185.1.2.1' }], [ip('bad')])
  await assert.rejects(driver.provision(bad), failed(/malformed ip address in contract object/))
  const [way] = tasksOf([{ ip: '185.1.2.13/24', gateway: 'router' }], [ip('way')])
  await assert.rejects(
    driver.provision(way),
    failed(/malformed gateway address in farm object 'router'/),
  )
  const [unknown] = tasksOf([], [ip('unknown')])
  await assert.rejects(
    driver.provision({ ...unknown, contract: undefined }),
    failed(/required 1 ips/),
  )
})

test('after a restart a workload keeps its address, and nobody else gets it', async () => {
  const { ip: driver } = allocating()
  const result = JSON.stringify({ ip: B.ip, ip6: '', gateway: B.gateway })
  const [one] = tasksOf([A, B], [ip('one')], { resultOf: () => resultIn('ok', result) })
  assert.deepEqual(await driver.provision(one), { ip: B.ip, ip6: '', gateway: B.gateway })
  const [two] = tasksOf([B, A], [ip('two')])
  assert.deepEqual(await driver.provision(two), { ip: A.ip, ip6: '', gateway: A.gateway })
})

test('no address is ever with two workloads', async () => {
  const step = fc.array(fc.tuple(fc.nat(5), fc.boolean()), { minLength: 1, maxLength: 6 })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (rounds) => {
      const { ip: driver } = allocating()
      const held = new Map<string, string>()
      for (const round of rounds) {
        // Each workload once in a round, all of them at the same time.
        const byNumber = new Map(round)
        await Promise.all(
          [...byNumber].map(async ([number, wants]) => {
            const [task] = tasksOf([A, B], [ip(`w${number}`)])
            if (wants) {
              const given = await driver.provision(task).catch(() => undefined)
              if (given) held.set(task.id, (given as { ip: string }).ip)
            } else {
              await driver.deprovision(task)
              held.delete(task.id)
            }
          }),
        )
        assert.equal(new Set(held.values()).size, held.size)
        assert.ok(held.size <= 2)
      }
    }),
    { numRuns: 100 },
  )
})

test('without a bridge there are no public addresses', async () => {
  const { ip: driver } = createIpDrivers({ bridge: undefined })
  const reason = 'no public bridge is configured: set public_bridge'
  assert.deepEqual(await driver.probe(signal), { able: false, reason })
  const [one] = tasksOf([A], [ip('one')])
  await assert.rejects(driver.provision(one), failed(/^public ips are not supported on this node/))
  const missing = createIpDrivers({
    bridge: 'br0',
    run: async () => {
      throw new Error('"ip" ended with exit status 1: Device "br0" does not exist.')
    },
  })
  const probed = await missing.ip.probe(signal)
  assert.ok(!probed.able)
  assert.match(probed.reason, /^Cannot use public bridge "br0": .*does not exist/)
})

test('IPv6 is what the card will give itself', async () => {
  assert.equal(
    slaacAddress('2001:db8:1:2::1/64', '02:11:22:33:44:55'),
    '2001:db8:1:2:11:22ff:fe33:4455/64',
  )
  assert.equal(slaacAddress('2001:db8::/48', '02:11:22:33:44:55'), undefined)
  assert.equal(slaacAddress('10.0.0.0/24', '02:11:22:33:44:55'), undefined)
  assert.equal(linkLocalAddress('02:11:22:33:44:55'), 'fe80::11:22ff:fe33:4455')
  const { ip: driver } = createIpDrivers({
    bridge: undefined,
    allocateOnly: true,
    ipv6Network: () => '2001:db8:1:2::/64',
  })
  const [six] = tasksOf([], [ip('six', false, true)])
  const mac = macOf(deviceName(six.id, 'pub'))
  const ip6 = slaacAddress('2001:db8:1:2::/64', mac)
  assert.deepEqual(await driver.provision(six), { ip: '', ip6, gateway: '' })
})

test('a host without nftables says that nobody is kept to an address', async () => {
  const commands: string[] = []
  const { ip: driver } = createIpDrivers({
    bridge: 'br0',
    run: async (argv) => {
      commands.push(argv[0] ?? '')
      if (argv[0] === 'nft') throw new Error('"nft" is not installed')
      return ''
    },
  })
  const probed = await driver.probe(signal)
  assert.deepEqual(probed, {
    able: true,
    warning: 'Machines are not kept to their public addresses: "nft" is not installed',
  })
  const [one] = tasksOf([A], [ip('one')])
  assert.ok(await driver.provision(one))
  await driver.deprovision(one)
  assert.deepEqual(commands, ['ip', 'nft'])
})

/** A network of its own, in which the words before a command put it. */
async function ownNetwork(t: TestContext): Promise<string[]> {
  const child: ChildProcess = spawn(
    'unshare',
    ['--net', 'sh', '-c', 'echo ready; exec sleep 600'],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  )
  t.after(() => void child.kill('SIGKILL'))
  await soon(
    'start',
    new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve())
      child.once('close', () => reject(new Error('it ended')))
    }),
  )
  return ['nsenter', `--net=/proc/${child.pid}/ns/net`, '--']
}

function networkNamespaces(): boolean {
  if (
    process.getuid?.() !== 0 ||
    !['unshare', 'nsenter', 'ip', 'nft', 'busybox'].every((one) => installed(one))
  ) {
    return false
  }
  try {
    execFileSync('unshare', ['--net', 'nft', 'add table bridge probe'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test('on a real bridge a machine can use its address and no other', async (t) => {
  if (lacks(t, 'nftables', networkNamespaces())) return
  const [host, machine] = [await ownNetwork(t), await ownNetwork(t)]
  const run = (prefix: readonly string[], command: string) => {
    const [program = '', ...args] = [...prefix, ...command.split(' ')]
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  }
  // The first ones may be lost while neighbours look for each other.
  const reaches = (tries = 8): boolean => {
    try {
      run(machine, 'busybox ping -c 1 -W 1 185.1.2.1')
      return true
    } catch {
      return tries > 1 && reaches(tries - 1)
    }
  }
  run(host, 'ip link add br0 type bridge')
  run(host, 'ip address add 185.1.2.1/24 dev br0')
  run(host, 'ip link set br0 up')
  const drivers = createIpDrivers({
    bridge: 'br0',
    run: (argv, options) => runTool([...host, ...argv], options),
  })
  assert.deepEqual(await drivers.ip.probe(signal), { able: true })
  const [one] = tasksOf([A], [ip('one')])
  await drivers.ip.provision(one)
  await drivers.ip.provision(one)

  const card = deviceName(one.id, 'pub')
  const pid = /\d+/.exec(machine[1] ?? '')?.[0]
  run(host, `ip link add ${card} type veth peer name eth0 netns ${pid}`)
  run(host, `ip link set ${card} master br0 up`)
  run(machine, `ip link set eth0 address ${macOf(card)} up`)
  run(machine, 'ip address add 185.1.2.10/24 dev eth0')
  assert.ok(reaches(), 'with its own address')
  run(machine, 'ip address replace 185.1.2.99/24 dev eth0')
  run(machine, 'ip address delete 185.1.2.10/24 dev eth0')
  run(machine, 'ip address replace 185.1.2.99/24 dev eth0')
  run(host, 'ip neighbour flush dev br0')
  run(machine, 'ip neighbour flush dev eth0')
  assert.ok(!reaches(2), "with another's")
  run(machine, 'ip address replace 185.1.2.10/24 dev eth0')
  run(machine, 'ip address delete 185.1.2.99/24 dev eth0')
  run(machine, 'ip address replace 185.1.2.10/24 dev eth0')
  assert.ok(reaches())
  run(machine, 'ip link set eth0 address 02:00:00:00:00:99')
  run(machine, 'ip neighbour flush dev eth0')
  assert.ok(!reaches(2), "with another card's address")

  const filter = createNftFilter((argv, options) => runTool([...host, ...argv], options))
  assert.deepEqual(await filter.names(), [card])
  await drivers.ip.sweep?.(new Set([one.id]), signal)
  assert.deepEqual(await filter.names(), [card])
  await drivers.ip.deprovision(one)
  await drivers.ip.deprovision(one)
  assert.deepEqual(await filter.names(), [])
  run(host, 'ip neighbour flush dev br0')
  assert.ok(reaches(), 'nothing is left of it')
  const [two] = tasksOf([A], [ip('two', true, true)])
  await drivers.ip.provision(two)
  await drivers.ip.sweep?.(new Set(), signal)
  assert.deepEqual(await filter.names(), [])
})
