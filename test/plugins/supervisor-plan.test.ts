import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PlanOptions } from '../../plugins/supervisor/plan/options.ts'
import { isDone } from '../../plugins/supervisor/plan/plan.ts'
import { needsLock, type Step } from '../../plugins/supervisor/plan/steps.ts'
import {
  app,
  type Desired,
  type DesiredService,
  Machine,
  service,
  stepsOf,
  waitsOf,
} from './supervisor-plan-machine.ts'

const one = (...services: DesiredService[]): Desired => ({ apps: [app(services)] })
const TRIAL: Partial<PlanOptions> = { trial: { stableMs: 5000, timeoutMs: 30_000 } }

/** A machine on which a target was reached. */
function reached(desired: Desired, options: Partial<PlanOptions> = {}): Machine {
  const machine = new Machine()
  assert.deepEqual(machine.settle(desired, options), [])
  machine.log.length = 0
  return machine
}

/** Rounds until something other than these is to be done. */
function through(machine: Machine, desired: Desired, kinds: readonly string[], options = {}): void {
  for (let round = 0; round < 20; round++) {
    const next = machine.plan(desired, options)
    const steps = [...next.apps.values()].flatMap(({ steps: some }) => some)
    if (steps.length === 0 || !steps.every(({ kind }) => kinds.includes(kind))) return
    machine.doAll(next, desired)
  }
}

test('an empty machine: images and networks first, then containers, then their start, then done', () => {
  const desired = one(service('web', { volumes: ['1_data'] }))
  const [first] = desired.apps
  const wanted = {
    apps: [{ ...first, volumes: [{ shortName: 'data', name: '1_data', hash: 'v' }] }],
  } as Desired
  const machine = new Machine()
  const rounds: string[][] = []
  for (let round = 0; round < 5; round++) {
    const next = machine.plan(wanted)
    rounds.push(stepsOf(next))
    machine.doAll(next, wanted)
  }
  assert.deepEqual(rounds, [
    ['create-network 1_default', 'create-volume 1_data', 'pull web'],
    ['create web'],
    ['start web'],
    ['note-commit'],
    [],
  ])
  assert.ok(isDone(machine.plan(wanted)))
})

test('a new release with the same configuration only renames', () => {
  const machine = reached(one(service('web')))
  const id = machine.box('web')?.id
  const next = one(service('web', { name: 'web_2_2_c2' }))
  assert.deepEqual(stepsOf(machine.plan(next)), ['rename web'])
  machine.settle(next)
  assert.deepEqual(machine.log, ['rename web'])
  assert.equal(machine.box('web')?.id, id)
  assert.equal(machine.box('web')?.state, 'running')
})

test('download-then-kill waits for every image of the release', () => {
  const machine = reached(one(service('web'), service('db')))
  const next = one(
    service('web', { hash: 'h2' }),
    service('db', { hash: 'h2', image: 'registry.test/db:2' }),
  )
  assert.deepEqual(stepsOf(machine.plan(next)), ['pull db'])
  assert.deepEqual(waitsOf(machine.plan(next)), ['image'])
  machine.failedPulls.set('registry.test/db:2', { retryAt: machine.now + 500 })
  const waiting = machine.plan(next).apps.get(1)
  assert.deepEqual(waiting?.steps, [])
  const retry = waiting?.waits.find(({ kind }) => kind === 'pull-retry')
  assert.equal(retry?.until, machine.now + 500)
  machine.failedPulls.clear()
  machine.downloads.add('registry.test/db:2')
  assert.deepEqual(stepsOf(machine.plan(next)), [])
  machine.downloads.clear()
  machine.settle(next)
  assert.deepEqual(machine.log.slice(0, 3), ['pull db', 'stop web', 'stop db'])
})

test('a service that the release no longer has stays until the images of the new one are here', () => {
  const machine = reached(one(service('web'), service('gone')))
  const next = one(service('web', { hash: 'h2', image: 'registry.test/web:2' }))
  assert.deepEqual(stepsOf(machine.plan(next)), ['pull web'])
  machine.settle(next)
  assert.deepEqual(machine.log.slice(0, 3), ['pull web', 'stop gone', 'stop web'])
  assert.equal(machine.box('gone'), undefined)
})

