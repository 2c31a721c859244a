/** The core of it on Podman, which differs in names, updates and events (spec §23.4). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { useEngine } from './helpers/engine.ts'
import { readVolume } from './supervisor/read-volume.ts'
import { plantStrangers } from './supervisor/strangers.ts'
import { supervisedMachine } from './supervisor/supervised.ts'
import { APP, asker, nameOf, target } from './supervisor/targets.ts'

const engineOf = useEngine('podman')

test('Podman runs a target, its update, a hand-over and a restart', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  const strangers = await plantStrangers(engine)
  const writesOnce =
    "[ -f /data/token ] || echo $HOSTNAME > /data/token; trap 'exit 0' TERM; sleep 1000 & wait"
  const release = (number: number) => {
    const environment = { RELEASE: String(number) }
    const command = ['sh', '-c', writesOnce]
    const labels = {
      'io.balena.update.strategy': 'hand-over',
      'io.balena.update.handover-timeout': '200',
    }
    return target(
      {
        db: { environment, command, volumes: ['data:/data'] },
        api: { environment, labels, depends_on: ['db'] },
        same: {},
      },
      { number, volumes: { data: {} } },
    )
  }
  const reached = (number: number) =>
    machine.converged({
      [nameOf('db', number)]: 'running',
      [nameOf('api', number, 1)]: 'running',
      [nameOf('same', number, 2)]: 'running',
    })
  await machine.setTarget(release(1))
  await reached(1)
  const token = await readVolume(engine, `${APP}_data`)
  const { Id } = await machine.container(nameOf('same', 1, 2))

  await machine.setTarget(release(2))
  await reached(2)
  assert.equal((await machine.container(nameOf('same', 2, 2))).Id, Id)

  const restarted = await machine.post('/v1/restart', { appId: APP })
  assert.equal(restarted.status, 200, restarted.body)
  await reached(2)
  assert.notEqual((await machine.container(nameOf('same', 2, 2))).Id, Id)

  await machine.kill()
  await machine.start()
  await machine.setTarget(release(3))
  await reached(3)
  assert.deepEqual(await readVolume(engine, `${APP}_data`), token)
  await strangers.untouched()
})

test('a container reaches the API over a bridge of Podman', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  await machine.setTarget(target({ asker: asker() }, { volumes: { data: {} } }))
  await machine.recorded(`app ${APP} is to be restarted`)
  await machine.converged({ [nameOf('asker', 1)]: 'running' })
  const starts = await readVolume(engine, `${APP}_data`)
  const { Id } = await machine.container(nameOf('asker', 1))
  assert.equal(starts.length, 2)
  assert.equal(starts[1], Id.slice(0, 12))
})
