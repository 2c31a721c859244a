/** Whatever happens in whatever order, the same things stay true. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { capacityOf } from '../plugins/zos/deployment/capacity.ts'
import { DriverError } from '../plugins/zos/drivers/driver.ts'
import type { Deployment } from '../plugins/zos/model.ts'
import { replay } from '../plugins/zos/provision/journal/replay.ts'
import { readRecord, writeRecord } from '../plugins/zos/provision/journal/wire.ts'
import {
  deploymentOf,
  disk,
  machine,
  network,
  type Plan,
  TestNode,
} from './helpers/zos-provision.ts'

const NAMES = ['a', 'b', 'c', 'd']
const CONTRACTS = [10n, 11n]

type Happening =
  /** A new version: which of the workloads are in it, and which of those are changed. */
  | { do: 'send'; contract: bigint; in: boolean[]; changed: boolean[]; network: boolean }
  | { do: 'contract'; contract: bigint; state: 'created' | 'grace_period' | 'deleted' }
  | { do: 'crash'; contract: bigint; name: string }
  | { do: 'restart' | 'rest' }
  /** How the next steps of drivers end. */
  | { do: 'fail'; kinds: ('failed' | 'transient' | 'unchanged' | 'no-action')[] }

const contract = fc.constantFrom(...CONTRACTS)
const flags = fc.array(fc.boolean(), { minLength: 4, maxLength: 4 })
const happening: fc.Arbitrary<Happening> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('send' as const),
      contract,
      in: flags,
      changed: flags,
      network: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('contract' as const),
      contract,
      state: fc.constantFrom('created' as const, 'grace_period' as const, 'deleted' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      contract,
      name: fc.constantFrom(...NAMES),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('restart' as const, 'rest' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      kinds: fc.array(
        fc.constantFrom(
          'failed' as const,
          'transient' as const,
          'unchanged' as const,
          'no-action' as const,
        ),
        { minLength: 1, maxLength: 3 },
      ),
    }),
  },
)

/** Plays what happens, and remembers what was acknowledged. */
class Player {
  readonly #node: TestNode
  readonly #sent = new Map<bigint, Deployment>()
  readonly #histories = new Map<bigint, string[]>()
  #failures: ('failed' | 'transient' | 'unchanged' | 'no-action')[] = []
  /** No driver was told to leave a workload as it was. */
  #obeyed = true

  constructor(node: TestNode) {
    this.#node = node
    for (const driver of node.drivers.values()) {
      driver.script = (step, task) => {
        const kind = step === 'deprovision' ? undefined : this.#failures.shift()
        // Only an update may find that there is nothing to do: elsewhere that would be a lie.
        if (kind && (step === 'update' || kind !== 'no-action'))
          throw new DriverError(kind, `it is ${kind}`)
        return { id: task.id }
      }
    }
  }

  async play(happening: Happening): Promise<void> {
    const node = this.#node
    switch (happening.do) {
      case 'send':
        return this.#send(happening)
      case 'contract':
        node.registry.set(happening.contract, happening.state)
        await node.deployments.sync()
        if (happening.state === 'deleted') {
          await node.idle()
          this.#sent.delete(happening.contract)
          this.#histories.delete(happening.contract)
        }
        return
      case 'crash': {
        const id = `42-${happening.contract}-${happening.name}`
        return node.driver('zmount').crash({ id, reason: 'gone' })
      }
      case 'fail':
        this.#failures = [...happening.kinds]
        if (happening.kinds.some((kind) => kind === 'unchanged' || kind === 'no-action')) {
          this.#obeyed = false
        }
        return
      case 'restart':
        await node.restart()
        return this.check(false)
      case 'rest':
        await node.idle()
        return this.check(false)
    }
  }