test('kill-then-download stops and removes before it pulls', () => {
  const machine = reached(one(service('web', { strategy: 'kill-then-download' })))
  const next = one(
    service('web', { strategy: 'kill-then-download', hash: 'h2', image: 'registry.test/web:2' }),
  )
  machine.settle(next)
  const order = machine.log.filter((line) => !line.startsWith('remove-image'))
  assert.deepEqual(order, ['stop web', 'remove web', 'pull web', 'create web', 'start web'])
})

test('delete-then-download makes room on the disk before it pulls', () => {
  const machine = reached(one(service('web', { strategy: 'delete-then-download' })))
  const next = one(
    service('web', { strategy: 'delete-then-download', hash: 'h2', image: 'registry.test/web:2' }),
  )
  machine.settle(next)
  assert.deepEqual(machine.log.slice(0, 4), [
    'stop web',
    'remove web',
    'remove-image registry.test/web:1',
    'pull web',
  ])
  // An image that cannot be removed does not hold up the pull.
  const stuck = reached(one(service('web', { strategy: 'delete-then-download' })))
  stuck.boxes = []
  const current = { ...stuck.current(), failedRemovals: new Set(['registry.test/web:1']) }
  stuck.current = () => current
  assert.deepEqual(stepsOf(stuck.plan(next)), ['pull web'])
  assert.deepEqual(stepsOf(stuck.plan(next), 0), [])
})

const handover = (changes: Partial<DesiredService> = {}) =>
  service('web', { strategy: 'hand-over', handoverTimeoutMs: 20_000, ...changes })

function handingOver(options: Partial<PlanOptions> = {}) {
  const machine = reached(one(handover()), options)
  const next = one(handover({ hash: 'h2', name: 'web_2_2_c2' }))
  machine.handoverFiles.add('1/web')
  through(machine, next, ['pull', 'begin-handover', 'create', 'start'], options)
  return { machine, next }
}

test('a hand-over waits: for the file, for health, or for the time-out, and both run meanwhile', () => {
  const { machine, next } = handingOver()
  assert.deepEqual(machine.log, ['begin-handover web', 'create web', 'start web'])
  assert.deepEqual(
    machine.boxes.map(({ name, state }) => `${name} ${state}`),
    ['old_web_1_1_c1 running', 'web_2_2_c2 running'],
  )
  // What an earlier hand-over left was removed at the begin.
  assert.deepEqual(stepsOf(machine.plan(next)), [])
  const [wait] = machine.plan(next).apps.get(1)?.waits ?? []
  assert.equal(wait?.kind, 'handover')
  assert.equal(wait?.until, machine.now + 20_000)
  machine.now += 19_999
  assert.deepEqual(stepsOf(machine.plan(next)), [])
  const finish = () =>
    machine
      .plan(next)
      .apps.get(1)
      ?.steps.map((step) => (step.kind === 'finish-handover' ? step.because : step.kind))
  machine.handoverFiles.add('1/web')
  assert.deepEqual(finish(), ['file'])
  machine.handoverFiles.clear()
  const [, fresh] = machine.boxes
  assert.ok(fresh)
  fresh.health = 'healthy'
  assert.deepEqual(finish(), ['healthy'])
  fresh.health = 'starting'
  assert.deepEqual(finish(), [])
  machine.now += 1
  assert.deepEqual(finish(), ['timeout'])
  machine.settle(next)
  assert.deepEqual(
    machine.boxes.map(({ name }) => name),
    ['web_2_2_c2'],
  )
})

test('a hand-over ends at once when the old container is gone or the service shall not run', () => {
  const { machine } = handingOver()
  const [old] = machine.boxes
  assert.ok(old)
  old.state = 'exited'
  const next = one(handover({ hash: 'h2', name: 'web_2_2_c2' }))
  assert.deepEqual(stepsOf(machine.plan(next)), ['finish-handover web'])
  old.state = 'running'
  const stopped = one(handover({ hash: 'h2', name: 'web_2_2_c2', running: false }))
  assert.deepEqual(stepsOf(machine.plan(stopped)), ['finish-handover web'])
})

