/** The whole daemon on a real engine: what an operator and a container see. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { useEngine } from './helpers/engine.ts'
import { readVolume } from './supervisor/read-volume.ts'
import { supervisedMachine } from './supervisor/supervised.ts'
import { APP, asker, nameOf, target } from './supervisor/targets.ts'

const engineOf = useEngine()

test('a target that is posted comes up, and its update replaces only what changed', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  const services = (level: string) => ({
    db: { volumes: ['data:/data'] },
    api: { depends_on: ['db'], environment: { LOG_LEVEL: level } },
  })
  await machine.setTarget(target(services('canary-one'), { volumes: { data: {} } }))
  await machine.converged({ [nameOf('db', 1)]: 'running', [nameOf('api', 1, 1)]: 'running' })
  const db = await machine.container(nameOf('db', 1))
  const api = await machine.container(nameOf('api', 1, 1))
  assert.ok(Date.parse(db.State.StartedAt) <= Date.parse(api.State.StartedAt))
  assert.deepEqual(
    db.Mounts.filter(({ Type }) => Type === 'volume').map(({ Name }) => Name),
    [`${APP}_data`],
  )

  const state = (await machine.api('/v2/applications/state')).json<Record<string, unknown>>()
  const { updateStatus, commit } = state[`app${APP}`] as Record<string, unknown>
  assert.deepEqual({ updateStatus, commit }, { updateStatus: 'done', commit: 'c1' })

  const second = { number: 2, volumes: { data: {} } }
  await machine.setTarget(target(services('canary-two'), second))
  await machine.converged({ [nameOf('db', 2)]: 'running', [nameOf('api', 2, 1)]: 'running' })
  const replaced = await machine.container(nameOf('api', 2, 1))
  assert.notEqual(replaced.Id, api.Id)
  assert.ok(replaced.Config.Env.includes('LOG_LEVEL=canary-two'))
  assert.equal((await machine.container(nameOf('db', 2))).Id, db.Id, 'it was only renamed')
  const said = (await machine.events()).join('\n')
  assert.match(said, /service api of app 101 replaced: environment\.LOG_LEVEL/)
  assert.doesNotMatch(said, /canary/)
  assert.doesNotMatch(machine.proxy.calls.join('\n'), /canary/)
})

test('a stopped service starts although its network was removed meanwhile', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  await machine.setTarget(target({ api: {}, other: {} }))
  const running = { [nameOf('api', 1)]: 'running', [nameOf('other', 1, 1)]: 'running' }
  await machine.converged(running)
  const service = { serviceName: 'api' }
  const path = `/v2/applications/${APP}`
  for (const name of ['api', 'other']) {
    const stopped = await machine.post(`${path}/stop-service`, { serviceName: name })
    assert.equal(stopped.status, 200, stopped.body)
  }
  const { Id: other } = await machine.container(nameOf('other', 1, 1))
  // As `docker network prune` does.
  await engine.client.networks.remove(`${APP}_default`)
  await machine.recorded(`service api of app ${APP} replaced: network ${APP}_default`)
  await machine.converged({ [nameOf('api', 1)]: 'created', [nameOf('other', 1, 1)]: 'created' })
  assert.notEqual((await machine.container(nameOf('other', 1, 1))).Id, other)
  const started = await machine.post(`${path}/start-service`, service)
  assert.equal(started.status, 200, started.body)
  await machine.converged({ ...running, [nameOf('other', 1, 1)]: 'created' })
})

test('a container restarts its own app at the address it was given', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  await machine.setTarget(target({ asker: asker(), other: {} }, { volumes: { data: {} } }))
  const names = { [nameOf('asker', 1)]: 'running', [nameOf('other', 1, 1)]: 'running' }
  await machine.recorded(`app ${APP} is to be restarted`)
  await machine.converged(names)
  const now = await machine.container(nameOf('asker', 1))
  const starts = await readVolume(engine, `${APP}_data`)
  assert.equal(starts.length, 2, 'the volume stays, and it was restarted once')
  assert.equal(starts[1], now.Id.slice(0, 12))
  assert.equal(now.RestartCount, 0)
})

test('the engine is asked for little, and for nothing while nothing happens', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  const { calls, writes } = machine.proxy
  const lists = () => calls.filter((one) => /^GET \/[a-z]+(\/json)?(\?|$)/.test(one))
  const ten = Array.from({ length: 10 }, (_, i) => `s${i}`)
  const services = Object.fromEntries(
    ten.map((name, i) => [name, i === 0 ? {} : { running: false }]),
  )
  await machine.setTarget(target(services))
  const there = Object.fromEntries(
    ten.map((name, i) => [nameOf(name, 1, i), i === 0 ? 'running' : 'created']),
  )
  await machine.converged(there)
  const kinds = ['containers', 'images', 'networks', 'volumes']
  for (const kind of kinds) {
    const ofKind = lists().filter((one) => one.startsWith(`GET /${kind}`))
    assert.ok(ofKind.length <= 1, ofKind.join('\n'))
  }

  const quiet = calls.length
  await machine.setTarget(target(services))
  assert.equal((await machine.post('/v1/update')).status, 204)
  for (const path of ['/v1/device', '/v2/applications/state', `/v2/applications/${APP}/state`]) {
    assert.equal((await machine.api(path)).status, 200)
  }
  await machine.converged(there)
  assert.deepEqual(calls.slice(quiet), [])

  const before = { all: calls.length, writes: writes().length }
  for (let count = 1; count <= 3; count++) {
    const path = `/v2/applications/${APP}/restart-service`
    const { status, body } = await machine.post(path, { serviceName: 's0' })
    assert.equal(status, 200, body)
  }
  const written = writes().length - before.writes
  const read = calls.length - before.all - written
  assert.equal(written, 12, 'stop, remove, create and start, three times')
  assert.ok(read <= 12, calls.slice(before.all).join('\n'))
})
