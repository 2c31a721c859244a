/** Which driver runs what, and deployments that begin again when the host becomes able to do more. */
import assert from 'node:assert/strict'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type BoardNews, DriverBoard } from '../plugins/zos/drivers/board.ts'
import type { Driver, DriverProbe } from '../plugins/zos/drivers/driver.ts'
import type { WorkloadType } from '../plugins/zos/model.ts'
import {
  type RenewalTimes,
  type RenewedDeployments,
  renewedDeployments,
} from '../plugins/zos/wiring/deployments.ts'
import { deploymentOf, disk, FakeDriver, inTime, MemoryRegistry } from './helpers/zos-provision.ts'
import { eventually } from './helpers/zos-registry.ts'

/** A driver that is able when the test says so. */
class Probed extends FakeDriver {
  override readonly name: string
  probes = 0
  stopped = 0
  answer: () => DriverProbe | Promise<DriverProbe>

  constructor(type: WorkloadType, name: string, answer: Probed['answer'] = () => ({ able: true })) {
    super(type)
    this.name = name
    this.answer = answer
  }

  override async probe(): Promise<never> {
    this.probes++
    return (await this.answer()) as never
  }

  async stop(): Promise<void> {
    this.stopped++
  }
}

const no = (reason: string) => () => ({ able: false, reason }) as const

function boardOf(t: TestContext, candidates: readonly Driver[], times: object = {}) {
  const told: string[] = []
  const tell = ({ type, driver, probe }: BoardNews) => {
    told.push(`${type} ${driver} ${probe.able ? (probe.warning ?? 'able') : probe.reason}`)
  }
  const board = new DriverBoard({ candidates, told: tell, againMs: 10, ...times })
  t.after(() => board.stop())
  return { board, told }
}

test('of several drivers the first that is able runs a type, whatever the others take', async (t) => {
  const vm = new Probed('zmachine', 'vm', no('there is no /dev/kvm'))
  const container = new Probed('zmachine', 'container', () => ({ able: true, warning: 'old' }))
  const last = new Probed('zmachine', 'last')
  const disks = new Probed('zmount', 'file')
  const { board, told } = boardOf(t, [vm, container, disks, last], { againMs: 60_000 })
  assert.deepEqual(board.features(), [])
  assert.equal(board.lacks('zmount'), 'not looked for yet')
  await board.start()
  assert.deepEqual(board.features(), ['zmount', 'zmachine'])
  assert.equal(board.drivers.get('zmachine'), container)
  assert.equal(last.probes, 0)
  assert.deepEqual(told.sort(), [
    'zmachine container old',
    'zmachine vm there is no /dev/kvm',
    'zmount file able',
  ])
  assert.equal(board.lacks('zmachine'), undefined)
  assert.equal(board.lacks('zdb'), undefined)
})

test('what is missing is looked for again; a reason is told when it changes', async (t) => {
  let answer: DriverProbe = { able: false, reason: 'the engine is away' }
  const one = new Probed('zmachine', 'container', () => answer)
  const able = new Probed('zmount', 'file')
  const { board, told } = boardOf(t, [one, able])
  await board.start()
  await eventually('it was looked for again', () => one.probes > 2)
  assert.equal(board.lacks('zmachine'), 'the engine is away')
  answer = { able: false, reason: 'permission denied' }
  await eventually('the reason was told', () => told.length === 3)
  answer = { able: true }
  await eventually('it was found', () => board.drivers.has('zmachine'))
  const probes = one.probes
  assert.deepEqual(told, [
    ...told.slice(0, 2),
    'zmachine container permission denied',
    'zmachine container able',
  ])
  await new Promise((next) => setTimeout(next, 50))
  assert.deepEqual([one.probes, able.probes], [probes, 1])
})

test('a probe that throws or never answers is a reason, and holds nobody up', async (t) => {
  const broken = new Probed('zdb', 'resp', () => {
    throw new Error('no such host')
  })
  const silent = new Probed('network', 'host', () => new Promise(() => undefined))
  const { board } = boardOf(t, [broken, silent], { probeMs: 50, againMs: 60_000 })
  await inTime(board.start(), 'look at all drivers')
  assert.equal(board.lacks('zdb'), 'no such host')
  assert.match(board.lacks('network') ?? '', /within 50 ms|aborted|timed out|timeout/)
})