test('a hand-over is a plain replacement when a network has to be made anew', () => {
  const machine = reached(one(handover()))
  const networks = [{ shortName: 'default', name: '1_default', hash: 'n2' }]
  const next = { apps: [app([handover({ hash: 'h2' })], { networks })] }
  machine.settle(next)
  assert.deepEqual(machine.log, [
    'stop web',
    'remove web',
    'remove-network 1_default',
    'create-network 1_default',
    'create web',
    'start web',
  ])
})

test('back to the old release in the middle of a hand-over: the old container stays', () => {
  const { machine } = handingOver()
  const before = machine.boxes[0]?.id
  const back = one(handover())
  assert.deepEqual(stepsOf(machine.plan(back)), ['abort-handover web'])
  machine.settle(back)
  assert.equal(machine.box('web')?.id, before)
  assert.equal(machine.boxes.length, 1)
  assert.deepEqual([...machine.failedUpdates], [], 'nothing failed')
})

test('a third release in the middle of a hand-over replaces the second, not the first', () => {
  const { machine } = handingOver()
  const before = machine.boxes[0]?.id
  const third = one(handover({ hash: 'h3', name: 'web_3_3_c3' }))
  assert.deepEqual(stepsOf(machine.plan(third)), ['stop web'])
  through(machine, third, ['stop', 'remove', 'create', 'start'])
  assert.deepEqual(
    machine.boxes.map(({ id, hash }) => [id === before, hash]),
    [
      [true, 'h1'],
      [false, 'h3'],
    ],
  )
  machine.settle(third)
  assert.equal(machine.boxes.length, 1)
})

test('on trial: the old container is kept, stopped, until the new one ran long enough', () => {
  const machine = reached(one(service('web')), TRIAL)
  const next = one(service('web', { hash: 'h2' }))
  through(machine, next, ['begin-handover', 'create', 'start'], TRIAL)
  // Both releases have one name here: the old container made room.
  assert.deepEqual(
    machine.boxes.map(({ name, state }) => `${name} ${state}`),
    ['old_web_1_1_c1 exited', 'web_1_1_c1 running'],
  )
  const [wait] = machine.plan(next, TRIAL).apps.get(1)?.waits ?? []
  assert.equal(wait?.kind, 'trial')
  assert.equal(wait?.until, machine.now + 5000)
  assert.equal(machine.settle(next, TRIAL).length, 0)
  assert.deepEqual(machine.log.at(-1), 'finish-handover web')
  assert.equal(machine.box('web')?.hash, 'h2')
})

for (const [what, behaviour] of [
  ['exits with an error', { state: 'exited' }],
  ['is unhealthy', { state: 'running', health: 'unhealthy' }],
  ['never gets healthy', { state: 'running', health: 'starting' }],
  ['keeps ending', { state: 'restarting' }],
] as const) {
  for (const strategy of ['download-then-kill', 'hand-over'] as const) {
    test(`on trial by ${strategy}: a new container that ${what} brings the old one back, once`, () => {
      const machine = reached(one(service('web', { strategy })), TRIAL)
      const before = machine.box('web')?.id
      machine.behaviour.set('h2', behaviour)
      const next = one(service('web', { strategy, hash: 'h2', name: 'web_2_2_c2' }))
      const waits = machine.settle(next, TRIAL)
      assert.deepEqual(
        waits.map(({ kind }) => kind),
        ['failed-update'],
      )
      const { id, name, state } = machine.box('web') ?? {}
      assert.deepEqual([id, name, state], [before, 'web_1_1_c1', 'running'])
      assert.equal(machine.boxes.length, 1)
      assert.equal(machine.failedUpdates.get('1/web'), 'h2')
      assert.equal(machine.commits.get(1), 'c1')
      // Another configuration gets its chance, and so does the same one when a restart is asked for.
      const third = one(service('web', { strategy, hash: 'h3', name: 'web_3_3_c3' }))
      assert.deepEqual(stepsOf(machine.plan(third, TRIAL)), ['begin-handover web'])
      const again = { ...TRIAL, recreate: new Set([before ?? '']) }
      assert.deepEqual(stepsOf(machine.plan(next, again)), ['stop web'])
    })
  }
}

