/** What happens while a deployment or an update is just being accepted, or erased (spec zos §3, §7.2, §7.5). */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { DriverError } from '../plugins/zos/drivers/driver.ts'
import {
  deploymentOf,
  disk,
  inTime,
  machine,
  network,
  type TestNode,
  testNode,
} from './helpers/zos-provision.ts'

/** Runs something once, right after the registry gave its last answer: while the journal is written. */
function whileWritten(node: TestNode, act: () => void): void {
  const { registry } = node
  const ask = registry.node.bind(registry)
  registry.node = async () => {
    registry.node = ask
    setImmediate(act)
    return await ask()
  }
}

test('the name of a network that an update is about to have is taken', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1)]))
  const update = deploymentOf([disk('a', 1), network('net', 1)], { version: 1 })
  const other = deploymentOf([network('net')], { contractId: 11n })
  node.registry.agree(update)
  node.registry.agree(other)
  let deployed: Promise<unknown> | undefined
  whileWritten(node, () => {
    deployed = node.deployments.deploy(42, other).then(
      () => 'accepted',
      (error) => error.message,
    )
  })
  await node.deployments.update(42, update)
  const message = "global workload with the same name 'net' exists: conflict"
  assert.equal(await deployed, message)
  await node.idle()
  assert.deepEqual(node.states(), ['a ok', 'net ok'])
  // One that was refused gives it back.
  const wrong = deploymentOf([disk('a', 1), network('net', 1), network('other', 2)], { version: 2 })
  await assert.rejects(node.deployments.update(42, wrong), /contract hash does not match/)
  await node.accept(deploymentOf([network('other')], { contractId: 11n }))
  assert.deepEqual(node.states(42, 11n), ['other ok'])
  const third = deploymentOf([network('net', 1)], { version: 2 })
  await node.accept(third)
  await assert.rejects(
    node.deployments.deploy(42, deploymentOf([network('net')], { contractId: 12n })),
    { message },
  )
})

test('a contract that ends while its deployment is written down ends it', async (t) => {
  const node = await testNode(t)
  const deployment = deploymentOf([disk('a', 1)])
  node.registry.agree(deployment)
  whileWritten(node, () => {
    node.registry.set(10n, 'deleted')
    node.registry.changed()
  })
  await node.deployments.deploy(42, deployment)
  await node.until(() => node.deployments.list().length === 0, 'end')
  assert.equal(node.world.size, 0)
})

test('a grace period that ends while an update is accepted is over', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1)]))
  const update = deploymentOf([disk('a', 2, 1)], { version: 1 })
  node.registry.agree(update, 'grace_period')
  await node.deployments.sync()
  await node.idle()
  assert.deepEqual(node.states(), ['a paused paused'])
  // Between the answers that a chain gives one after the other.
  const { registry } = node
  const ask = registry.rentContract.bind(registry)
  registry.rentContract = async () => {
    registry.rentContract = ask
    registry.set(10n, 'created')
    registry.changed()
    await node.deployments.sync()
    return ask()
  }
  await node.deployments.update(42, update)
  await node.idle()
  assert.deepEqual(node.states(), ['a ok'])
})

test('a deployment that ends takes no update, though its contract came back', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1)]))
  let stuck = true
  node.driver('zmount').script = (step) => {
    if (step === 'deprovision' && stuck) throw new Error('the disk is busy')
    return {}
  }
  node.registry.set(10n, 'deleted')
  await node.deployments.sync()
  await node.until(() => node.states().join() === 'a error the disk is busy', 'try')
  const update = deploymentOf([disk('a', 1), disk('b', 1, 1)], { version: 1 })
  node.registry.agree(update)
  await assert.rejects(node.deployments.update(42, update), {
    kind: 'conflict',
    message: 'the deployment ends with its contract, its workloads are still being removed',
  })
  assert.deepEqual(node.states(), ['a error the disk is busy'])
  stuck = false
  await node.until(() => node.deployments.list().length === 0, 'erase')
})

test('the history of a deployment that is just being erased is there, or it is not found', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1)]))
  const failures = new Set<string>()
  const asked: Promise<unknown>[] = []
  node.registry.set(10n, 'deleted')
  node.registry.changed()
  await node.until(() => {
    asked.push(
      node.deployments
        .changes(42, 10n)
        .catch((error) => failures.add(`${error.kind} ${error.message}`)),
    )
    return node.deployments.list().length === 0
  }, 'erase')
  await inTime(Promise.all(asked), 'answer')
  for (const failure of failures) assert.equal(failure, 'not-found deployment not found')
})

