import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lacking, TEST_IMAGE, useEngine } from '../helpers/engine.ts'
import {
  APP,
  applied,
  containerOf,
  device,
  serviceOf,
  target,
  until,
} from './supervisor-apply-fixtures.ts'

const engineOf = useEngine()

test('a two-service app comes up in order, with its network and volume', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  await engine.clear()
  const place = device()
  const supervisor = place.supervisor(engine.client)
  t.after(() => supervisor.stop())
  await supervisor.start()
  await supervisor.setTarget(
    target(
      {
        api: { depends_on: ['db'], networks: ['front', 'back'], environment: { SECRET: 'geheim' } },
        db: { networks: ['back'], volumes: ['data:/data'] },
      },
      { volumes: { data: {} }, networks: { front: {}, back: {} } },
    ),
  )
  await applied(supervisor)
  const { containers, networks, volumes } = engine.client
  const api = await containers.inspect(containerOf(supervisor, 'api').id)
  const db = await containers.inspect(containerOf(supervisor, 'db').id)
  assert.ok(api.State.Running && db.State.Running)
  assert.ok(Date.parse(db.State.StartedAt) <= Date.parse(api.State.StartedAt))
  assert.deepEqual(Object.keys(api.NetworkSettings.Networks).sort(), ['101_back', '101_front'])
  assert.deepEqual(
    db.Mounts.filter(({ Type }) => Type === 'volume').map(({ Name }) => Name),
    ['101_data'],
  )
  assert.ok((await networks.list()).some(({ Name }) => Name === '101_default'))
  assert.ok((await volumes.list()).some(({ Name }) => Name === '101_data'))
  assert.equal(serviceOf(supervisor, 'api').status, 'Running')
  assert.doesNotMatch(place.messages().join('\n'), /geheim/)
})

test('an update replaces what changed, says why, and keeps volumes and strangers', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  await engine.clear()
  const { containers, networks, volumes } = engine.client
  const stranger = await containers.create('stranger', { Image: TEST_IMAGE })
  await volumes.create({ Name: '101_foreign' })
  await networks.create({ Name: 'foreign' })
  const place = device()
  const supervisor = place.supervisor(engine.client)
  t.after(() => supervisor.stop())
  await supervisor.start()
  const services = (level: string) => ({
    api: { environment: { LOG_LEVEL: level } },
    db: { volumes: ['data:/data'] },
  })
  await supervisor.setTarget(target(services('geheim1'), { volumes: { data: {} } }))
  await applied(supervisor)
  const [api, db] = [containerOf(supervisor, 'api'), containerOf(supervisor, 'db')]
  const made = (await volumes.inspect('101_data')).CreatedAt
  await supervisor.setTarget(
    target(services('geheim2'), { volumes: { data: {} }, commit: 'c2', releaseId: 2 }),
  )
  await applied(supervisor)
  assert.notEqual(containerOf(supervisor, 'api').id, api.id)
  assert.equal(containerOf(supervisor, 'api').env.LOG_LEVEL, 'geheim2')
  assert.equal(containerOf(supervisor, 'db').id, db.id, 'what did not change stays')
  assert.equal(containerOf(supervisor, 'db').name, 'db_1002_2_c2')
  assert.equal((await volumes.inspect('101_data')).CreatedAt, made)
  const said = place.messages().join('\n')
  assert.match(said, /service api of app 101 replaced: environment\.LOG_LEVEL/)
  assert.doesNotMatch(said, /geheim/)
  // The app goes, strangers stay.
  await supervisor.setTarget({ local: { name: 'box', apps: {} } })
  await until(supervisor, () => supervisor.app(APP) === undefined, 'the end of the app')
  await until(supervisor, () => supervisor.status().appState === 'applied', 'the end')
  assert.equal((await containers.inspect(stranger.Id)).Name.replace('/', ''), 'stranger')
  assert.deepEqual(
    (await volumes.list()).map(({ Name }) => Name).sort(),
    ['101_data', '101_foreign'],
    'volumes stay in local mode',
  )
  assert.ok((await networks.list()).some(({ Name }) => Name === 'foreign'))
  assert.ok(!(await networks.list()).some(({ Name }) => Name === '101_default'))
})