test('a service that was rolled back is stopped and started like any other', () => {
  const machine = reached(one(service('web')), TRIAL)
  machine.behaviour.set('h2', { state: 'exited' })
  const failed = (running: boolean) => one(service('web', { hash: 'h2', running }))
  machine.settle(failed(true), TRIAL)
  machine.log.length = 0
  machine.settle(failed(false), TRIAL)
  machine.settle(failed(true), TRIAL)
  assert.deepEqual(machine.log, ['stop web', 'start web'])
  const web = machine.box('web')
  assert.ok(web)
  assert.deepEqual([web.hash, web.state], ['h1', 'running'])
  machine.halted.set('1/web', { by: 'user', hash: 'h1' })
  machine.settle(failed(true), TRIAL)
  assert.equal(web.state, 'exited')
})

test('a failure that was recorded but not undone is undone after a restart', () => {
  const machine = reached(one(service('web')), TRIAL)
  machine.behaviour.set('h2', { state: 'exited' })
  const next = one(service('web', { hash: 'h2', name: 'web_2_2_c2' }))
  through(machine, next, ['begin-handover', 'create', 'start'], TRIAL)
  machine.failedUpdates.set('1/web', 'h2')
  machine.boxes = machine.boxes.filter(({ hash }) => hash === 'h1')
  const steps = machine.plan(next, TRIAL).apps.get(1)?.steps
  assert.deepEqual(
    steps?.map((step) => step.kind === 'abort-handover' && [step.newId, step.to]),
    [[undefined, 'web_1_1_c1']],
  )
})

test('a task that ends with status 0 passed its trial', () => {
  const machine = reached(one(service('job')), TRIAL)
  const next = one(service('job', { hash: 'h2' }))
  through(machine, next, ['begin-handover', 'create', 'start'], TRIAL)
  const job = machine.box('job')
  assert.ok(job)
  Object.assign(job, { state: 'exited', exitCode: 0 })
  assert.deepEqual(stepsOf(machine.plan(next, TRIAL)), ['finish-handover job'])
})

test('running false stops, and running true starts again', () => {
  const machine = reached(one(service('web')))
  machine.settle(one(service('web', { running: false })))
  assert.deepEqual(machine.log, ['stop web'])
  assert.equal(machine.halted.get('1/web')?.by, 'target')
  machine.settle(one(service('web')))
  assert.deepEqual(machine.log, ['stop web', 'start web'])
  assert.deepEqual([...machine.halted], [])
})

test('a container that ended by itself is left to the engine', () => {
  const machine = reached(one(service('web')))
  const web = machine.box('web')
  assert.ok(web)
  Object.assign(web, { state: 'exited', exitCode: 1 })
  assert.ok(isDone(machine.plan(one(service('web')))))
  web.error = 'userland proxy: listen tcp4 10.0.0.1:80: bind: cannot assign requested address'
  assert.deepEqual(stepsOf(machine.plan(one(service('web')))), ['start web'])
})

test('stopped by the user: it stays so through new releases, until its configuration changes', () => {
  const machine = reached(one(service('web')))
  const web = machine.box('web')
  assert.ok(web)
  web.state = 'exited'
  machine.halted.set('1/web', { by: 'user', hash: 'h1' })
  assert.ok(isDone(machine.plan(one(service('web')))))
  machine.settle(one(service('web', { name: 'web_2_2_c2' })))
  assert.equal(machine.box('web')?.state, 'exited')
  // The machine was started anew, and the engine's own policy with it.
  web.state = 'running'
  const [stop] = machine.plan(one(service('web', { name: 'web_2_2_c2' }))).apps.get(1)?.steps ?? []
  assert.equal(stop?.kind === 'stop' && stop.why.kind, 'halted')
  web.state = 'exited'
  machine.settle(one(service('web', { hash: 'h2' })))
  assert.equal(machine.box('web')?.state, 'running')
  assert.deepEqual([...machine.halted], [])
})

test('services start after what they depend on, and stop before it', () => {
  const on = (serviceName: string) => [{ serviceName, condition: 'started' as const }]
  const services = (hash: string) => [
    service('api', { hash, dependsOn: on('db') }),
    service('web', { hash, dependsOn: on('api') }),
    service('db', { hash }),
  ]
  const machine = new Machine()
  machine.settle(one(...services('h1')))
  const starts = machine.log.filter((line) => line.startsWith('start '))
  assert.deepEqual(starts, ['start db', 'start api', 'start web'])
  machine.log.length = 0
  machine.settle(one(...services('h2')))
  const stops = machine.log.filter((line) => line.startsWith('stop '))
  assert.deepEqual(stops, ['stop web', 'stop api', 'stop db'])
})