test('stopped while it looks: nothing is chosen later, and every driver is stopped', async (t) => {
  let go: (probe: DriverProbe) => void = () => undefined
  const slow = new Probed('zmount', 'file', () => new Promise((resolve) => (go = resolve)))
  const failing = new Probed('volume', 'dir')
  failing.stop = async () => {
    throw new Error('no')
  }
  const { board } = boardOf(t, [slow, failing])
  const starting = board.start()
  await eventually('it was asked', () => slow.probes === 1)
  await board.stop()
  go({ able: true })
  await inTime(starting, 'start')
  assert.equal(board.drivers.has('zmount'), false)
  assert.equal(slow.stopped, 1)
  await new Promise((next) => setTimeout(next, 40))
  assert.equal(slow.probes, 1)
})

interface Renewing {
  readonly registry: MemoryRegistry
  readonly drivers: Map<WorkloadType, FakeDriver>
  readonly deployments: RenewedDeployments
  readonly folder: string
  readonly logged: string[]
}

async function renewing(t: TestContext, times: RenewalTimes = {}): Promise<Renewing> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-zos-board-'))
  const registry = new MemoryRegistry()
  const drivers = new Map<WorkloadType, FakeDriver>([['zmount', new FakeDriver('zmount')]])
  const logged: string[] = []
  const log = (message: string) => void logged.push(message)
  const node: Renewing = {
    folder,
    logged,
    registry,
    drivers,
    deployments: renewedDeployments(
      {
        registry,
        stateFolder: join(folder, 'deployments'),
        verify: async () => undefined,
        events: { append: () => undefined as never },
        log: { debug: log, info: log, warn: log, error: log },
        times: { contract: 20, contractAgain: 10, retry: [10], grace: 2000 },
      },
      { drivers, lacks: (type) => (type === 'volume' ? 'the engine is away' : undefined) },
      { againMs: 20, ...times },
    ),
  }
  t.after(async () => {
    await node.deployments.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  await node.deployments.start()
  return node
}

test('deployments stay to be seen while they begin again, and new drivers take part', async (t) => {
  const { registry, drivers, deployments } = await renewing(t)
  const deployment = deploymentOf([disk('a', 1)])
  registry.agree(deployment)
  await deployments.deploy(42, deployment)
  await inTime(deployments.idle(), 'come to rest')
  drivers.set('volume', new FakeDriver('volume'))
  let over = false
  const renewed = deployments.renew().finally(() => {
    over = true
  })
  let looks = 0
  while (!over) {
    assert.equal(deployments.get(42, 10n).results[0]?.state, 'ok')
    assert.equal(deployments.list(42).length, 1)
    assert.equal(deployments.users().workloads, 1)
    looks++
    await new Promise((next) => setImmediate(next))
  }
  await renewed
  assert.ok(looks > 0)
  const more = deploymentOf([{ name: 'v', type: 'volume', data: { size: 1 } }], { contractId: 11n })
  registry.agree(more)
  await deployments.deploy(42, more)
  await inTime(deployments.idle(), 'come to rest')
  assert.equal(deployments.get(42, 11n).results[0]?.state, 'ok')
  assert.deepEqual(
    drivers.get('zmount')?.calls.map((call) => call.split(' ')[0]),
    ['provision', 'provision'],
  )
})

test('journals that cannot be read while they begin again are tried again', async (t) => {
  const { registry, deployments, folder, logged } = await renewing(t, { waitMs: 30 })
  const [first, second] = [10n, 11n].map((contractId) =>
    deploymentOf([disk('a', 1)], { contractId }),
  )
  assert.ok(first && second)
  registry.agree(first)
  registry.agree(second)
  await deployments.deploy(42, first)
  await inTime(deployments.idle(), 'come to rest')
  const journals = join(folder, 'deployments')
  renameSync(journals, `${journals}.away`)
  writeFileSync(journals, 'no folder')
  const renewed = deployments.renew()
  await eventually(
    'two attempts failed',
    () => logged.filter((l) => /^Cannot begin/.test(l)).length > 1,
  )
  assert.equal(deployments.get(42, 10n).results[0]?.state, 'ok')
  await assert.rejects(deployments.deploy(42, second), { kind: 'unavailable' })
  rmSync(journals)
  renameSync(`${journals}.away`, journals)
  await inTime(renewed, 'begin again')
  await deployments.deploy(42, second)
  await inTime(deployments.idle(), 'come to rest')
  assert.equal(deployments.get(42, 11n).results[0]?.state, 'ok')
  // And the end does not wait for that.
  renameSync(journals, `${journals}.away`)
  writeFileSync(journals, 'no folder')
  const never = deployments.renew()
  await inTime(deployments.stop(), 'stop')
  await inTime(never, 'give up')
})

test('what this host lacks for now is waited for; what is never offered is refused', async (t) => {
  const { registry, drivers, deployments } = await renewing(t)
  const volume = { name: 'v', type: 'volume', data: { size: 1 } } as const
  const zdb = { name: 'z', type: 'zdb', data: { size: 1, mode: 'user', password: 'p' } } as const
  for (const [at, workload] of [volume, zdb].entries()) {
    const deployment = deploymentOf([workload], { contractId: BigInt(10 + at) })
    registry.agree(deployment)
    await deployments.deploy(42, deployment)
  }
  const messages = () => [10n, 11n].map((id) => deployments.get(42, id).results[0]?.message)
  const never = "this node does not offer workloads of type 'zdb'"
  await eventually('both failed', () => messages()[1] === never)
  assert.equal(
    messages()[0],
    "this node does not offer workloads of type 'volume' now: the engine is away",
  )
  drivers.set('volume', new FakeDriver('volume'))
  drivers.set('zdb', new FakeDriver('zdb'))
  await inTime(deployments.renew(), 'begin again')
  await eventually('the volume runs', () => deployments.get(42, 10n).results[0]?.state === 'ok')
  await inTime(deployments.idle(), 'come to rest')
  assert.equal(messages()[1], never)
})

test('what is asked for while they begin again is taken, and not forgotten', async (t) => {
  const { registry, deployments } = await renewing(t)
  const turns = async (count: number) => {
    for (let turn = 0; turn < count; turn++) await new Promise((next) => setImmediate(next))
  }
  for (let round = 0; round < 20; round++) {
    const before = deploymentOf([disk('a', 1)], { contractId: BigInt(100 + round) })
    const meanwhile = deploymentOf([disk('a', 1)], { contractId: BigInt(200 + round) })
    for (const deployment of [before, meanwhile]) registry.agree(deployment)
    const accepted = deployments.deploy(42, before)
    // Each time it has come a little further.
    await turns(round)
    const renewed = deployments.renew()
    await turns(round)
    await inTime(Promise.all([deployments.deploy(42, meanwhile), accepted, renewed]), 'begin again')
    const known = deployments.list(42).map(({ deployment: { contractId } }) => contractId)
    assert.ok(known.includes(before.contractId), `round ${round}`)
    assert.ok(known.includes(meanwhile.contractId), `round ${round}`)
  }
})

test('many reasons to begin again are one, and a stop is the last of them', async (t) => {
  const { drivers, deployments } = await renewing(t)
  const many = Array.from({ length: 5 }, () => deployments.renew())
  assert.equal(new Set(many).size, 1)
  await inTime(Promise.all(many), 'begin again')
  drivers.set('volume', new FakeDriver('volume'))
  const last = deployments.renew()
  const stopped = deployments.stop()
  await inTime(Promise.all([last, stopped]), 'stop')
  await inTime(deployments.renew(), 'do nothing')
  await assert.rejects(deployments.deploy(42, deploymentOf([disk('a', 1)])), {
    kind: 'unavailable',
  })
})
