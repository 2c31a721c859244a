import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { SupervisorOptions } from '../../plugins/supervisor/supervisor.ts'
import { err, FakeEngine } from './supervisor-apply-fake.ts'
import {
  APP,
  applied,
  containerOf,
  type Device,
  device,
  serviceOf,
  target,
  until,
} from './supervisor-apply-fixtures.ts'

async function begin(
  t: TestContext,
  changes: Partial<SupervisorOptions> = {},
  fake = new FakeEngine(),
  place: Device = device(),
) {
  const supervisor = place.supervisor(fake.engine(), changes)
  t.after(() => supervisor.stop())
  await supervisor.start()
  await until(supervisor, () => supervisor.notReady() === undefined, 'the connection')
  return { supervisor, fake, place }
}

const said = ({ messages }: Device, part: string) => messages().some((one) => one.includes(part))

test('one list per kind for a hundred services, none for an update of nothing, none when idle', async (t) => {
  const { supervisor, fake } = await begin(t)
  const names = Array.from({ length: 100 }, (_, index) => `s${index}`)
  const services = Object.fromEntries(names.map((name) => [name, {}]))
  await supervisor.setTarget(target(services))
  await applied(supervisor)
  const lists = fake.calls.filter((call) => call.includes('.list'))
  assert.deepEqual(lists.sort(), [
    'containers.list',
    'images.list',
    'networks.list',
    'volumes.list',
  ])
  assert.equal(fake.boxes.size, 100)
  fake.calls.length = 0
  await supervisor.update()
  await supervisor.setTarget(target(services))
  await applied(supervisor)
  await new Promise((turn) => setImmediate(turn))
  assert.deepEqual(fake.calls, [])
})

test('a restart of one service is four writes and at most six reads', async (t) => {
  const { supervisor, fake } = await begin(t)
  await supervisor.setTarget(target({ api: {}, db: {} }))
  await applied(supervisor)
  fake.calls.length = 0
  await supervisor.restartService({ appId: APP, serviceName: 'api' })
  assert.deepEqual(
    fake.writes.map((call) => call.split(' ')[0]),
    ['containers.stop', 'containers.remove', 'containers.create', 'containers.start'],
  )
  assert.ok(fake.reads.length <= 6, fake.reads.join(', '))
})