test('conditions: healthy and completed are waited for', () => {
  const desired = one(
    service('db'),
    service('setup', { hash: 'task' }),
    service('web', {
      dependsOn: [
        { serviceName: 'db', condition: 'healthy' },
        { serviceName: 'setup', condition: 'completed' },
      ],
    }),
  )
  const machine = new Machine()
  machine.behaviour.set('h1', { state: 'running', health: 'starting' })
  machine.settle(desired)
  assert.equal(machine.box('web')?.state, 'created')
  assert.deepEqual(waitsOf(machine.plan(desired)), ['dependency'])
  const db = machine.box('db')
  const setup = machine.box('setup')
  assert.ok(db && setup)
  db.health = 'healthy'
  Object.assign(setup, { state: 'exited', exitCode: 1 })
  assert.deepEqual(waitsOf(machine.plan(desired)), ['dependency'])
  setup.exitCode = 0
  assert.deepEqual(stepsOf(machine.plan(desired)), ['start web'])
})

test('a service that shares the network of another one follows its container', () => {
  const side = service('side', {
    networks: [],
    networkOf: 'web',
    dependsOn: [{ serviceName: 'web', condition: 'started' }],
  })
  const machine = reached(one(side, service('web')))
  assert.equal(machine.box('side')?.networkOf, machine.box('web')?.id)
  machine.settle(one(side, service('web', { hash: 'h2' })))
  assert.equal(machine.box('side')?.networkOf, machine.box('web')?.id)
  const [why] = ['side'].map(() => machine.log.filter((line) => line === 'create side').length)
  assert.equal(why, 1)
})

test('why a container is replaced is named, without values', () => {
  const fields = (level: string, image: string) => ({ image, 'environment.LOG_LEVEL': level })
  const machine = reached(one(service('api', { fields: fields('aa', 'bb') })))
  const next = one(service('api', { hash: 'h2', fields: fields('cc', 'dd') }))
  const [step] = machine.plan(next).apps.get(1)?.steps ?? []
  assert.deepEqual(step?.kind === 'stop' && step.why, {
    kind: 'changed',
    fields: ['environment.LOG_LEVEL', 'image'],
  })
})

test('the same reference naming another image is a change', () => {
  const machine = reached(one(service('web')))
  const [image] = machine.images
  assert.ok(image)
  machine.images = [
    { ...image, names: [], owned: [] },
    { ...image, id: 'sha256:new' },
  ]
  const [step] = machine.plan(one(service('web'))).apps.get(1)?.steps ?? []
  assert.deepEqual(step?.kind === 'stop' && step.why, { kind: 'changed', fields: ['image'] })
  machine.settle(one(service('web')))
  assert.equal(machine.box('web')?.madeFrom, 'sha256:new')
})

test('images are counted: what a container uses, the target names, or others own stays', () => {
  const shared = { image: 'registry.test/same:1' }
  const machine = reached(one(service('a', shared), service('b', shared)))
  machine.images.push(
    { id: 'sha256:x', names: ['stranger:1'], owned: [], inUse: false },
    { id: 'sha256:y', names: ['ours:1'], owned: ['ours:1'], inUse: true },
    { id: 'sha256:z', names: ['ours:2', 'theirs:2'], owned: ['ours:2'], inUse: false },
  )
  const left = one(service('a', shared))
  machine.settle(left)
  assert.deepEqual(
    machine.log.filter((line) => line.startsWith('remove-image')),
    ['remove-image ours:2'],
  )
  assert.deepEqual(machine.images.flatMap(({ names }) => names).sort(), [
    'ours:1',
    'registry.test/same:1',
    'stranger:1',
    'theirs:2',
  ])
  machine.settle({ apps: [] }, { keepImages: true })
  assert.ok(machine.images.some(({ names }) => names.includes('registry.test/same:1')))
  machine.settle({ apps: [] })
  assert.ok(!machine.images.some(({ names }) => names.includes('registry.test/same:1')))
})

