import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isOldName } from '../../plugins/supervisor/compose/names.ts'
import type { ContainerState } from '../../plugins/supervisor/plan/current.ts'
import type { PlanOptions } from '../../plugins/supervisor/plan/options.ts'
import { isDone } from '../../plugins/supervisor/plan/plan.ts'
import type { Step } from '../../plugins/supervisor/plan/steps.ts'
import {
  app,
  type Desired,
  type DesiredApp,
  type DesiredService,
  Machine,
  OPTIONS,
  service,
} from './supervisor-plan-machine.ts'

const RUNS = Number(process.env.CVMD_TEST_RUNS ?? 400)
const NAMES = ['a', 'b', 'c', 'd']
const STRATEGIES = [
  'download-then-kill',
  'kill-then-download',
  'delete-then-download',
  'hand-over',
] as const
const UP = ['running', 'restarting', 'paused']

/** Services that may depend on earlier ones only, so that there is no circle. */
const arbitraryServices = (appId: number, commit: string): fc.Arbitrary<DesiredService[]> =>
  fc
    .array(
      fc.record({
        name: fc.constantFrom(...NAMES),
        hash: fc.constantFrom('h1', 'h2', 'h3'),
        image: fc.constantFrom('one:1', 'two:1', 'three@sha256:33'),
        running: fc.boolean(),
        strategy: fc.constantFrom(...STRATEGIES),
        networks: fc.subarray(['default', 'front'], { minLength: 1 }),
        volumes: fc.subarray(['data', 'logs']),
        dependsOn: fc.subarray(NAMES),
        sharesNetwork: fc.boolean(),
        api: fc.boolean(),
      }),
      { maxLength: NAMES.length },
    )
    .map((drafts) => {
      const byName = new Map(drafts.map((draft) => [draft.name, draft]))
      const order = NAMES.filter((name) => byName.has(name))
      return [...byName.values()].map((draft) => {
        const earlier = order.slice(0, order.indexOf(draft.name))
        // Nothing starts in the network of one that shall not run.
        const owner = earlier.find((name) => byName.get(name)?.running)
        const networkOf = draft.sharesNetwork && owner === earlier[0] ? owner : undefined
        const dependsOn = new Set(draft.dependsOn.filter((name) => earlier.includes(name)))
        if (networkOf !== undefined) dependsOn.add(networkOf)
        const shared = networkOf !== undefined
        return service(draft.name, {
          image: draft.image,
          // What else is asked for is part of the hash.
          hash: [
            draft.hash,
            draft.image,
            draft.networks,
            draft.volumes,
            networkOf,
            draft.api,
          ].join(),
          name: `${draft.name}_1_1_${commit}`,
          running: draft.running,
          strategy: draft.strategy,
          dependsOn: [...dependsOn].map((serviceName) => ({ serviceName, condition: 'started' })),
          networks: shared ? [] : draft.networks.map((name) => `${appId}_${name}`),
          volumes: draft.volumes.map((name) => `${appId}_${name}`),
          networkOf,
          usesSupervisorNetwork: draft.api && !shared,
        })
      })
    })

const arbitraryApp = (appId: number): fc.Arbitrary<DesiredApp> =>
  fc
    .record({ commit: fc.constantFrom('c1', 'c2'), net: fc.constantFrom('n1', 'n2') })
    .chain(({ commit, net }) =>
      arbitraryServices(appId, `${commit}${appId}`).map((services) =>
        app(services, {
          appId,
          commit,
          networks: ['default', 'front'].map((shortName) => ({
            shortName,
            name: `${appId}_${shortName}`,
            hash: net,
          })),
          volumes: ['data', 'logs'].map((shortName) => ({
            shortName,
            name: `${appId}_${shortName}`,
            hash: 'v1',
          })),
        }),
      ),
    )

const arbitraryDesired: fc.Arbitrary<Desired> = fc
  .tuple(fc.option(arbitraryApp(1)), fc.option(arbitraryApp(2)))
  .map((apps) => ({ apps: apps.filter((one) => one !== null) }))

const arbitraryOptions: fc.Arbitrary<Partial<PlanOptions>> = fc.record({
  keepVolumes: fc.boolean(),
  keepImages: fc.boolean(),
  trial: fc.constantFrom(undefined, { stableMs: 5000, timeoutMs: 30_000 }),
})

/** What else has to hold while a plan is done: checked before and after every step. */
function watch(machine: Machine, desired: () => Desired, removesVolumes: () => boolean): void {
  machine.before = (step, appId) => {
    const wanted = desired().apps.find((one) => one.appId === appId)
    if (step.kind === 'remove-volume') {
      assert.ok(removesVolumes(), `${step.name} was to be kept`)
      assert.ok(!wanted?.volumes.some(({ name }) => name === step.name), `${step.name} is wanted`)
    }
    if (step.kind === 'remove-image') {
      for (const { services } of desired().apps) {
        assert.ok(!services.some(({ image }) => image === step.image), `${step.image} is wanted`)
      }
    }
    if (step.kind === 'start') checkStart(machine, step, wanted)
  }
}