test('restart and purge make everything anew from the target and await its end', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  await engine.clear()
  const place = device()
  const supervisor = place.supervisor(engine.client)
  t.after(() => supervisor.stop())
  await supervisor.start()
  const command = ['sh', '-c', 'date +%s%N >> /data/starts; sleep 1000']
  await supervisor.setTarget(
    target(
      { api: { depends_on: ['db'] }, db: { volumes: ['data:/data'], command } },
      { volumes: { data: {} } },
    ),
  )
  await applied(supervisor)
  const before = containerOf(supervisor, 'db').id
  const api = containerOf(supervisor, 'api').id
  const { containers, volumes } = engine.client

  await supervisor.restartService({ appId: APP, serviceName: 'db' })
  assert.notEqual(containerOf(supervisor, 'db').id, before)
  assert.equal(containerOf(supervisor, 'db').state, 'running')
  assert.equal(containerOf(supervisor, 'api').id, api)

  await supervisor.restartApp(APP)
  assert.notEqual(containerOf(supervisor, 'api').id, api)
  const [apiNow, dbNow] = await Promise.all(
    ['api', 'db'].map((name) => containers.inspect(containerOf(supervisor, name).id)),
  )
  assert.ok(apiNow?.State.Running && dbNow?.State.Running)
  assert.ok(Date.parse(dbNow.State.StartedAt) <= Date.parse(apiNow.State.StartedAt))

  const made = (await volumes.inspect('101_data')).CreatedAt
  const network = (await engine.client.networks.list({ names: ['101_default'] }))[0]?.Id
  // A volume's time has seconds only.
  await new Promise((tick) => setTimeout(tick, 1100))
  await supervisor.purgeApp(APP)
  assert.notEqual((await volumes.inspect('101_data')).CreatedAt, made)
  assert.equal((await engine.client.networks.list({ names: ['101_default'] }))[0]?.Id, network)
  assert.equal(containerOf(supervisor, 'db').state, 'running')
})

test('a stopped service stays stopped over a new supervisor, until it is started', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  await engine.clear()
  const place = device()
  const first = place.supervisor(engine.client)
  t.after(() => first.stop())
  await first.start()
  await first.setTarget(target({ api: {}, db: {} }))
  await applied(first)
  const id = await first.stopService({ appId: APP, serviceName: 'api' })
  const { containers } = engine.client
  assert.equal((await containers.inspect(id)).State.Running, false)
  assert.equal(serviceOf(first, 'api').status, 'exited')
  await first.stop()
  const second = place.supervisor(engine.client)
  t.after(() => second.stop())
  await second.start()
  await applied(second)
  // An unrelated change does not start it (spec §24.17).
  await second.setTarget(target({ api: {}, db: { environment: { A: '1' } } }, { commit: 'c2' }))
  await applied(second)
  assert.equal(serviceOf(second, 'api').stoppedByUser, true)
  assert.equal((await containers.inspect(id)).State.Running, false)
  assert.equal(await second.startService({ appId: APP, serviceName: 'api' }), id)
  assert.equal((await containers.inspect(id)).State.Running, true)
  assert.equal(serviceOf(second, 'api').status, 'Running')
})

