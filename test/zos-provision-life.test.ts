/** What happens to workloads, and what the history says of it (spec zos §7). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deploymentWire } from '../plugins/zos/deployment/wire.ts'
import { DriverError, type Task } from '../plugins/zos/drivers/driver.ts'
import { printJson } from '../plugins/zos/json/print.ts'
import { zosVectors } from './helpers/zos-deployment.ts'
import { deploymentOf, disk, machine, network, testNode, wireOf } from './helpers/zos-provision.ts'

const wait = (signal: AbortSignal) =>
  new Promise<never>((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })

test('workloads are made in the order of types, the largest disks first, and removed in reverse', async (t) => {
  const node = await testNode(t)
  const plans = [machine('vm', 'net', ['a']), disk('a', 1), disk('b', 3), network('net')]
  await node.accept(deploymentOf([...plans, disk('c', 2)]))
  const made = ['b', 'c', 'a', 'net', 'vm'].map((name) => `42-10-${name}`)
  assert.deepEqual(
    node.calls,
    made.map((id) => `provision ${id}`),
  )
  assert.deepEqual(node.states(), ['vm ok', 'a ok', 'b ok', 'net ok', 'c ok'])
  const GIB = 1024n ** 3n
  const used = node.deployments.used()
  assert.deepEqual(used, { cru: 1n, sru: 6n * GIB + 524_288_000n, hru: 0n, mru: GIB, ipv4u: 0n })
  assert.deepEqual(node.deployments.users(), {
    deployments: 1,
    workloads: 5,
    lastDeploymentTimestamp: node.clock,
  })
  node.calls.length = 0
  node.registry.set(10n, 'deleted')
  node.registry.changed()
  await node.until(() => node.deployments.list().length === 0, 'erase the deployment')
  assert.deepEqual(
    node.calls,
    made.reverse().map((id) => `deprovision ${id}`),
  )
  assert.equal(node.deployments.users().workloads, 0)
})

test('the history of the shared vectors, and what get says after each step', async (t) => {
  const steps = zosVectors<{ after: string; changes: unknown[]; get: { workloads: unknown[] } }[]>(
    t,
    'changes',
  )
  if (!steps) return
  const node = await testNode(t)
  node.clock = 1
  const sized = (name: string, size: number, version: number) => ({
    name,
    type: 'zmount',
    data: { size },
    version,
  })
  const of = (a: number, version: number, b = 0) =>
    deploymentOf([sized('a', a, version), sized('b', 200, b)], { version, metadata: 'm' })
  let go: () => void = () => undefined
  const gate = new Promise<void>((resolve) => {
    go = resolve
  })
  node.driver('zmount').script = async (_step, task) => {
    await gate
    const { name, version } = task.workload
    const data = { volume_id: task.id }
    const text = 'not enough space left in pools of this type ssd'
    if (name === 'b') throw new DriverError('failed', text, { data })
    if (version === 1) {
      const nothing = { data: { volume_id: '' } }
      throw new DriverError('unchanged', 'not safe to shrink a disk', nothing)
    }
    return data
  }
  const compare = async (at: number) => {
    const { after, changes, get } = steps[at] as (typeof steps)[number]
    const mine = (await node.deployments.changes(42, 10n)).map(wireOf)
    // The vector has them by name where several happened at a time; the largest disk goes first.
    assert.deepEqual(sorted(mine), sorted(changes), after)
    const shown = JSON.parse(printJson(deploymentWire(node.deployments.get(42, 10n))))
    assert.deepEqual(shown.workloads, get.workloads, after)
  }
  const deployment = of(100, 0)
  node.registry.agree(deployment)
  await node.deployments.deploy(42, deployment)
  await compare(0)
  go()
  await node.idle()
  await compare(1)
  await node.accept(of(50, 1))
  await compare(2)
  await node.accept(of(150, 2))
  await compare(3)
  node.registry.set(10n, 'grace_period')
  await node.deployments.sync()
  await node.idle()
  await compare(4)
})

/** The two that happened beside each other, in the order of names. */
function sorted(changes: readonly unknown[]): unknown[] {
  const key = (entry: unknown) => JSON.stringify((entry as { name: string }).name)
  const [one, two, three, four, ...rest] = changes
  const pair = [three, four].filter((entry) => entry !== undefined)
  return [one, two, ...pair.sort((a, b) => key(a).localeCompare(key(b))), ...rest]
}

