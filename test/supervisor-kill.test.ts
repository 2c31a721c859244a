/** SIGKILL to the daemon after each thing that the engine did for an update (row E4). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { useEngine } from './helpers/engine.ts'
import { isWrite } from './supervisor/engine-proxy.ts'
import { readVolume } from './supervisor/read-volume.ts'
import { plantStrangers } from './supervisor/strangers.ts'
import { supervisedMachine } from './supervisor/supervised.ts'
import { APP, nameOf, target } from './supervisor/targets.ts'

const engineOf = useEngine()

/** Elsewhere than on Node a part of them is enough: the steps are the same. */
const STRIDE = runtime === 'node' ? 1 : 6

test('a daemon killed at any step of an update brings it to its end', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  const strangers = await plantStrangers(engine)
  const writesOnce =
    "[ -f /data/token ] || echo $HOSTNAME > /data/token; trap 'exit 0' TERM; sleep 1000 & wait"
  const release = (number: number) =>
    target(
      {
        db: {
          command: ['sh', '-c', writesOnce],
          volumes: ['data:/data'],
          environment: { RELEASE: String(number) },
        },
        api: {
          depends_on: ['db'],
          environment: { RELEASE: String(number) },
          labels: {
            'io.balena.update.strategy': 'hand-over',
            'io.balena.update.handover-timeout': '100',
          },
        },
        same: {},
      },
      { number, volumes: { data: {} } },
    )
  const reached = async (number: number) => {
    await machine.converged({
      [nameOf('db', number)]: 'running',
      [nameOf('api', number, 1)]: 'running',
      [nameOf('same', number, 2)]: 'running',
    })
    const { Config } = await machine.container(nameOf('db', number))
    assert.ok(Config.Env.includes(`RELEASE=${number}`))
  }

  await machine.setTarget(release(1))
  await reached(1)
  const [token, ...others] = await readVolume(engine, `${APP}_data`)
  assert.match(token ?? '', /^[0-9a-f]{12}$/)
  assert.deepEqual(others, [])
  const same = (await machine.container(nameOf('same', 1, 2))).Id

  const before = machine.proxy.writes().length
  await machine.setTarget(release(2))
  await reached(2)
  const steps = machine.proxy.writes().length - before
  assert.ok(steps >= 10, `an update has ${steps} steps`)

  let number = 2
  for (let step = 0; step < steps; step += STRIDE) {
    number++
    let left = step
    const held = machine.proxy.hold((call) => isWrite(call) && left-- === 0)
    await machine.setTarget(release(number))
    const last = await held
    await machine.kill()
    machine.proxy.release()
    await machine.start()
    await reached(number).catch((error) => {
      throw new Error(`after ${last}: ${(error as Error).message}`)
    })
    await strangers.untouched()
  }
  assert.deepEqual(await readVolume(engine, `${APP}_data`), [token], 'the volume was kept')
  assert.equal((await machine.container(nameOf('same', number, 2))).Id, same, 'it was only renamed')
})

test('a daemon killed in the middle of a restart or purge has the service run in the end', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  await machine.setTarget(target({ api: {} }))
  await machine.converged({ [nameOf('api', 1)]: 'running' })
  for (const path of ['/v1/restart', '/v1/purge']) {
    const held = machine.proxy.hold((call) => call.includes('/stop'), 'after')
    const asked = machine.post(path, { appId: APP }).catch(() => undefined)
    await held
    await machine.kill()
    machine.proxy.release()
    await asked
    assert.equal((await machine.container(nameOf('api', 1))).State.Status, 'exited', path)
    await machine.start()
    await machine.converged({ [nameOf('api', 1)]: 'running' })
  }
})
