/** Contracts that end, pause or cannot be asked about, and what a new start does (spec zos §7.1, §7.5). */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { DriverError } from '../plugins/zos/drivers/driver.ts'
import { deploymentOf, disk, machine, network, testNode } from './helpers/zos-provision.ts'

const THREE = [machine('vm', 'net', ['a']), disk('a', 1), network('net')]

test('a grace period pauses what is okay, in reverse, and its end brings it back', async (t) => {
  const node = await testNode(t)
  node.driver('ip').script = () => {
    throw new DriverError('failed', 'no bridge')
  }
  const address = { name: 'pub', type: 'ip', data: { v4: true, v6: false } }
  await node.accept(deploymentOf([...THREE, address]))
  node.calls.length = 0
  node.registry.set(10n, 'grace_period')
  node.registry.changed()
  await node.until(() => node.world.get('42-10-a')?.paused === true, 'pause')
  await node.idle()
  assert.deepEqual(node.calls, ['pause 42-10-vm', 'pause 42-10-net', 'pause 42-10-a'])
  const paused = ['vm paused paused', 'a paused paused', 'net paused paused', 'pub error no bridge']
  assert.deepEqual(node.states(), paused)
  assert.equal(node.deployments.users().workloads, 3)
  const { results } = node.deployments.get(42, 10n)
  assert.equal(results[0]?.data, '{"id":"42-10-vm"}')

  // Nothing is made to run by a start in between.
  node.calls.length = 0
  await node.restart()
  await node.idle()
  assert.deepEqual(node.calls, [])
  assert.deepEqual(node.states(), paused)

  node.registry.set(10n, 'created')
  await node.deployments.sync()
  await node.idle()
  assert.deepEqual(node.states(), ['vm ok', 'a ok', 'net ok', 'pub error no bridge'])
  const steps = (name: string) => [`provision 42-10-${name}`, `resume 42-10-${name}`]
  assert.deepEqual(node.calls, ['a', 'net', 'vm'].flatMap(steps))
})

test('what is accepted in a grace period is paused at once, and changed without running', async (t) => {
  const node = await testNode(t)
  const first = deploymentOf([disk('a', 1)])
  node.registry.agree(first, 'grace_period')
  await node.deployments.deploy(42, first)
  await node.idle()
  assert.deepEqual(node.states(), ['a paused paused'])
  const next = deploymentOf([disk('a', 2, 1)], { version: 1 })
  node.registry.agree(next, 'grace_period')
  await node.deployments.update(42, next)
  await node.idle()
  assert.deepEqual(node.states(), ['a paused paused'])
  assert.deepEqual([...node.world.values()], [{ data: `{"size":${2 * 1024 ** 3}}`, paused: true }])
  node.registry.set(10n, 'created')
  await node.deployments.sync()
  await node.idle()
  assert.deepEqual(node.states(), ['a ok'])
  assert.deepEqual((await node.history()).slice(2), [
    'a@0 paused paused',
    'a@1 paused paused',
    'a@1 ok',
  ])
})

test('a pause that fails is tried again, and until then it runs', async (t) => {
  const node = await testNode(t)
  let left = 2
  node.driver('zmachine').script = (step) => {
    if (step === 'pause' && left-- > 0) throw new Error('not just now')
    return {}
  }
  await node.accept(deploymentOf([machine('vm', 'net')]))
  node.registry.set(10n, 'grace_period')
  await node.deployments.sync()
  await node.until(() => node.states()[0] === 'vm paused paused', 'pause')
  assert.deepEqual(await node.history(), ['vm@0 init', 'vm@0 ok', 'vm@0 paused paused'])
})

test('a contract that ends takes everything with it; what cannot be removed stays as an error', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf(THREE))
  let stuck = true
  const driver = node.driver('zmount')
  driver.script = (step) => {
    if (step === 'deprovision' && stuck) throw new Error('the disk is busy')
    return {}
  }
  node.registry.contracts.delete(10n)
  await node.deployments.sync()
  await node.until(() => node.states().join() === 'a error the disk is busy', 'try')
  assert.deepEqual((await node.history()).slice(6), [
    'vm@0 deleted contract not active on chain',
    'net@0 deleted contract not active on chain',
    'a@0 error the disk is busy',
  ])
  assert.deepEqual(node.deployments.list(42), [], 'nothing of it is alive')
  assert.equal(node.deployments.list().length, 1)
  // Also after a start, and not brought up again by that.
  node.calls.length = 0
  await node.restart()
  await node.until(() => node.calls.length >= 2, 'try again')
  assert.deepEqual([...new Set(node.calls)], ['deprovision 42-10-a'])
  stuck = false
  await node.until(() => node.deployments.list().length === 0, 'erase')
  assert.throws(() => node.deployments.get(42, 10n), /^ZosError: deployment not found$/)
  assert.deepEqual(readdirSync(join(node.folder, 'deployments')), [])
  // The same contract id is free for a new deployment.
  await node.accept(deploymentOf([disk('a', 1)]))
  assert.deepEqual(await node.history(), ['a@0 init', 'a@0 ok'])
})