test('an update adds, changes and removes, with an entry for each outcome', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1), disk('b', 2), disk('c', 3), disk('d', 4)]))
  node.calls.length = 0
  const previous: unknown[] = []
  node.driver('zmount').script = (step, task) => {
    if (step === 'update') previous.push((task as Task & { previous: unknown }).previous)
    if (task.workload.name === 'b') throw new DriverError('no-action', '')
    return { id: `${task.id}, new` }
  }
  const plans = [disk('e', 9, 1), disk('d', 5), disk('b', 2, 1), disk('a', 7, 1)]
  await node.accept(deploymentOf(plans, { version: 1, metadata: 'new' }))
  assert.deepEqual(node.calls, [
    'deprovision 42-10-c',
    'provision 42-10-e',
    'update 42-10-a',
    'update 42-10-b',
  ])
  assert.deepEqual(previous, [{ size: 1n << 30n }, { size: 2n << 30n }])
  assert.deepEqual(node.states(), ['e ok', 'd ok', 'b ok', 'a ok'])
  const { deployment, results } = node.deployments.get(42, 10n)
  assert.deepEqual([deployment.version, deployment.metadata], [1, 'new'])
  // d has its old data: only its version says that it is to be changed.
  const sizes = deployment.workloads.map(({ data }) => (data as { size: bigint }).size >> 30n)
  assert.deepEqual(sizes, [9n, 4n, 2n, 7n])
  assert.equal(results[2]?.data, '{"id":"42-10-b"}')
  assert.deepEqual((await node.history()).slice(8), [
    'e@1 init',
    'c@0 deleted deleted by an update',
    'e@1 ok',
    'a@1 ok',
    'b@1 ok',
  ])
})

test('updates while work goes on: the newest one counts, what runs is what it is compared with', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1), disk('b', 1)]))
  const driver = node.driver('zmount')
  const seen: string[] = []
  let release: () => void = () => undefined
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  driver.script = async (step, task) => {
    const before = (task as { previous?: { size: bigint } }).previous?.size ?? 0n
    seen.push(`${step} ${task.workload.name} ${before >> 30n}`)
    if (task.workload.name === 'b') await held
    return {}
  }
  const accept = async (plans: Parameters<typeof deploymentOf>[0], version: number) => {
    const next = deploymentOf(plans, { version })
    node.registry.agree(next)
    await node.deployments.update(42, next)
  }
  await accept([disk('a', 2, 1), disk('b', 9, 1)], 1)
  await node.until(() => seen.length === 1, 'begin')
  await accept([disk('a', 3, 2), disk('b', 9, 1)], 2)
  await accept([disk('a', 4, 3), disk('b', 9, 1), disk('c', 1, 3)], 3)
  release()
  await node.idle()
  assert.deepEqual(seen, ['update b 1', 'update a 1', 'provision c 0'])
  assert.equal(node.deployments.get(42, 10n).deployment.version, 3)
  assert.equal(node.world.get('42-10-a')?.data, `{"size":${4 * 1024 ** 3}}`)
})

test('an update of what is just being updated is made afterwards', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1)]))
  const seen: string[] = []
  let release: () => void = () => undefined
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  node.driver('zmount').script = async (_step, task) => {
    const { size } = (task as { previous?: { size: bigint } }).previous ?? {}
    seen.push(`${(size ?? 0n) >> 30n} to ${(task.workload.data as { size: bigint }).size >> 30n}`)
    await held
    return {}
  }
  for (const [size, version] of [
    [2, 1],
    [3, 2],
    [1, 3],
  ] as const) {
    const next = deploymentOf([disk('a', size, version)], { version })
    node.registry.agree(next)
    await node.deployments.update(42, next)
    await node.until(() => seen.length > 0, 'begin')
  }
  release()
  await node.idle()
  assert.deepEqual(seen, ['1 to 2', '2 to 1'])
  assert.equal(node.deployments.get(42, 10n).deployment.workloads[0]?.version, 3)
  await node.restart()
  await node.idle()
  assert.equal(node.world.get('42-10-a')?.data, `{"size":${1024 ** 3}}`)
})

test('an update of what is paused is made after a start, too', async (t) => {
  const node = await testNode(t)
  await node.accept(deploymentOf([disk('a', 1)]))
  node.registry.set(10n, 'grace_period')
  await node.deployments.sync()
  await node.restart()
  await node.idle()
  const next = deploymentOf([disk('a', 2, 1)], { version: 1 })
  node.registry.agree(next, 'grace_period')
  await node.deployments.update(42, next)
  await node.idle()
  assert.deepEqual(node.world.get('42-10-a'), { data: `{"size":${2 * 1024 ** 3}}`, paused: true })
})