test('an app that goes away takes its volumes along, unless they are to be kept', () => {
  const volumes = [{ shortName: 'data', name: '1_data', hash: 'v' }]
  const desired = { apps: [app([service('web', { volumes: ['1_data'] })], { volumes })] }
  const kept = reached(desired)
  assert.deepEqual(kept.settle({ apps: [] }, { keepVolumes: true }), [])
  assert.deepEqual(kept.volumes.length, 1)
  assert.deepEqual(kept.boxes, [])
  assert.deepEqual(kept.networks, [])
  assert.deepEqual([...kept.commits], [])
  const machine = reached(desired)
  assert.deepEqual(machine.settle({ apps: [] }), [])
  assert.deepEqual(machine.volumes, [])
})

test('a volume keeps its data when a release forgets it or asks for another driver', () => {
  const withVolume = (hash: string) => ({
    apps: [
      app([service('web', { volumes: ['1_data'] })], {
        volumes: [{ shortName: 'data', name: '1_data', hash }],
      }),
    ],
  })
  const machine = reached(withVolume('v1'))
  machine.settle(one(service('web', { hash: 'h2' })))
  assert.equal(machine.volumes.length, 1)
  const waits = machine.settle(withVolume('v2'))
  assert.deepEqual(
    waits.map(({ kind }) => kind),
    ['volume-changed'],
  )
  assert.equal(machine.volumes[0]?.hash, 'v1')
  machine.log.length = 0
  assert.deepEqual(machine.settle(withVolume('v2'), { replaceVolumes: true }), [])
  assert.deepEqual(machine.log, [
    'stop web',
    'remove web',
    'remove-volume 1_data',
    'create-volume 1_data',
    'create web',
    'start web',
  ])
})

test('a purge: containers and volumes go, then everything is made anew', () => {
  const volumes = [{ shortName: 'data', name: '1_data', hash: 'v' }]
  const whole = app([service('web', { volumes: ['1_data'] })], { volumes })
  const machine = reached({ apps: [whole] })
  const emptied = { apps: [{ ...whole, services: [], volumes: [] }] }
  machine.settle(emptied, { clearVolumesOf: new Set([1]), keepImages: true })
  assert.deepEqual([machine.boxes, machine.volumes], [[], []])
  machine.settle({ apps: [whole] })
  assert.equal(machine.box('web')?.state, 'running')
})

test('a restart replaces exactly the named containers', () => {
  const desired = one(service('web'), service('db'))
  const machine = reached(desired)
  const recreate = new Set([machine.box('web')?.id ?? ''])
  assert.deepEqual(machine.settle(desired, { recreate }), [])
  assert.deepEqual(machine.log, ['stop web', 'remove web', 'create web', 'start web'])
})

test('a name that a stranger has is not taken from him; his volume is used and kept', () => {
  const volumes = [{ shortName: 'data', name: '1_data', hash: 'v' }]
  const desired = { apps: [app([service('web', { volumes: ['1_data'] })], { volumes })] }
  const machine = new Machine()
  machine.taken.volumes.add('1_data')
  machine.taken.containers.add('web_1_1_c1')
  const waits = machine.settle(desired)
  assert.deepEqual(
    waits.map(({ kind }) => kind),
    ['name-taken'],
  )
  assert.deepEqual(machine.boxes, [])
  machine.taken.containers.clear()
  assert.deepEqual(machine.settle(desired), [])
  assert.deepEqual(machine.volumes, [])
  const other = new Machine()
  other.taken.networks.add('1_default')
  const blocked = other.settle(desired)
  assert.deepEqual([...new Set(blocked.map(({ kind }) => kind))].sort(), ['name-taken', 'order'])
})

test('one app does not wait for the other', () => {
  const two = (hash: string, image: string): Desired => ({
    apps: [
      app([service('web', { hash, image })]),
      app([service('web', { hash, name: 'web_9_9_c1', networks: ['2_default'] })], {
        appId: 2,
        networks: [{ shortName: 'default', name: '2_default', hash: 'n1' }],
      }),
    ],
  })
  const machine = reached(two('h1', 'registry.test/web:1'))
  machine.failedPulls.set('registry.test/broken:1', { retryAt: machine.now + 1000 })
  const next = machine.plan(two('h2', 'registry.test/broken:1'))
  assert.deepEqual(stepsOf(next, 1), [])
  assert.deepEqual(waitsOf(next, 1), ['image', 'pull-retry'])
  assert.deepEqual(stepsOf(next, 2), ['stop web'])
})