function checkStart(
  machine: Machine,
  step: Extract<Step, { kind: 'start' }>,
  wanted: DesiredApp | undefined,
): void {
  const target = wanted?.services.find(({ serviceName }) => serviceName === step.serviceName)
  const boxes = machine.boxes.filter((one) => one.appId === wanted?.appId)
  for (const { serviceName } of target?.dependsOn ?? []) {
    const dependency = wanted?.services.find((one) => one.serviceName === serviceName)
    const box = boxes.find(
      (one) => one.serviceName === serviceName && !isOldName(one.name, serviceName),
    )
    const fine = dependency?.running === false || (box && box.state !== 'created')
    assert.ok(fine, `${step.serviceName} is started before ${serviceName}`)
  }
  const others = boxes.filter(
    (one) => one.serviceName === step.serviceName && one.id !== step.containerId,
  )
  const up = others.filter(({ state }) => UP.includes(state))
  assert.ok(
    up.every(({ name }) => isOldName(name, step.serviceName)),
    'two at once',
  )
  assert.ok(up.length <= 1, 'three at once')
}

function checkReached(machine: Machine, desired: Desired): void {
  const wanted = desired.apps.flatMap(({ appId, services }) =>
    services.map(({ name, hash, running }) => ({ appId, name, hash, running })),
  )
  const found = machine.boxes.map(({ appId, name, hash, state }) => {
    return { appId, name, hash, running: state === 'running' }
  })
  const sorted = <T extends { name: string; appId: number }>(list: T[]) =>
    list.sort((a, b) => a.appId - b.appId || a.name.localeCompare(b.name))
  assert.deepEqual(sorted(found), sorted(wanted))
  for (const { appId, networks, volumes, commit } of desired.apps) {
    const mine = machine.networks.filter((one) => one.appId === appId)
    assert.deepEqual(
      mine.map(({ name, hash }) => `${name} ${hash}`).sort(),
      networks.map(({ name, hash }) => `${name} ${hash}`).sort(),
    )
    for (const { name } of volumes) assert.ok(machine.volumes.some((one) => one.name === name))
    assert.equal(machine.commits.get(appId), commit)
  }
  for (const { appId } of [...machine.networks, ...machine.boxes]) {
    assert.ok(desired.apps.some((one) => one.appId === appId))
  }
}

test('from anything to anything: the target is reached, in order, and nothing wanted is lost', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(arbitraryDesired, arbitraryOptions, fc.nat(12)), {
        minLength: 1,
        maxLength: 4,
      }),
      (targets) => {
        const machine = new Machine()
        let now: Desired = { apps: [] }
        let options: Partial<PlanOptions> = {}
        watch(
          machine,
          () => now,
          () => options.keepVolumes !== true,
        )
        for (const [index, [desired, chosen, rounds]] of targets.entries()) {
          now = desired
          options = chosen
          // All but the last are left wherever they are, perhaps in the middle of a hand-over.
          if (index < targets.length - 1) {
            for (let round = 0; round < rounds; round++) {
              machine.doAll(machine.plan(desired, options), desired)
              machine.now += 1000
            }
          } else assert.deepEqual(machine.settle(desired, options), [])
        }
        checkReached(machine, now)
        assert.ok(isDone(machine.plan(now, options)))
      },
    ),
    { numRuns: RUNS, includeErrorInReport: true },
  )
})

const STATES: readonly ContainerState[] = [
  'created',
  'running',
  'restarting',
  'paused',
  'exited',
  'dead',
]