test('what waits for another attempt gets it, though an update of it changes nothing', async (t) => {
  const node = await testNode(t)
  const kinds = ['transient', 'unchanged'] as const
  let step = 0
  node.driver('zmount').script = async () => {
    const kind = kinds[step++]
    if (kind) throw new DriverError(kind, `it is ${kind}`)
    return {}
  }
  for (const version of [0, 1]) {
    const next = deploymentOf([disk('a', 1, version)], { version })
    node.registry.agree(next)
    if (version === 0) await node.deployments.deploy(42, next)
    else await node.deployments.update(42, next)
    await node.until(() => step > version, 'begin')
  }
  const state = () => node.deployments.get(42, 10n).results[0]?.state
  await node.until(() => state() === 'ok', 'run')
})

test('what fails for a while is tried again; what fails for good is not', async (t) => {
  const node = await testNode(t)
  let left = 3
  node.driver('zmount').script = (_step, task) => {
    if (task.workload.name === 'bad') throw new Error('a program error')
    if (left-- > 0) throw new DriverError('transient', 'the engine is away')
    return {}
  }
  // It fails for want of its disk, which comes later.
  node.driver('zmachine').script = (_step, task) => {
    if (task.resultOf('a')?.state !== 'ok') throw new DriverError('failed', 'no disk "a"')
    return {}
  }
  await node.accept(deploymentOf([disk('a', 2), disk('bad', 1), machine('vm', 'net', ['a'])]))
  await node.until(() => node.states().join() === 'a ok,bad error a program error,vm ok', 'recover')
  await node.idle()
  assert.deepEqual(
    (await node.history()).filter((line) => line.startsWith('a@')),
    ['a@0 init', 'a@0 error the engine is away', 'a@0 ok'],
  )
  const attempts = node.logged.filter((line) => line.includes('the engine is away'))
  assert.equal(attempts.length, 3)
  assert.equal(node.calls.filter((call) => call === 'provision 42-10-bad').length, 1)
})

test('a workload without a driver is an error, and nothing is in the way of its removal', async (t) => {
  const node = await testNode(t)
  node.drivers.delete('zdb')
  const zdb = { size: 1, mode: 'seq', password: 'secret', public: true }
  await node.accept(deploymentOf([{ name: 'db', type: 'zdb', data: zdb }, disk('a', 1)]))
  const text = "db error this node does not offer workloads of type 'zdb'"
  assert.deepEqual(node.states(), [text, 'a ok'])
  node.registry.contracts.delete(10n)
  await node.deployments.sync()
  await node.idle()
  assert.deepEqual(node.deployments.list(), [])
})

test('a workload that ends by itself is an error and started again, three times', async (t) => {
  const node = await testNode(t, { times: { crashWindow: 60_000 } })
  await node.accept(deploymentOf([machine('vm', 'net'), disk('a', 1)]))
  const driver = node.driver('zmachine')
  for (let crash = 1; crash <= 3; crash++) {
    driver.crash({ id: '42-10-vm', reason: `exit ${crash}` })
    await node.until(() => node.calls.length === 2 + crash, 'start it again')
    await node.idle()
    assert.deepEqual(node.states(), ['vm ok', 'a ok'])
  }
  driver.crash({ id: '42-10-vm', reason: 'exit 4' })
  driver.crash({ id: '42-10-other', reason: 'not ours' })
  driver.crash({ id: 'nonsense', reason: 'not ours' })
  await node.idle()
  const last = 'vm error exit 4; not started again, it ended too often'
  assert.deepEqual(node.states(), [last, 'a ok'])
  assert.equal(node.deployments.used().mru, 0n)
  const before = node.calls.length
  await node.restart()
  await node.idle()
  assert.deepEqual(node.states(), [last, 'a ok'])
  assert.deepEqual(node.calls.slice(before), ['provision 42-10-a'])
})

test('memory that is not there is refused, also where several are made at a time', async (t) => {
  const GIB = 1024n ** 3n
  const none = { cru: 0n, sru: 0n, hru: 0n, ipv4u: 0n }
  const capacity = { total: { ...none, mru: 5n * GIB }, system: { ...none, mru: 2n * GIB } }
  let available = 4n * GIB
  const node = await testNode(t, {
    facts: { capacity: async () => capacity, availableMemory: async () => available },
  })
  let begun = 0
  node.driver('zmachine').script = async () => {
    begun++
    await node.until(() => begun >= 2, 'begin the other')
    return {}
  }
  const of = (contractId: bigint) => deploymentOf([machine('vm', 'net')], { contractId })
  await Promise.all([node.accept(of(1n)), node.accept(of(2n))])
  available = 0n
  await node.accept(of(3n))
  const text = 'failed to satisfy required capacity: cannot fulfil required memory size'
  assert.deepEqual(node.states(42, 3n), [`vm error ${text} ${GIB} bytes out of usable 0 bytes`])
  available = 5n * GIB
  await node.accept(of(4n))
  assert.deepEqual(node.states(42, 4n), ['vm ok'])
  await node.accept(of(5n))
  assert.deepEqual(node.states(42, 5n), [`vm error ${text} ${GIB} bytes out of usable 0 bytes`])
})

