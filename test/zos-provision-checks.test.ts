/** What is refused, in which words, and that nothing is stored then (spec zos §3, §7.2). */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Deployment } from '../plugins/zos/model.ts'
import { ZosError, type ZosErrorKind } from '../plugins/zos/zos-error.ts'
import { deploymentOf, disk, inTime, machine, network, testNode } from './helpers/zos-provision.ts'

function refused(work: Promise<unknown>, kind: ZosErrorKind, message: string): Promise<void> {
  return assert.rejects(work, (error) => {
    assert.ok(error instanceof ZosError, String(error))
    assert.deepEqual([error.kind, error.message], [kind, message])
    return true
  })
}

const TWO = [disk('a', 1), disk('b', 2)]

test('a deployment is refused in the order and the words of the reference', async (t) => {
  const asked: string[] = []
  let verified = true
  let signed = true
  const node = await testNode(t, {
    async kyc(twinId) {
      asked.push('kyc')
      const message = `user with twin id ${twinId} is not verified`
      if (!verified) throw new ZosError('forbidden', message)
    },
    async verify() {
      asked.push('signatures')
      if (!signed) throw new ZosError('authentication', 'failed to verify signature')
    },
  })
  const { registry } = node
  const deploy = (deployment: Deployment, caller = 42) =>
    node.deployments.deploy(caller, deployment)
  const wrong = deploymentOf(TWO, { version: 3 })
  await refused(deploy(wrong, 56), 'forbidden', 'twin id mismatch (deployment: 42, message: 56)')
  assert.deepEqual(asked, [])
  verified = false
  await refused(deploy(wrong), 'forbidden', 'user with twin id 42 is not verified')
  verified = true
  signed = false
  await refused(deploy(wrong), 'authentication', 'failed to verify signature')
  signed = true
  assert.deepEqual(asked, ['kyc', 'kyc', 'signatures'])
  await refused(
    deploy(wrong),
    'invalid',
    'expected version to be 0 on deployment creation: invalid version',
  )

  const deployment = deploymentOf(TWO)
  const lookup = 'failed to get deployment contract'
  await refused(deploy(deployment), 'invalid', `${lookup}: contract '10' not found`)
  registry.unreachable = true
  await refused(deploy(deployment), 'unavailable', `${lookup}: nobody answers`)
  registry.unreachable = false
  registry.agree(deployment, 'created', { data: { type: 'name', name: 'x' } })
  await refused(deploy(deployment), 'invalid', 'invalid contract type, expecting node contract')
  registry.agree(deployment, 'deleted')
  await refused(deploy(deployment), 'invalid', "invalid contract state, contract '10' is deleted")
  registry.agree(deployment, 'created', { twinId: 43 })
  await refused(
    deploy(deployment),
    'forbidden',
    "invalid contract owner, contract '10' is of another twin",
  )
  const data = { type: 'node', deploymentHash: '0'.repeat(32), publicIps: [] } as const
  registry.agree(deployment, 'created', { data: { ...data, nodeId: 12 } })
  await refused(deploy(deployment), 'invalid', 'invalid node address in contract')
  registry.agree(deployment, 'created', { data: { ...data, nodeId: 11 } })
  await refused(deploy(deployment), 'invalid', 'contract hash does not match deployment hash')

  assert.throws(
    () => node.deployments.get(42, 10n),
    new ZosError('not-found', 'deployment not found'),
  )
  await refused(node.deployments.changes(42, 10n), 'not-found', 'deployment not found')
  assert.deepEqual(node.calls, [])
  assert.ok(!existsSync(join(node.folder, 'deployments', '42')), 'nothing is stored')

  await node.accept(deployment)
  await refused(deploy(deployment), 'conflict', 'exists')
})