test('from any mess of our own containers the target is reached', () => {
  const arbitraryMess = fc.array(
    fc.record({
      serviceName: fc.constantFrom(...NAMES, 'gone'),
      hash: fc.constantFrom(undefined, 'h1', 'h2'),
      old: fc.boolean(),
      state: fc.constantFrom(...STATES),
      networks: fc.subarray(['1_default', '1_stale', 'supervisor0']),
      volumes: fc.subarray(['1_data', '1_stale']),
      createdAt: fc.nat(OPTIONS.now),
      badName: fc.boolean(),
    }),
    { maxLength: 8 },
  )
  fc.assert(
    fc.property(arbitraryMess, arbitraryApp(1), arbitraryOptions, (mess, wanted, options) => {
      const machine = new Machine()
      const desired = { apps: [wanted] }
      machine.networks = ['1_default', '1_stale'].map((name) => {
        return { id: name, name, appId: 1, hash: undefined }
      })
      machine.volumes = ['1_data', '1_stale'].map((name) => ({ name, appId: 1, hash: undefined }))
      machine.supervisorNetwork = 'wrong'
      for (const [index, { old, badName, ...draft }] of mess.entries()) {
        const plain = badName ? `strange${index}` : `${draft.serviceName}_${index}_7_old`
        machine.add(service(draft.serviceName), {
          ...draft,
          madeFrom: undefined,
          name: old ? `old_${plain}` : plain,
          startedAt: draft.state === 'created' ? undefined : draft.createdAt,
        })
      }
      watch(
        machine,
        () => desired,
        () => false,
      )
      assert.deepEqual(machine.settle(desired, options), [])
      checkReached(machine, desired)
      assert.ok(
        machine.volumes.some(({ name }) => name === '1_stale'),
        'no volume is lost',
      )
    }),
    { numRuns: RUNS, includeErrorInReport: true },
  )
})

test('a round that is cut off after any step goes on where it was', () => {
  fc.assert(
    fc.property(
      arbitraryDesired,
      arbitraryDesired,
      arbitraryOptions,
      fc.infiniteStream(fc.nat(4)),
      (first, second, options, cuts) => {
        const machine = new Machine()
        machine.settle(first, options)
        let now = second
        watch(
          machine,
          () => now,
          () => options.keepVolumes !== true,
        )
        now = second
        for (let round = 0; round < 30; round++) {
          const { shared, apps } = machine.plan(second, options)
          const [cut = 0] = cuts.take(1)
          const some = [...apps].map(([id, { steps, waits }]) => {
            return [id, { steps: steps.slice(0, cut), waits }] as const
          })
          machine.doAll({ shared, apps: new Map(some) }, second)
          machine.now += 1000
        }
        assert.deepEqual(machine.settle(second, options), [])
        checkReached(machine, second)
      },
    ),
    { numRuns: RUNS, includeErrorInReport: true },
  )
})

test('on trial with new containers that fail: one of both releases runs, and it ends', () => {
  const behaviours = fc.record({
    state: fc.constantFrom<ContainerState>('running', 'restarting', 'exited'),
    health: fc.constantFrom('none' as const, 'starting' as const, 'healthy' as const),
  })
  const drafts = fc.array(
    fc.record({
      name: fc.constantFrom(...NAMES),
      strategy: fc.constantFrom(...STRATEGIES),
      handoverTimeoutMs: fc.constantFrom(1, 10_000, 100_000),
      behaviour: behaviours,
      signals: fc.boolean(),
    }),
    { minLength: 1, maxLength: 4 },
  )
  const trial = { stableMs: 5000, timeoutMs: 30_000 }
  fc.assert(
    fc.property(drafts, (list) => {
      const byName = new Map(list.map((draft) => [draft.name, draft]))
      const release = (commit: string): Desired => {
        const services = [...byName.values()].map(({ name, strategy, handoverTimeoutMs }) =>
          service(name, {
            strategy,
            handoverTimeoutMs,
            hash: `${name} ${commit}`,
            name: `${name}_1_1_${commit}`,
          }),
        )
        return { apps: [app(services, { commit })] }
      }
      const machine = new Machine()
      let now = release('c1')
      watch(
        machine,
        () => now,
        () => false,
      )
      machine.settle(now, { trial })
      for (const { name, behaviour } of byName.values()) {
        machine.behaviour.set(`${name} c2`, behaviour)
      }
      now = release('c2')
      const before = machine.before
      machine.before = (step, appId) => {
        before(step, appId)
        if (step.kind === 'start' && byName.get(step.serviceName)?.signals) {
          machine.handoverFiles.add(`${appId}/${step.serviceName}`)
        }
      }
      const waits = machine.settle(now, { trial })
      assert.ok(waits.every(({ kind }) => kind === 'failed-update'))
      for (const { name, strategy } of byName.values()) {
        const [box, ...others] = machine.boxes.filter((one) => one.serviceName === name)
        assert.deepEqual(others, [])
        const failed = waits.some((wait) => wait.serviceName === name)
        assert.equal(box?.hash, `${name} ${failed ? 'c1' : 'c2'}`)
        assert.equal(box?.name, `${name}_1_1_${failed ? 'c1' : 'c2'}`)
        if (failed) {
          assert.equal(box?.state, 'running')
          assert.ok(!strategy.endsWith('then-download'), 'there was nothing to go back to')
        }
      }
      assert.equal(machine.commits.get(1), waits.length > 0 ? 'c1' : 'c2')
      assert.equal(machine.plan(now, { trial }).apps.get(1)?.steps.length, 0)
    }),
    { numRuns: RUNS, includeErrorInReport: true },
  )
})
