/** The engine goes away in the middle of things, and comes back (rows E1, E2). */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { useEngine } from './helpers/engine.ts'
import { startRegistry } from './helpers/registry.ts'
import type { EngineCall } from './supervisor/engine-proxy.ts'
import { eventually } from './supervisor/eventually.ts'
import { type SupervisedMachine, supervisedMachine } from './supervisor/supervised.ts'
import { APP, nameOf, target } from './supervisor/targets.ts'

const engineOf = useEngine()

/** Elsewhere than on Node a part of them is enough. */
const MOMENTS = runtime === 'node' ? (['before', 'after'] as const) : (['after'] as const)

const isReady = (machine: SupervisedMachine, ready: boolean) =>
  eventually(
    `ready is ${ready}`,
    async () => await machine.waiting(),
    (why) => (why === undefined) === ready,
  )

/** Kills the engine when it was asked this, and starts it again. */
async function killAt(
  { engine, proxy }: SupervisedMachine,
  call: string,
  when: 'before' | 'after',
  act: () => Promise<unknown>,
): Promise<void> {
  const held = proxy.hold((made: EngineCall) => made.includes(call), when)
  await act()
  await held
  await engine.kill()
  proxy.release()
  await engine.start()
}

test('an engine that is killed while it creates or starts does both once in the end', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  let number = 0
  for (const call of ['/containers/create', '/start']) {
    for (const when of MOMENTS) {
      number++
      const services = {
        api: { environment: { RELEASE: String(number) }, volumes: ['data:/data'] },
        other: {},
      }
      const release = target(services, { number, volumes: { data: {} } })
      await killAt(machine, call, when, () => machine.setTarget(release))
      await machine.converged({
        [nameOf('api', number)]: 'running',
        [nameOf('other', number, 1)]: 'running',
      })
      const { Config } = await machine.container(nameOf('api', number))
      assert.ok(Config.Env.includes(`RELEASE=${number}`), `${when} ${call}`)
      const created = machine.proxy.calls.filter((one) => one.includes(nameOf('api', number)))
      assert.ok(created.length <= 3, `${when} ${call}: ${created}`)
    }
  }
  const volumes = await engine.client.volumes.list()
  assert.deepEqual(
    volumes.map(({ Name }) => Name),
    [`${APP}_data`],
  )
})

test('a pull goes on with an engine that was killed in its middle', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  const registry = await startRegistry(t, { address: engine.hostAddress, content: 'killed' })
  registry.stuck = true
  const image = `${registry.host}/app:1`
  await machine.setTarget(target({ api: {} }))
  await machine.converged({ [nameOf('api', 1)]: 'running' })
  const { Id } = await machine.container(nameOf('api', 1))
  // There is nothing to run in the image.
  await machine.setTarget(target({ api: {}, pulled: { image, running: false } }, { number: 2 }))
  await registry.begun
  const pulling = (await machine.api('/v2/applications/state')).json<Shown>()[`app${APP}`]
  assert.equal(pulling?.updateStatus, 'downloading')
  await engine.kill()
  registry.stuck = false
  await isReady(machine, false)
  await engine.start()
  await machine.converged({ [nameOf('api', 2)]: 'running', [nameOf('pulled', 2, 1)]: 'created' })
  assert.equal((await machine.container(nameOf('api', 2))).Id, Id)
})

interface Shown {
  readonly [name: string]: { readonly updateStatus: string }
}

test('an engine that dies while nothing is done is followed again', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  await machine.setTarget(target({ api: { restart: 'no' } }))
  await machine.converged({ [nameOf('api', 1)]: 'running' })
  await isReady(machine, true)
  await engine.kill()
  await isReady(machine, false)
  const refused = await machine.post('/v1/restart', { appId: APP })
  assert.equal(refused.status, 503, refused.body)
  assert.equal((await machine.api('/ping')).status, 200)
  assert.equal((await machine.api('/v1/healthy')).status, 200)
  assert.equal((await machine.api('/v1/device')).status, 200)

  await engine.start()
  await isReady(machine, true)
  // An engine that starts ends what its predecessor ran, and `restart: no` leaves it so.
  const [service] = await eventually(
    'the end is seen',
    async () => (await machine.api('/v2/state/status')).json<Status>().containers,
    ([one]) => one?.status === 'exited',
  )
  assert.equal(service?.containerId, (await machine.container(nameOf('api', 1))).Id)
  assert.equal((await machine.post('/v1/restart', { appId: APP })).status, 200)
  await machine.converged({ [nameOf('api', 1)]: 'running' })
})

interface Status {
  readonly containers: readonly { readonly status: string; readonly containerId: string }[]
}

test('a daemon that is to supervise starts where there is no socket yet', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine, { start: false })
  await engine.end()
  assert.ok(!existsSync(engine.socketPath))
  await machine.start({ direct: true })
  assert.match((await machine.waiting()) ?? '', /does not answer/)
  assert.equal((await machine.api('/v1/healthy')).status, 200)
  await engine.start()
  await isReady(machine, true)
})

test('a daemon that starts before the engine waits for it', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine, { start: false })
  // Its socket stays, with nobody behind it.
  await engine.kill()
  await machine.start({ direct: true })
  assert.match((await machine.waiting()) ?? '', /does not answer/)
  await machine.setTarget(target({ api: {} }))
  await engine.start()
  await machine.converged({ [nameOf('api', 1)]: 'running' })
  assert.equal(await machine.waiting(), undefined)
})