test('a hand-over waits for the file, a failed update brings the old one back', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  await engine.clear()
  const place = device()
  const supervisor = place.supervisor(engine.client, {
    trial: { stableMs: 60_000, timeoutMs: 120_000 },
  })
  t.after(() => supervisor.stop())
  await supervisor.start()
  const services = (value: string, command?: string[]) => ({
    api: {
      environment: { A: value },
      labels: { 'io.balena.update.strategy': 'hand-over' },
      ...(command ? { command, restart: 'no' } : {}),
    },
  })
  await supervisor.setTarget(target(services('1')))
  await applied(supervisor)
  const old = containerOf(supervisor, 'api').id
  await supervisor.setTarget(target(services('2'), { commit: 'c2', releaseId: 2 }))
  await until(supervisor, () => serviceOf(supervisor, 'api').status === 'Handing over', 'hand-over')
  const { containers } = engine.client
  assert.equal((await containers.inspect(old)).State.Running, true)
  assert.match((await containers.inspect(old)).Name, /old_api_1001_1_c1/)
  writeFileSync(join(place.lockRoot, String(APP), 'api', 'handover-complete'), '')
  await applied(supervisor)
  const now = containerOf(supervisor, 'api').id
  assert.notEqual(now, old)
  await assert.rejects(containers.inspect(old), { code: 'ENGINE_NOT_FOUND' })

  await supervisor.setTarget(
    target(services('3', ['sh', '-c', 'exit 3']), { commit: 'c3', releaseId: 3 }),
  )
  const back = () => place.messages().some((message) => message.includes('is back as it was'))
  await until(supervisor, back, 'the way back')
  await until(supervisor, () => supervisor.status().appState === 'applied', 'the end')
  assert.equal(containerOf(supervisor, 'api').id, now)
  const there = await containers.inspect(now)
  assert.equal(there.State.Running, true)
  assert.equal(there.HostConfig.RestartPolicy?.Name, 'always')
})

test('an engine that dies and comes back is followed again', async (t) => {
  const engine = await engineOf(t)
  if (!engine || lacking()) return
  await engine.clear()
  const supervisor = device().supervisor(engine.client)
  t.after(() => supervisor.stop())
  await supervisor.start()
  await supervisor.setTarget(target({ api: {} }))
  await applied(supervisor)
  await engine.kill()
  await until(supervisor, () => supervisor.notReady() !== undefined, 'the loss')
  await assert.rejects(supervisor.restartApp(APP), { code: 'ENGINE_AWAY', status: 503 })
  await engine.start()
  await until(supervisor, () => supervisor.notReady() === undefined, 'the return')
  await supervisor.setTarget(target({ api: { environment: { B: '2' } } }, { commit: 'c2' }))
  await applied(supervisor)
  assert.equal(containerOf(supervisor, 'api').env.B, '2')
})

test('logs of services come with their names, from their first line on', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  await engine.clear()
  const supervisor = device().supervisor(engine.client)
  t.after(() => supervisor.stop())
  await supervisor.start()
  const end = new AbortController()
  const logs = supervisor.followLogs(end.signal)
  assert.equal((await logs.next()).value?.message, 'Streaming logs')
  const services = {
    api: { command: ['sh', '-c', 'echo out; echo wrong >&2; sleep 1000'], tty: false },
    quiet: { command: ['sh', '-c', 'echo hidden; sleep 1000'], environment: QUIET },
  }
  await supervisor.setTarget(target(services))
  const found: Record<string, unknown>[] = []
  while (found.length < 2) {
    const { value, done } = await logs.next()
    assert.ok(!done)
    assert.notEqual(value.message, 'hidden')
    if (!value.isSystem) found.push({ ...value })
  }
  assert.ok(found.every(({ timestamp }) => Math.abs(Date.now() - Number(timestamp)) < 60_000))
  assert.deepEqual(
    found
      .map(({ timestamp: _, ...rest }) => rest)
      .sort((a, b) => String(a.message).localeCompare(String(b.message))),
    [
      { message: 'out', serviceName: 'api', appId: APP },
      { message: 'wrong', serviceName: 'api', appId: APP, isStdErr: true },
    ],
  )
  end.abort()
  await logs.return(undefined)
})

const QUIET = { BALENA_LOGS_LEVEL: 'none' }