test('progress is seen while it lasts', async (t) => {
  const node = await testNode(t)
  let end: () => void = () => undefined
  node.driver('zmachine').script = (_step, task) => {
    task.progress('downloading 40 %')
    return new Promise<void>((resolve) => {
      end = resolve
    })
  }
  const deployment = deploymentOf([machine('vm', 'net')])
  node.registry.agree(deployment)
  await node.deployments.deploy(42, deployment)
  await node.until(() => node.states()[0] === 'vm init downloading 40 %', 'show its progress')
  assert.deepEqual(await node.history(), ['vm@0 init downloading 40 %'])
  end()
  await node.idle()
  assert.deepEqual(await node.history(), ['vm@0 init', 'vm@0 ok'])
})

test('a step that is not wanted any more is ended, and one that takes too long', async (t) => {
  const node = await testNode(t, { times: { step: 50 } })
  const aborted: unknown[] = []
  node.driver('zmachine').script = (step, task) => {
    if (step !== 'provision') return {}
    return wait(task.signal).catch((reason) => {
      aborted.push(String(reason))
      throw reason
    })
  }
  await node.accept(deploymentOf([machine('vm', 'net')]))
  assert.deepEqual(node.states(), ['vm error it took more than 0 s'])

  const slow = await testNode(t)
  slow.driver('zmachine').script = (step, task) => (step === 'provision' ? wait(task.signal) : {})
  const deployment = deploymentOf([machine('vm', 'net'), disk('a', 1)])
  slow.registry.agree(deployment)
  await slow.deployments.deploy(42, deployment)
  await slow.until(() => slow.calls.includes('provision 42-10-vm'), 'begin')
  slow.registry.set(10n, 'deleted')
  await slow.deployments.sync()
  await slow.idle()
  assert.deepEqual(slow.calls.slice(-2), ['deprovision 42-10-vm', 'deprovision 42-10-a'])
  assert.deepEqual(slow.deployments.list(), [])
})

test('networks are found by name by machines of the same twin, while they run', async (t) => {
  const node = await testNode(t)
  const found: (string | undefined)[] = []
  node.driver('zmachine').script = (_step, task) => {
    found.push(task.network('net')?.id)
    return {}
  }
  await node.accept(deploymentOf([network('net')]))
  await node.accept(deploymentOf([machine('vm', 'net')], { contractId: 11n }))
  await node.accept(deploymentOf([machine('vm', 'net')], { contractId: 12n, twinId: 43 }))
  assert.deepEqual(found, ['42-10-net', undefined])
  node.registry.set(10n, 'deleted')
  await node.deployments.sync()
  await node.idle()
  await node.accept(deploymentOf([machine('vm', 'net')], { contractId: 13n }))
  assert.deepEqual(found, ['42-10-net', undefined, undefined])
})

test('health and logs come from the drivers, and a driver that is stuck is an answer', async (t) => {
  const node = await testNode(t, { times: { look: 30 } })
  const driver = node.driver('zmachine') as unknown as Record<string, unknown>
  const check = { name: 'running', ok: true, message: 'since yesterday' }
  driver.health = async () => [check]
  driver.logs = async (_task: unknown, lines: number) => `${lines} lines`
  node.driver('zmount').script = () => ({})
  ;(node.driver('zmount') as unknown as Record<string, unknown>).health = () =>
    new Promise(() => undefined)
  await node.accept(deploymentOf([disk('a', 1), machine('vm', 'net'), network('net')]))
  assert.deepEqual(await node.deployments.health(42, 10n), [
    {
      id: '42-10-a',
      type: 'zmount',
      name: 'a',
      checks: [{ name: 'health', ok: false, message: 'it took more than 30 ms' }],
    },
    { id: '42-10-vm', type: 'zmachine', name: 'vm', checks: [check] },
    { id: '42-10-net', type: 'network', name: 'net', checks: [] },
  ])
  assert.equal(await node.deployments.logs(42, 10n, 'vm'), '100 lines')
  assert.equal(await node.deployments.logs(42, 10n, 'a'), '')
  await assert.rejects(node.deployments.logs(42, 10n, 'x'), /^ZosError: workload 'x' not found$/)
})

test('secrets of workloads are in no event and no line of the log', async (t) => {
  const node = await testNode(t)
  node.driver('zmachine').script = () => {
    throw new DriverError('failed', 'no image')
  }
  await node.accept(deploymentOf([network('net'), machine('vm', 'net')]))
  assert.ok(node.events.length > 2)
  assert.doesNotMatch([...node.events, ...node.logged].join('\n'), /secret/)
})