  async #send({ contract, in: which, changed, network: has }: Happening & { do: 'send' }) {
    const before = this.#sent.get(contract)
    const version = before === undefined ? 0 : before.version + 1
    const known = new Map(before?.workloads.map((workload) => [workload.name, workload]))
    const plans: Plan[] = []
    for (const [i, name] of NAMES.entries()) {
      if (!which[i]) continue
      const old = known.get(name)
      const renewed = !old || changed[i]
      plans.push(
        disk(name, renewed ? version + 1 : old.version + 1, renewed ? version : old.version),
      )
    }
    const own = `net${contract}`
    if (has || known.has(own)) plans.push(network(own, known.get(own)?.version ?? version))
    const next = deploymentOf(plans, { contractId: contract, version, metadata: `v${version}` })
    const state = this.#node.registry.contracts.get(contract)?.state ?? 'created'
    this.#node.registry.agree(next, state === 'deleted' ? 'created' : state)
    try {
      if (version === 0) await this.#node.deployments.deploy(42, next)
      else await this.#node.deployments.update(42, next)
      this.#sent.set(contract, next)
    } catch (error) {
      // A name whose removal goes on.
      assert.match((error as Error).message, /is still being removed/)
      this.#node.registry.agree(before as Deployment, state)
    }
  }

  /** Everything as it was at one moment; what goes on meanwhile makes it look again. */
  async #look() {
    const { deployments } = this.#node
    for (let left = 1000; left > 0; left--) {
      const views = deployments.list()
      const [users, used] = [deployments.users(), deployments.used()]
      const histories = new Map<bigint, string[]>()
      for (const { deployment } of views) {
        const { contractId } = deployment
        histories.set(contractId, await this.#node.history(42, contractId).catch(() => []))
      }
      if (isDeepStrictEqual(deployments.list(), views)) return { views, histories, users, used }
    }
    throw new Error('it never comes to rest')
  }

  /** @param rested Whether everything that may go on has come to its end. */
  async check(rested: boolean): Promise<void> {
    const { world } = this.#node
    const { views, histories, users, used } = await this.#look()
    assert.deepEqual(
      views.map(({ deployment }) => deployment.contractId),
      [...this.#sent.keys()].sort(),
      'what was acknowledged is there, and nothing else',
    )
    let workloads = 0
    let sru = 0n
    for (const { deployment, results } of views) {
      const { contractId } = deployment
      const sent = this.#sent.get(contractId) as Deployment
      assert.equal(deployment.version, sent.version)
      assert.equal(deployment.metadata, sent.metadata)
      const history = histories.get(contractId) as string[]
      const seen = this.#histories.get(contractId) ?? []
      assert.deepEqual(history.slice(0, seen.length), seen, 'the history only grows')
      this.#histories.set(contractId, history)
      for (const [i, { name, version }] of deployment.workloads.entries()) {
        const { state, message } = results[i] ?? {}
        const entries = history.filter(
          (line) => line.startsWith(`${name}@`) && !line.includes(' unchanged '),
        )
        assert.equal(entries.at(-1), `${name}@${version} ${state} ${message}`.trim())
        if (state !== 'ok' && state !== 'paused') continue
        workloads++
        sru += capacityOf(deployment.workloads[i] as Deployment['workloads'][number]).sru
        if (!rested) continue
        const made = world.get(`42-${contractId}-${name}`)
        assert.equal(made?.paused, state === 'paused', 'what is said to run does')
        if (this.#obeyed) assert.equal(made?.data, sent.workloads[i]?.rawData, 'the newest runs')
      }
      if (!rested) continue
      const names = deployment.workloads.map(({ name }) => name)
      assert.deepEqual(
        names,
        sent.workloads.map(({ name }) => name),
        'as it was submitted',
      )
    }
    assert.equal(users.workloads, workloads)
    assert.equal(used.sru, sru)
    if (!rested) return
    const wanted = new Set(
      views.flatMap(({ deployment: { contractId, workloads } }) =>
        workloads.map(({ name }) => `42-${contractId}-${name}`),
      ),
    )
    for (const id of world.keys()) assert.ok(wanted.has(id), `${id} is left over`)
  }
}

test('random sequences of updates, contracts, crashes, failures and starts', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(happening, { maxLength: 14 }), async (happenings) => {
      const folder = mkdtempSync(join(tmpdir(), 'cvmd-zos-random-'))
      const node = new TestNode(folder, { times: { retry: [1, 1, 1] } })
      try {
        await node.deployments.start()
        const player = new Player(node)
        for (const happening of happenings) await player.play(happening)
        // What waits for another attempt gets it.
        await player.play({ do: 'fail', kinds: [] })
        await node.until(
          () =>
            node.deployments.list().every((view) => {
              const { contractId } = view.deployment
              const grace = node.registry.contracts.get(contractId)?.state === 'grace_period'
              return view.results.every(({ state, message }) =>
                state === 'error'
                  ? !/transient|gone$/.test(message)
                  : grace === (state === 'paused'),
              )
            }),
          'try everything again',
        )
        await node.idle()
        await player.check(true)
        await node.restart()
        await node.idle()
        await player.check(true)
        for (const contract of CONTRACTS) {
          await player.play({ do: 'contract', contract, state: 'deleted' })
        }
        assert.deepEqual([...node.world], [])
        assert.deepEqual(readdirSync(join(folder, 'deployments')), [])
      } finally {
        await node.deployments.stop()
        rmSync(folder, { recursive: true, force: true })
      }
    }),
    { numRuns: 60, includeErrorInReport: true },
  )
})

test('a record is read as it was written, and one that was touched is not read', () => {
  // What is no text on the wire cannot have come over it: no halves of surrogates.
  const metadata = fc.string({ unit: 'binary', maxLength: 40 })
  const property = fc.property(
    metadata,
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.nat(),
    fc.integer({ min: 1, max: 255 }),
    (metadata, contractId, at, flip) => {
      const { workloads, ...header } = deploymentOf([disk('a', 1), machine('vm', 'net')], {
        contractId,
      })
      const record = {
        record: 'deploy',
        at: 1,
        header: { ...header, metadata },
        contract: { type: 'node', nodeId: 1, deploymentHash: '', publicIps: [] },
        workloads,
      } as const
      const line = writeRecord(record)
      assert.deepEqual(readRecord(line.slice(0, -1)), record)
      const bytes = new TextEncoder().encode(line)
      const where = at % (bytes.length - 1)
      bytes[where] = (bytes[where] as number) ^ flip
      const found = replay(bytes)
      assert.equal(found.records, 0)
      assert.ok(found.damage.length > 0)
    },
  )
  fc.assert(property)
})
