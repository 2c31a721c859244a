import assert from 'node:assert/strict'
import { networkInterfaces } from 'node:os'
import { test } from 'node:test'
import { createGuard, ownNetworks, selfProblem } from '../plugins/zos/drivers/guard.ts'
import {
  isPrivate,
  overlap,
  readSubnet,
  type Subnet,
} from '../plugins/zos/drivers/network-engine/subnet.ts'
import {
  hostNetworks,
  subnetProblem,
} from '../plugins/zos/drivers/network-engine/subnet-problem.ts'
import { readAddresses } from '../plugins/zos/drivers/node-addresses.ts'
import { networkData, tasksOf, workloadOf } from './helpers/zos-container.ts'
import { resultIn } from './helpers/zos-storage-task.ts'

const subnet = (text: string): Subnet => {
  const found = readSubnet(text)
  assert.ok(found, text)
  return found
}

/** As the runtime shows one. */
const given = (cidr: string) => {
  const [address = ''] = cidr.split('/')
  return { address, cidr, netmask: '', mac: '', family: 'IPv4' as const, internal: false }
}

test('what is behind the bridges of container engines is told from other networks', () => {
  const { addresses, subnets, behindBridges } = readAddresses({
    lo: [{ ...given('127.0.0.1/8'), internal: true }],
    eth0: [given('192.168.1.5/24')],
    // A bridge of the operator's own, with the machines of a whole office.
    br0: [given('10.20.0.1/16')],
    docker0: [given('172.17.0.1/16')],
    'br-0123456789ab': [given('10.1.2.1/24')],
    'br-ba9876543210': [given('185.1.2.1/24')],
    podman1: [given('10.89.0.1/24')],
  })
  assert.deepEqual([...addresses].sort(), [
    '10.1.2.1',
    '10.20.0.1',
    '10.89.0.1',
    '127.0.0.1',
    '172.17.0.1',
    '185.1.2.1',
    '192.168.1.5',
  ])
  assert.equal(subnets.length, 6)
  const engines = ['172.17.0.0/16', '10.1.2.0/24', '10.89.0.0/24']
  assert.deepEqual(behindBridges, engines.map(subnet))
})

test('the node is known by its addresses, by how it is connected to, and as reserved ones', () => {
  const guard = createGuard()
  for (const one of Object.values(networkInterfaces()).flatMap((all) => all ?? [])) {
    assert.match(guard(one.address) ?? '', /is an address of (?:the node|no other machine)$/)
  }
  for (const one of ['127.0.0.9', '::1', '169.254.169.254', 'fe80::1', '::ffff:127.0.0.1', '']) {
    assert.ok(guard(one), one)
  }
  assert.equal(guard('8.8.8.8'), undefined)
  const joined = (localAddress: string, remoteAddress: string) =>
    selfProblem({ localAddress, remoteAddress }, guard)
  assert.match(
    joined('10.1.2.1', '::ffff:10.1.2.1') ?? '',
    /^10\.1\.2\.1 is an address of the node$/,
  )
  assert.match(joined('127.0.0.1', '10.99.0.1') ?? '', /^10\.99\.0\.1 is an address of the node$/)
  assert.equal(joined('10.1.2.1', '10.1.2.7'), undefined)
  const open = createGuard({ allowLocal: true })
  assert.equal(selfProblem({ localAddress: '::1', remoteAddress: '::1' }, open), undefined)
})

test("a twin's own networks are those that run, whatever deployment they are of", () => {
  const net = workloadOf('network', 'net', networkData('10.44.2.0/24'))
  const task = tasksOf({ workloads: [net] }).of('network', 'net')
  const { twinId } = task.deployment
  const running = [
    { twinId, contractId: 1n, subnet: '10.44.2.0/24' },
    { twinId, contractId: 2n, subnet: '10.44.3.7/24' },
    { twinId: twinId + 1, contractId: 3n, subnet: '10.44.4.0/24' },
  ].map(({ subnet: text, ...owner }) => ({
    ...owner,
    id: 'x',
    workload: workloadOf('network', 'net', networkData(text)),
    result: resultIn('ok'),
  }))
  const own = ownNetworks({ ...task, running: () => running })
  assert.deepEqual(own(), ['10.44.2.0/24', '10.44.3.0/24'].map(subnet))
})

test('private networks, and networks that overlap', () => {
  for (const one of ['10.0.0.0/8', '172.31.0.0/16', '192.168.7.0/29', '100.64.0.0/10']) {
    assert.ok(isPrivate(subnet(one)), one)
  }
  for (const one of ['8.8.8.0/24', '172.32.0.0/16', '0.0.0.0/0', '192.0.0.0/8', '169.254.0.0/16']) {
    assert.ok(!isPrivate(subnet(one)), one)
  }
  const [wide, narrow, next] = ['10.1.0.0/16', '10.1.2.0/24', '10.2.0.0/16'].map(subnet)
  assert.ok(wide && narrow && next)
  assert.ok(overlap(wide, narrow) && overlap(narrow, wide) && overlap(wide, wide))
  assert.ok(!overlap(wide, next) && !overlap(next, narrow))
})

test('a network of the engine takes nothing of the host', () => {
  const [lan, dns] = [subnet('192.168.1.0/24'), 0x0a0a0035]
  const problem = (text: string) =>
    subnetProblem(subnet(text), { subnets: [lan], nameServers: [dns] })
  assert.equal(problem('10.1.2.0/24'), undefined)
  assert.match(problem('8.8.8.0/24') ?? '', /^subnet 8\.8\.8\.0\/24 is not private: choose one of /)
  for (const one of ['192.168.1.128/25', '192.168.0.0/16', '10.10.0.0/24', '10.0.0.0/8']) {
    assert.equal(problem(one), `subnet ${one} is in use on this node, choose another one`)
  }
  const { subnets } = hostNetworks(undefined)
  const [first] = subnets
  if (first) assert.equal(hostNetworks(first).subnets.length < subnets.length, true)
})