test('a lock of one app holds up that app alone, and force removes it', async (t) => {
  const { supervisor, fake, place } = await begin(t)
  const two = (value: string, commit: string) => {
    const one = target({ api: { environment: { A: value } } }, { commit }) as Local
    const other = target({ web: { environment: { A: value } } }, { commit, appId: 202 }) as Local
    return { local: { name: 'box', apps: { ...one.local.apps, ...other.local.apps } } }
  }
  await supervisor.setTarget(two('1', 'c1'))
  await Promise.all([applied(supervisor), applied(supervisor, 202)])
  const lock = join(place.lockRoot, String(APP), 'api', 'updates.lock')
  writeFileSync(lock, '')
  const { id } = containerOf(supervisor, 'api')
  await supervisor.setTarget(two('2', 'c2'))
  await applied(supervisor, 202)
  await until(supervisor, () => said(place, 'Updates are locked, retrying'), 'the refusal')
  assert.equal(containerOf(supervisor, 'api').id, id)
  assert.equal(containerOf(supervisor, 'web', 202).env.A, '2')
  assert.equal(supervisor.status().updateFailed, true)
  assert.match(
    supervisor.app(APP)?.problem ?? '',
    /Lockfile exists for \{ appId: 101, service: api/,
  )
  await assert.rejects(supervisor.restartApp(APP), { status: 423, code: 'UPDATES_LOCKED' })
  await assert.rejects(supervisor.stopService({ appId: APP, serviceName: 'api' }), { status: 423 })
  assert.ok(fake.boxes.has(id))
  assert.equal(fake.boxes.get(id)?.state, 'running')
  await supervisor.update({ force: true })
  await applied(supervisor)
  assert.equal(containerOf(supervisor, 'api').env.A, '2')
  assert.equal(supervisor.status().updateFailed, false)
})

interface Local {
  readonly local: { readonly apps: object }
}

test('a pull that fails is tried again; a new target ends one that goes on', async (t) => {
  const { supervisor, fake, place } = await begin(t)
  let failures = 1
  fake.pulling = async () => {
    if (failures-- > 0) throw err('NOT_FOUND', 'no such image')
  }
  await supervisor.setTarget(target({ api: { image: 'registry.test/api:1' } }))
  await until(supervisor, () => supervisor.app(APP)?.updateStatus === 'aborted', 'the failure')
  assert.equal(supervisor.status().updateFailed, true)
  // As somebody who knows that it is there now.
  await supervisor.update()
  await applied(supervisor)
  assert.equal(supervisor.status().updateFailed, false)
  assert.ok(said(place, 'image registry.test/api:1 could not be pulled'))
  let aborted = false
  let begun = () => {}
  const pulling = new Promise<void>((resolve) => {
    begun = resolve
  })
  fake.pulling = (_, signal) =>
    new Promise((_, reject) => {
      begun()
      signal?.addEventListener('abort', () => {
        aborted = true
        reject(signal.reason)
      })
    })
  await supervisor.setTarget(target({ api: { image: 'registry.test/api:2' } }, { commit: 'c2' }))
  await until(supervisor, () => supervisor.app(APP)?.updateStatus === 'downloading', 'the pull')
  await pulling
  assert.equal(serviceOf(supervisor, 'api').status, 'Downloading')
  assert.equal(supervisor.status().overallDownloadProgress, 0)
  assert.deepEqual(
    supervisor.images().map(({ status, downloadProgress }) => [status, downloadProgress]),
    [['Downloading', 0]],
  )
  await supervisor.setTarget(target({ api: { image: 'registry.test/api:1' } }, { commit: 'c3' }))
  await applied(supervisor)
  assert.equal(aborted, true)
})

test('each registry gets its own credentials, and images go by digest where that is asked', async (t) => {
  const digest = `sha256:${'a'.repeat(64)}`
  const { supervisor, fake } = await begin(t, {
    requireDigest: true,
    credentialsOf: async (registry) =>
      registry === 'private.test:5000' ? { username: 'me', password: 'geheim' } : undefined,
  })
  const services = {
    api: { image: `private.test:5000/api@${digest}` },
    web: { image: `library/web@${digest}` },
  }
  await supervisor.setTarget(target(services))
  await applied(supervisor)
  assert.deepEqual(
    [...fake.credentials.values()],
    [{ username: 'me', password: 'geheim' }, undefined],
  )
  await assert.rejects(supervisor.setTarget(target({ api: { image: 'library/api:1' } })), {
    name: 'TargetError',
  })
  assert.equal(supervisor.app(APP)?.services.length, 2)
})

test('at most three pulls at a time', async (t) => {
  const { supervisor, fake } = await begin(t)
  let now = 0
  let most = 0
  fake.pulling = async () => {
    most = Math.max(most, ++now)
    await new Promise((turn) => setTimeout(turn, 5))
    now--
  }
  const names = Array.from({ length: 12 }, (_, index) => `s${index}`)
  const services = names.map((name) => [name, { image: `registry.test/${name}:1` }])
  await supervisor.setTarget(target(Object.fromEntries(services)))
  await applied(supervisor)
  assert.equal(most, 3)
})

test('an update killed before or after any call converges with no duplicate and no lost volume', async (t) => {
  const services = (value: string) => ({
    api: { environment: { A: value }, depends_on: ['db'], networks: ['default', 'back'] },
    db: { volumes: ['data:/data'], environment: { A: value } },
  })
  const parts = { volumes: { data: {} }, networks: { back: {} } }
  for (const moment of ['before', 'after'] as const) {
    for (let step = 0; ; step++) {
      const fake = new FakeEngine()
      const place = device()
      const foreign = fake.foreign('stranger')
      let left = step
      let died: () => void = () => {}
      const death = new Promise<void>((resolve) => {
        died = resolve
      })
      const first = place.supervisor(fake.engine())
      let dead = false
      // The process is gone: no call of it gets through, and no answer.
      const kill = (call: string) => {
        if (dead) throw err('UNREACHABLE')
        if (/\.(list|inspect|read)/.test(call) || left-- > 0) return
        dead = true
        died()
        throw err('UNREACHABLE')
      }
      if (moment === 'before') fake.before = kill
      else {
        fake.after = kill
        fake.before = () => {
          if (dead) throw err('UNREACHABLE')
        }
      }
      await first.start()
      let through = false
      const dropped = new AbortController()
      const whole = (async () => {
        await first.setTarget(target(services('1'), parts))
        await applied(first, APP, dropped.signal)
        await first.setTarget(target(services('2'), { ...parts, commit: 'c2', releaseId: 2 }))
        await applied(first, APP, dropped.signal)
        through = true
      })()
      await Promise.race([whole, death])
      whole.catch(() => {})
      dropped.abort()
      fake.before = () => {}
      fake.after = () => {}
      const volume = fake.vols.get('101_data')?.Mountpoint
      await first.stop()
      const second = place.supervisor(fake.engine())
      await second.start()
      await second.setTarget(target(services('2'), { ...parts, commit: 'c2', releaseId: 2 }))
      await applied(second)
      const names = [...fake.boxes.values()].map(({ name, state }) => `${name} ${state}`).sort()
      assert.deepEqual(
        names,
        ['api_1001_2_c2 running', 'db_1002_2_c2 running', 'stranger created'],
        `${moment} write ${step}`,
      )
      assert.ok(fake.boxes.has(foreign))
      assert.deepEqual([...(fake.box('api')?.networks ?? [])].sort(), ['101_back', '101_default'])
      assert.equal([...fake.nets.values()].filter(({ Name }) => Name !== 'bridge').length, 2)
      if (volume !== undefined) assert.equal(fake.vols.get('101_data')?.Mountpoint, volume)
      await second.stop()
      rmSync(place.folder, { recursive: true, force: true })
      if (through) break
      assert.ok(step < 60, 'it never gets through')
    }
  }
  t.diagnostic('every write')
})

test('a container that a step cannot do fails only its app, and is tried again with pauses', async (t) => {
  const { supervisor, fake, place } = await begin(t)
  let failures = 2
  fake.before = (call) => {
    if (call.startsWith('containers.create') && failures-- > 0) throw err('FAILED', 'no space')
  }
  await supervisor.setTarget(target({ api: {} }))
  await until(supervisor, () => supervisor.status().updateFailed, 'the failure')
  await applied(supervisor)
  const retries = place.messages().filter((one) => /could not be applied, retrying in/.test(one))
  assert.deepEqual(
    retries.map((one) => /retrying in (\d+)s: (.*)/.exec(one)?.slice(1)),
    [
      ['1', 'Cannot do it: no space'],
      ['2', 'Cannot do it: no space'],
    ],
  )
})

test('a restart that fails says so at once, and the target is reached all the same', async (t) => {
  const { supervisor, fake } = await begin(t)
  await supervisor.setTarget(target({ api: {} }))
  await applied(supervisor)
  let failures = 1
  fake.before = (call) => {
    if (call.startsWith('containers.create') && failures-- > 0) throw err('FAILED', 'no space')
  }
  await assert.rejects(supervisor.restartApp(APP), {
    name: 'SupervisorError',
    code: 'OPERATION_FAILED',
    status: 503,
    message: 'Cannot do it: no space',
  })
  await applied(supervisor)
  assert.equal(serviceOf(supervisor, 'api').status, 'Running')
})

test('what was stopped to be made anew runs again after the daemon was killed', async (t) => {
  let end = () => {}
  const killed = new Promise<void>((resolve) => {
    end = resolve
  })
  t.after(() => end())
  const { supervisor: first, fake, place } = await begin(t)
  await first.setTarget(target({ api: {} }))
  await applied(first)
  let supervisor = first
  for (const what of ['restartService', 'restartApp', 'purgeApp'] as const) {
    const { id } = containerOf(supervisor, 'api')
    const stopped = new Promise<void>((resolve) => {
      fake.before = async (call) => {
        if (!call.startsWith('containers.remove')) return
        resolve()
        await killed
      }
    })
    const asked =
      what === 'restartService'
        ? supervisor.restartService({ appId: APP, serviceName: 'api' })
        : supervisor[what](APP)
    asked.catch(() => {})
    await stopped
    assert.equal(fake.boxes.get(id)?.state, 'exited', what)
    fake.before = () => {}
    supervisor = place.supervisor(fake.engine())
    t.after(() => supervisor.stop())
    await supervisor.start()
    const runs = () => fake.boxes.get(id)?.state === 'running'
    await until(supervisor, runs, `the start after ${what}`)
    await applied(supervisor)
  }
  // That it was stopped is forgotten then: what ends by itself is the engine's affair.
  fake.stopped(containerOf(supervisor, 'api').id, 0)
  await until(supervisor, () => serviceOf(supervisor, 'api').status === 'exited', 'its end')
  await supervisor.update()
  for (let turns = 0; turns < 3; turns++) await new Promise((turn) => setImmediate(turn))
  assert.equal(serviceOf(supervisor, 'api').status, 'exited')
})

test('a restart whose container cannot be removed starts it again', async (t) => {
  const { supervisor, fake } = await begin(t)
  await supervisor.setTarget(target({ api: {} }))
  await applied(supervisor)
  const { id } = containerOf(supervisor, 'api')
  fake.before = (call) => {
    if (call.startsWith('containers.remove')) throw err('FAILED', 'device busy')
  }
  await assert.rejects(supervisor.restartApp(APP), { code: 'OPERATION_FAILED' })
  await until(supervisor, () => fake.boxes.get(id)?.state === 'running', 'the start')
})

test('a restart ends when its app goes meanwhile', async (t) => {
  const { supervisor, fake, place } = await begin(t)
  await supervisor.setTarget(target({ api: {} }))
  await applied(supervisor)
  const emptied = { local: { name: 'box', config: {}, apps: {} } }
  fake.before = async (call) => {
    if (!call.startsWith('containers.create')) return
    fake.before = () => {}
    await supervisor.setTarget(emptied)
  }
  await assert.rejects(supervisor.restartApp(APP), { code: 'APP_NOT_INSTALLED' })
  await until(supervisor, () => fake.boxes.size === 0, 'the removal')
  await until(supervisor, () => said(place, `app ${APP} is gone`), 'the end')
  await supervisor.setTarget(target({ api: {} }, { commit: 'c2' }))
  await applied(supervisor)
  await supervisor.restartApp(APP)
})

test('a lock counts before the engine was ever there', async (t) => {
  const { supervisor: first, fake, place } = await begin(t)
  await first.setTarget(target({ api: {} }))
  await applied(first)
  await first.stop()
  writeFileSync(join(place.lockRoot, String(APP), 'api', 'updates.lock'), '')
  fake.before = () => {
    throw err('UNREACHABLE', 'away')
  }
  const supervisor = place.supervisor(fake.engine())
  t.after(() => supervisor.stop())
  await supervisor.start()
  await assert.rejects(
    supervisor.withLocks('all', {}, () => assert.fail('it is locked')),
    { status: 423 },
  )
})

test('an app that was rolled back says that its update failed', async (t) => {
  const trial = { stableMs: 60_000, timeoutMs: 120_000 }
  const { supervisor, fake } = await begin(t, { trial })
  await supervisor.setTarget(target({ api: {} }))
  await applied(supervisor)
  const { id } = containerOf(supervisor, 'api')
  fake.after = (call) => {
    const box = fake.box('api')
    if (call.startsWith('containers.start') && box && box.id !== id) fake.stopped(box.id)
  }
  const release = { api: { environment: { A: '2' } } }
  await supervisor.setTarget(target(release, { commit: 'c2' }))
  await until(supervisor, () => supervisor.app(APP)?.updateStatus === 'aborted', 'the roll-back')
  await until(supervisor, () => supervisor.status().appState === 'applied', 'its end')
  assert.equal(containerOf(supervisor, 'api').id, id)
  assert.equal(serviceOf(supervisor, 'api').status, 'Running')
  assert.equal(supervisor.app(APP)?.updateStatus, 'aborted')
  const { updateFailed, updatePending } = supervisor.status()
  assert.deepEqual([updateFailed, updatePending], [true, false])
  assert.equal(supervisor.app(APP)?.appliedCommit, 'c1')
  fake.after = () => {}
  await supervisor.setTarget(target({ api: {} }, { commit: 'c3' }))
  await applied(supervisor)
  assert.equal(supervisor.status().updateFailed, false)
})

test('an unknown app or service is refused in balena words', async (t) => {
  const { supervisor } = await begin(t)
  await supervisor.setTarget(target({ api: {} }))
  await applied(supervisor)
  await assert.rejects(supervisor.restartApp(999), {
    status: 503,
    message: 'Application with ID 999 is not in the current state',
  })
  await assert.rejects(supervisor.stopService({ appId: 999, serviceName: 'api' }), {
    status: 404,
    code: 'APP_NOT_FOUND',
  })
  await assert.rejects(supervisor.stopService({ appId: APP, serviceName: 'web' }), {
    status: 404,
    message: 'Service not found, a container must exist for this endpoint to work',
  })
})

test('without a target nothing is touched', async (t) => {
  const fake = new FakeEngine()
  const place = device()
  const first = place.supervisor(fake.engine())
  await first.start()
  await first.setTarget(target({ api: {} }))
  await applied(first)
  await first.stop()
  // A damaged file is moved aside, and stands for no target, not for an empty one.
  writeFileSync(join(place.stateFolder, 'target-local.json'), '{"version":1,')
  fake.calls.length = 0
  const { supervisor } = await begin(t, {}, fake, place)
  await supervisor.update()
  await new Promise((turn) => setImmediate(turn))
  assert.deepEqual(fake.writes, [])
  assert.equal(fake.box('api')?.state, 'running')
  assert.ok(said(place, 'target-local.json" is unusable, moved to'))
  assert.equal(supervisor.target().target, undefined)
})

test('a target is measured before it is applied, once per boot', async (t) => {
  const measured: string[] = []
  let fails = true
  const fake = new FakeEngine()
  const place = device()
  const measureTarget = async (digest: string) => {
    if (fails) throw new Error('no register')
    assert.equal(fake.boxes.size, 0)
    measured.push(digest)
  }
  const { supervisor } = await begin(t, { measureTarget }, fake, place)
  await assert.rejects(supervisor.setTarget(target({ api: {} })), {
    code: 'TARGET_NOT_MEASURED',
    status: 503,
  })
  assert.equal(supervisor.target().target, undefined)
  fails = false
  await supervisor.setTarget(target({ api: {} }))
  await applied(supervisor)
  assert.equal(measured.length, 1)
  assert.match(measured[0] ?? '', /^[0-9a-f]{64}$/)
  await supervisor.stop()
  fake.boxes.clear()
  await begin(t, { measureTarget }, fake, place).then(({ supervisor: next }) => next.stop())
  assert.equal(measured.length, 1)
  fake.boxes.clear()
  fails = true
  const { supervisor: last } = await begin(t, { measureTarget, bootId: 'boot-2' }, fake, place)
  assert.equal(last.target().target, undefined)
  assert.equal(fake.boxes.size, 0)
  fails = false
  await last.update()
  await until(last, () => last.target().target !== undefined, 'the second chance')
  await applied(last)
  assert.equal(measured.length, 2)
})

test('what others do to our containers is seen by events; names of strangers are left alone', async (t) => {
  const { supervisor, fake, place } = await begin(t)
  await supervisor.setTarget(target({ api: { restart: 'no' } }))
  await applied(supervisor)
  const { id } = containerOf(supervisor, 'api')
  fake.stopped(id, 3)
  await until(supervisor, () => containerOf(supervisor, 'api').state === 'exited', 'the event')
  assert.equal(containerOf(supervisor, 'api').exitCode, 3)
  fake.drop()
  await until(supervisor, () => supervisor.notReady() !== undefined, 'the loss')
  await until(supervisor, () => supervisor.notReady() === undefined, 'the return')
  assert.ok(said(place, 'the container engine is away'))
  fake.foreign('web_1001_2_c2')
  await supervisor.setTarget(target({ web: {} }, { commit: 'c2', releaseId: 2 }))
  const waits = () => supervisor.app(APP)?.waits.join() ?? ''
  await until(supervisor, () => waits().includes('web_1001_2_c2 is in use'), 'the wait')
  assert.equal([...fake.boxes.values()].filter(({ name }) => name.startsWith('web_')).length, 1)
})

test('volumes that nothing uses go, only ours, and only when asked', async (t) => {
  const fake = new FakeEngine()
  await fake.engine().volumes.create({ Name: '5_foreign' })
  const { supervisor } = await begin(t, {}, fake)
  await supervisor.setTarget(target({ api: { volumes: ['a:/a'] } }, { volumes: { a: {}, b: {} } }))
  await applied(supervisor)
  await supervisor.setTarget(
    target({ api: { volumes: ['a:/a'] } }, { volumes: { a: {} }, commit: 'c2' }),
  )
  await applied(supervisor)
  assert.deepEqual(await supervisor.cleanupVolumes({ dryRun: true }), ['101_b'])
  assert.deepEqual(await supervisor.cleanupVolumes({ apps: (appId) => appId !== APP }), [])
  assert.deepEqual([...fake.vols.keys()].sort(), ['101_a', '101_b', '5_foreign'])
  assert.deepEqual(await supervisor.cleanupVolumes(), ['101_b'])
  assert.deepEqual([...fake.vols.keys()].sort(), ['101_a', '5_foreign'])
})

test('nothing is begun while the machine goes down', async (t) => {
  const { supervisor, fake } = await begin(t)
  const resume = supervisor.suspend()
  await supervisor.setTarget(target({ api: {} }))
  await assert.rejects(supervisor.restartApp(APP), { code: 'SUSPENDED', status: 503 })
  assert.deepEqual(fake.writes, [])
  resume()
  await applied(supervisor)
  assert.equal(fake.box('api')?.state, 'running')
})

test('followers of logs get what the supervisor does, and only so many follow', async (t) => {
  const { supervisor } = await begin(t)
  const end = new AbortController()
  const logs = supervisor.followLogs(end.signal)
  assert.deepEqual((await logs.next()).value, { message: 'Streaming logs', isSystem: true })
  await supervisor.setTarget(target({ api: {} }))
  const record = (await logs.next()).value
  assert.equal(record?.isSystem, true)
  assert.match(record?.message ?? '', /^target [0-9a-f]{16} in force/)
  const others = Array.from({ length: 7 }, () => supervisor.followLogs(end.signal))
  for (const other of others) await other.next()
  await assert.rejects(supervisor.followLogs(end.signal).next(), { code: 'TOO_MANY_FOLLOWERS' })
  end.abort()
  for (const one of [logs, ...others]) await one.return(undefined)
  assert.equal((await supervisor.followLogs(new AbortController().signal).next()).done, false)
})

test('a state folder that cannot be written refuses the target and keeps the old one', async (t) => {
  const { supervisor, place } = await begin(t)
  await supervisor.setTarget(target({ api: {} }))
  await applied(supervisor)
  rmSync(place.stateFolder, { recursive: true })
  writeFileSync(place.stateFolder, '')
  await assert.rejects(supervisor.setTarget(target({ web: {} }, { commit: 'c2' })), {
    code: 'STATE_NOT_STORED',
    status: 503,
  })
  assert.equal(supervisor.app(APP)?.commit, 'c1')
  rmSync(place.stateFolder)
  mkdirSync(place.stateFolder)
})