test('a contract that moved to another node ends here; another id of this node ends nothing', async (t) => {
  const node = await testNode(t)
  const deployment = deploymentOf(THREE)
  await node.accept(deployment)
  const contract = node.registry.contracts.get(10n)
  assert.ok(contract?.data.type === 'node')
  node.registry.nodeId = 12
  await node.deployments.sync()
  await node.idle()
  assert.deepEqual(node.states(), ['vm ok', 'a ok', 'net ok'])
  node.registry.nodeId = contract.data.nodeId
  const moved = { ...contract.data, nodeId: contract.data.nodeId + 1 }
  node.registry.contracts.set(10n, { ...contract, data: moved })
  node.calls.length = 0
  await node.deployments.sync()
  await node.idle()
  const last = ['deprovision 42-10-vm', 'deprovision 42-10-net', 'deprovision 42-10-a']
  assert.deepEqual(node.calls, last)
  assert.throws(() => node.deployments.get(42, 10n), /^ZosError: deployment not found$/)
  const end = 'deployment 42-10 ends: contract not active on chain'
  assert.ok(node.events.includes(end), node.events.join('\n'))
})

test('a registry that cannot be asked, or says something else, changes nothing', async (t) => {
  const node = await testNode(t)
  const deployment = deploymentOf(THREE)
  await node.accept(deployment)
  node.calls.length = 0
  const same = async () => {
    await node.deployments.sync()
    await node.idle()
    assert.deepEqual(node.states(), ['vm ok', 'a ok', 'net ok'])
  }
  node.registry.unreachable = true
  await same()
  assert.deepEqual(node.calls, [])
  assert.ok(node.logged.some((line) => line.includes('they stay as they are: nobody answers')))
  await node.restart()
  await same()
  assert.equal(node.calls.length, 3, 'what ran is brought up without it')
  node.registry.unreachable = false
  node.registry.agree(deployment, 'created', { twinId: 43 })
  await same()
  node.registry.agree(deployment, 'created', { data: { type: 'name', name: 'x' } })
  await same()
  // It is not there, and a moment later it is: a chain node that lags behind.
  node.registry.contracts.clear()
  const asked = node.registry.asked.length
  const sync = node.deployments.sync()
  await node.until(() => node.registry.asked.length > asked, 'ask')
  node.registry.agree(deployment)
  await sync
  await same()
})

test('what ran is taken over by a start, the networks of all before any machine', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([machine('vm', 'net')], { contractId: 9n }))
  await node.accept(deploymentOf(THREE))
  node.driver('zdb').script = () => {
    throw new DriverError('failed', 'no')
  }
  const zdb = { size: 1, mode: 'seq', password: 'p', public: true }
  await node.accept(deploymentOf([{ name: 'db', type: 'zdb', data: zdb }], { contractId: 12n }))
  const history = await node.history()
  node.calls.length = 0
  let up: () => void = () => undefined
  node.driver('network').script = (_step, task) =>
    new Promise((resolve) => {
      up = () => resolve({ id: task.id })
    })
  await node.restart()
  await node.until(() => node.calls.includes('provision 42-10-net'), 'begin with the network')
  assert.deepEqual(node.calls, ['provision 42-10-a', 'provision 42-10-net'])
  up()
  await node.idle()
  assert.deepEqual(node.calls.slice(2).sort(), ['provision 42-10-vm', 'provision 42-9-vm'])
  assert.deepEqual(await node.history(), history, 'nothing new happened')
  assert.deepEqual([...(node.driver('zmount').swept ?? [])].sort(), [
    '42-10-a',
    '42-10-net',
    '42-10-vm',
    '42-12-db',
    '42-9-vm',
  ])
})

test('what does not come up again is an error, or comes with what is new of it', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([...THREE, disk('b', 1)]))
  let away = true
  node.driver('zmachine').script = () => ({ ip: '10.1.2.9' })
  node.driver('zmount').script = (_step, task) => {
    if (task.workload.name === 'b') throw new DriverError('failed', 'the disk is gone')
    if (away) throw new DriverError('transient', 'not mounted yet')
    return { id: task.id }
  }
  await node.restart()
  await node.until(() => node.states()[1] === 'a error not mounted yet', 'fail')
  away = false
  await node.until(() => node.states()[1] === 'a ok', 'recover')
  await node.idle()
  assert.deepEqual(node.states(), ['vm ok', 'a ok', 'net ok', 'b error the disk is gone'])
  assert.equal(node.deployments.get(42, 10n).results[0]?.data, '{"ip":"10.1.2.9"}')
})

test('the hourly round asks again by itself', async (t) => {
  const node = await testNode(t, { times: { sync: 20 } })
  await node.accept(deploymentOf(THREE))
  node.registry.set(10n, 'deleted')
  await node.until(() => node.deployments.list().length === 0, 'notice')
  assert.ok(!existsSync(join(node.folder, 'deployments', '42')))
  assert.ok(node.events.includes('deployment 42-10 is over and erased'))
})