test('of two at the same time one is taken, by contract and by the name of a network', async (t) => {
  const node = await testNode(t)
  const first = deploymentOf([network('net')])
  node.registry.agree(first)
  const both = await Promise.allSettled([
    node.deployments.deploy(42, first),
    node.deployments.deploy(42, first),
  ])
  assert.deepEqual(
    both.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  )

  const other = deploymentOf([network('net')], { contractId: 11n })
  node.registry.agree(other)
  const taken = "global workload with the same name 'net' exists: conflict"
  await refused(node.deployments.deploy(42, other), 'conflict', taken)
  // Of another twin it is another network.
  await node.accept(deploymentOf([network('net')], { contractId: 12n, twinId: 43 }))
  assert.deepEqual(node.states(43, 12n), ['net ok'])
  // Nor may an update take it.
  await node.accept(deploymentOf([disk('a', 1)], { contractId: 11n }))
  const more = deploymentOf([disk('a', 1), network('net', 1)], { contractId: 11n, version: 1 })
  node.registry.agree(more)
  await refused(node.deployments.update(42, more), 'conflict', taken)
  // It is free again after the other is gone.
  await node.accept(deploymentOf([disk('d', 1, 1)], { version: 1 }))
  await node.accept(more)
  assert.deepEqual(node.states(42, 11n), ['a ok', 'net ok'])
})

test('an update is refused in the words of the reference, and changes nothing', async (t) => {
  const node = await testNode(t)
  const update = (deployment: Deployment) => node.deployments.update(42, deployment)
  const rule = (text: string) => `${text}: upgrade validation error`
  const next = deploymentOf([disk('a', 2, 1), disk('b', 2)], { version: 1 })
  await refused(update(next), 'not-found', 'twin not found: deployment does not exist')
  await node.accept(deploymentOf([...TWO, machine('vm', 'net')]))
  const elsewhere = deploymentOf(TWO, { version: 1, contractId: 99n })
  await refused(update(elsewhere), 'not-found', 'deployment not found: deployment does not exist')
  await refused(
    update(deploymentOf(TWO, { version: 5 })),
    'invalid',
    rule('expecting deployment version 1, got 5'),
  )
  const vm = { ...machine('vm', 'net'), version: 1 }
  await refused(
    update(deploymentOf([...TWO, vm], { version: 1 })),
    'invalid',
    rule("workload 'zmachine' does not support upgrade"),
  )
  // The contract does not say this yet.
  await refused(update(next), 'invalid', 'contract hash does not match deployment hash')
  assert.equal(node.deployments.get(42, 10n).deployment.version, 0)
  assert.equal((await node.history()).length, 6)
  await node.restart()
  assert.equal(node.deployments.get(42, 10n).deployment.version, 0)
})

test('a contract that is not there yet is looked for again', async (t) => {
  const node = await testNode(t, { times: { contract: 5_000, contractAgain: 5 } })
  const deployment = deploymentOf(TWO)
  const accepted = node.deployments.deploy(42, deployment)
  await node.until(() => node.registry.asked.length >= 3, 'ask three times')
  node.registry.agree(deployment)
  await inTime(accepted, 'accept the deployment')
})

test('more than a node or a twin may have is refused', async (t) => {
  const node = await testNode(t, {
    limits: { deployments: 3, deploymentsPerTwin: 2, workloads: 2, recordBytes: 4000 },
  })
  const of = (contractId: bigint, twinId = 42) => deploymentOf(TWO, { contractId, twinId })
  await node.accept(of(1n))
  await node.accept(of(2n))
  const { deployments } = node
  await refused(
    deployments.deploy(42, of(3n)),
    'unavailable',
    'twin 42 has 2 deployments here, it may have no more',
  )
  await node.accept(of(3n, 43))
  await refused(
    deployments.deploy(44, of(4n, 44)),
    'unavailable',
    'this node has 3 deployments, it takes no more',
  )
  const three = deploymentOf([...TWO, disk('c', 1, 1)], { contractId: 1n, version: 1 })
  await refused(
    deployments.update(42, three),
    'invalid',
    'a deployment may have 2 workloads, this one has 3',
  )
  const about = { contractId: 1n, version: 1, metadata: 'x'.repeat(4000) }
  const large = deploymentOf([disk('a', 1), disk('b', 2)], about)
  node.registry.agree(large)
  await assert.rejects(deployments.update(42, large), /^ZosError: a deployment may need 4000 bytes/)
  assert.deepEqual(readdirSync(join(node.folder, 'deployments')).sort(), ['42', '43'])
})

test('before the start and after the end nothing is taken', async (t) => {
  const node = await testNode(t)
  const deployment = deploymentOf(TWO)
  await node.accept(deployment)
  await node.deployments.stop()
  await assert.rejects(
    node.deployments.deploy(42, deployment),
    /^ZosError: deployments are not taken just now/,
  )
  assert.equal(node.registry.listeners, 0)
})