test('a rejected app is left untouched, and so is all it has', () => {
  const machine = reached(one(service('web')))
  const rejected = { apps: [app([service('other')], { rejected: 'not for this device' })] }
  const next = machine.plan(rejected, { keepImages: true })
  assert.deepEqual(stepsOf(next), [])
  assert.deepEqual(waitsOf(next), ['rejected'])
})

test('the supervisor network: made when it is needed, made anew when it is wrong', () => {
  const desired = one(service('web', { usesSupervisorNetwork: true }))
  const machine = new Machine()
  machine.settle(one(service('plain')))
  assert.equal(machine.supervisorNetwork, 'absent')
  machine.settle(desired)
  machine.log.length = 0
  machine.supervisorNetwork = 'wrong'
  assert.deepEqual(machine.settle(desired), [])
  assert.deepEqual(machine.log, [
    'stop web',
    'remove web',
    'remove-supervisor-network',
    'create-supervisor-network',
    'create web',
    'start web',
  ])
})

test('a service that requires a reboot is started by the boot after its creation', () => {
  const desired = one(service('web', { requiresReboot: true }))
  const machine = new Machine()
  const waits = machine.settle(desired)
  assert.deepEqual(
    waits.map(({ kind }) => kind),
    ['reboot'],
  )
  assert.equal(machine.box('web')?.state, 'created')
  machine.settle(desired, { bootTime: machine.now + 1 })
  assert.equal(machine.box('web')?.state, 'running')
})

test('a container that the engine is removing or could not remove', () => {
  const machine = reached(one(service('web')))
  const web = machine.box('web')
  assert.ok(web)
  web.state = 'removing'
  assert.deepEqual(stepsOf(machine.plan(one(service('web')))), [])
  assert.deepEqual(waitsOf(machine.plan(one(service('web')))), ['removing'])
  web.state = 'dead'
  assert.deepEqual(machine.settle(one(service('web'))), [])
  assert.deepEqual(machine.log, ['remove web', 'create web', 'start web'])
})

test('two containers of one service: one is left', () => {
  const machine = reached(one(service('web')))
  machine.add(service('web'), { name: 'web_9_9_zz', hash: 'h9', state: 'running' })
  const next = machine.plan(one(service('web')))
  assert.deepEqual(stepsOf(next), ['stop web'])
  assert.deepEqual(machine.settle(one(service('web'))), [])
  assert.deepEqual(
    machine.boxes.map(({ hash }) => hash),
    ['h1'],
  )
})

test('a container of another supervisor is replaced', () => {
  const machine = reached(one(service('web')))
  const web = machine.box('web')
  assert.ok(web)
  Object.assign(web, { hash: undefined, fields: undefined, madeFrom: undefined })
  const [step] = machine.plan(one(service('web'))).apps.get(1)?.steps ?? []
  assert.deepEqual(step?.kind === 'stop' && step.why, {
    kind: 'changed',
    fields: ['configuration'],
  })
})

test('locks are needed to change containers, not to pull or to hand over', () => {
  const common = { serviceName: 'web', containerId: 'x' }
  const why = { kind: 'recreate' } as const
  const created = { kind: 'create', ...common, name: 'a', hash: 'h', networkContainer: undefined }
  const steps: Step[] = [
    { kind: 'stop', ...common, why },
    { kind: 'remove', ...common, why },
    { kind: 'rename', ...common, from: 'a', to: 'b' },
    { kind: 'begin-handover', ...common, from: 'a', to: 'old_a', stop: true, why },
    { kind: 'begin-handover', ...common, from: 'a', to: 'old_a', stop: false, why },
    { ...created, kind: 'create', handover: false },
    { ...created, kind: 'create', handover: true },
    { kind: 'start', ...common, endsHalt: false },
    { kind: 'pull', image: 'a', serviceName: 'web' },
    { kind: 'finish-handover', ...common, because: 'file' },
  ]
  const locked = steps.filter(needsLock)
  assert.deepEqual(locked, [...steps.slice(0, 4), steps[5]])
})