test('a vanished contract of a registry that can look again ends at once', async (t) => {
  const node = await testNode(t, { times: { contract: 60_000, contractAgain: 1000 } })
  await node.accept(deploymentOf([disk('a', 1)]))
  let looks = 0
  Object.assign(node.registry, {
    refresh: async () => {
      looks++
    },
  })
  node.registry.contracts.delete(10n)
  node.registry.changed()
  await node.until(() => node.deployments.list().length === 0, 'end')
  assert.ok(looks > 0)
})

test('one deployment comes while the last other one of its twin goes', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1)], { contractId: 100n }))
  for (let id = 101n; id < 130n; id++) {
    const next = deploymentOf([disk('a', 1)], { contractId: id })
    node.registry.agree(next)
    const goes = id - 1n
    node.registry.set(goes, 'deleted')
    node.registry.changed()
    const wait = Number(id % 8n)
    for (let turn = 0; turn < wait; turn++) await new Promise((done) => setImmediate(done))
    await node.deployments.deploy(42, next)
    await node.until(() => node.deployments.list().length === 1, 'end')
  }
  await node.idle()
  assert.deepEqual(readdirSync(join(node.folder, 'deployments/42')), ['129.jsonl'])
})

test('what a twin is just deploying counts for what it may have', async (t) => {
  const node = await testNode(t, { limits: { deploymentsPerTwin: 2 } })
  const all = [10n, 11n, 12n, 13n].map((contractId) => deploymentOf([], { contractId }))
  for (const one of all) node.registry.agree(one)
  const outcomes = await Promise.allSettled(all.map((one) => node.deployments.deploy(42, one)))
  const refused = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason.message] : []))
  const text = 'twin 42 has 2 deployments here, it may have no more'
  assert.deepEqual(refused, [text, text])
})

test('a machine waits for the network of a deployment that was accepted before its own', async (t) => {
  const node = await testNode(t)
  const net = deploymentOf([network('net')])
  const vm = deploymentOf([machine('vm', 'net')], { contractId: 11n })
  let up: () => void = () => undefined
  const slow = new Promise<void>((resolve) => {
    up = resolve
  })
  node.driver('network').script = () => slow
  node.driver('zmachine').script = (step, task) => {
    if (step === 'provision' && !task.network('net')) throw new Error("network 'net' does not run")
    return {}
  }
  for (const deployment of [net, vm]) {
    node.registry.agree(deployment)
    await node.deployments.deploy(42, deployment)
  }
  await node.until(() => node.calls.includes('provision 42-10-net'), 'begin')
  // An update that takes the machine away ends the waiting, and one that brings it back begins anew.
  await node.until(() => node.states(42, 11n).join() === 'vm init', 'wait')
  for (const version of [1, 2]) {
    const workloads = version === 1 ? [] : [{ ...machine('vm', 'net'), version }]
    const next = deploymentOf(workloads, { contractId: 11n, version })
    node.registry.agree(next)
    await node.deployments.update(42, next)
    if (version === 1) await node.until(() => node.states(42, 11n).length === 0, 'go')
  }
  assert.deepEqual(node.states(42, 11n), ['vm init'])
  up()
  await node.idle()
  assert.deepEqual(node.states(42, 11n), ['vm ok'])
  assert.deepEqual(node.calls.slice(0, 2), ['provision 42-10-net', 'deprovision 42-11-vm'])
})

test('a machine whose network is tried again is tried again too, in another deployment', async (t) => {
  const node = await testNode(t)
  let failures = 2
  node.driver('network').script = (step) => {
    if (step === 'provision' && failures-- > 0) throw new DriverError('transient', 'not just now')
    return null
  }
  node.driver('zmachine').script = (_step, task) => {
    if (!task.network('net')) throw new Error("network 'net' does not run")
    return {}
  }
  const net = deploymentOf([network('net')])
  const vm = deploymentOf([machine('vm', 'net')], { contractId: 11n })
  for (const deployment of [net, vm]) {
    node.registry.agree(deployment)
    await node.deployments.deploy(42, deployment)
  }
  await node.until(() => node.states(42, 11n).join() === 'vm ok', 'run')
  // One that failed for good, or is not there, is not waited for.
  node.driver('network').script = () => {
    throw new DriverError('failed', 'never')
  }
  await node.accept(deploymentOf([network('bad')], { contractId: 12n }))
  node.driver('zmachine').script = () => {
    throw new Error('no network')
  }
  await node.accept(deploymentOf([machine('one', 'bad')], { contractId: 13n }))
  await node.accept(deploymentOf([machine('two', 'nothing')], { contractId: 14n }))
  assert.deepEqual(node.states(42, 13n), ['one error no network'])
  assert.deepEqual(node.states(42, 14n), ['two error no network'])
})
