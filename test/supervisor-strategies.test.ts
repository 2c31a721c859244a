/** Update strategies, hand-over, the way back, and update locks (spec §8, §15, §24.29). */
import assert from 'node:assert/strict'
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { imageFiles, TEST_IMAGE, useEngine } from './helpers/engine.ts'
import { startRegistry } from './helpers/registry.ts'
import { eventually } from './supervisor/eventually.ts'
import { supervisedMachine } from './supervisor/supervised.ts'
import { APP, nameOf, target, together } from './supervisor/targets.ts'

const engineOf = useEngine()

const IDLE = "trap 'exit 0' TERM; sleep 1000 & wait"

test('each strategy has its own order of pulling, stopping and removing', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const registry = await startRegistry(t, {
    address: engine.hostAddress,
    runnable: { files: imageFiles(), command: ['sh', '-c', IDLE] },
  })
  // Not in local mode, where images stay.
  const machine = await supervisedMachine(t, engine, {
    config: `local_mode = false\ntarget_file = "{folder}/target.json"`,
    start: false,
  })
  const file = join(machine.folder, 'target.json')
  const put = (state: object) => {
    writeFileSync(`${file}.new`, JSON.stringify(state))
    renameSync(`${file}.new`, file)
  }
  const images = async () =>
    (await engine.client.images.list()).flatMap(({ RepoTags }) => RepoTags ?? [])
  put(together())
  await machine.start()

  let number = 0
  for (const [strategy, while_] of [
    ['download-then-kill', { containers: ['running'], oldImage: true }],
    // Whether the old image goes before or after the pull is open here.
    ['kill-then-download', { containers: [], oldImage: undefined }],
    ['delete-then-download', { containers: [], oldImage: false }],
  ] as const) {
    const reference = (tag: number) => `${registry.host}/${strategy}:${tag}`
    const release = (tag: number) => {
      const labels = { 'io.balena.update.strategy': strategy }
      return target({ api: { image: reference(tag), labels } }, { number: number + tag })
    }
    put(release(1))
    await machine.post('/v1/update')
    await machine.converged({ [nameOf('api', number + 1)]: 'running' })
    const pulling = machine.proxy.pause((call) => call.includes('/images/create'))
    put(release(2))
    await machine.post('/v1/update')
    const pull = await pulling
    const states = [...(await machine.containers()).values()].map(({ State }) => State.Status)
    assert.deepEqual(states, while_.containers, strategy)
    if (while_.oldImage !== undefined) {
      assert.equal((await images()).includes(reference(1)), while_.oldImage, strategy)
    }
    pull()
    await machine.converged({ [nameOf('api', number + 2)]: 'running' })
    const left = (await images()).filter((name) => name.includes(strategy))
    assert.deepEqual(left, [reference(2)], 'the old image goes in the end')
    number += 2
  }
  assert.ok((await images()).includes(TEST_IMAGE), 'an image of somebody else stays')
})

test('a hand-over goes on until the new container says so itself', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  // Tells that it took over when the test lets it, by a file beside its locks.
  const script = `until [ -f /tmp/balena/go ]; do sleep 0.05; done; \
touch "$BALENA_SERVICE_HANDOVER_COMPLETE_PATH"; ${IDLE}`
  const release = (number: number, command = ['sh', '-c', script]) =>
    target(
      {
        api: {
          command,
          environment: { RELEASE: String(number) },
          labels: {
            'io.balena.update.strategy': 'hand-over',
            'io.balena.update.handover-timeout': '600000',
          },
        },
      },
      { number },
    )
  await machine.setTarget(release(1, ['sh', '-c', IDLE]))
  await machine.converged({ [nameOf('api', 1)]: 'running' })
  const old = await machine.container(nameOf('api', 1))
  await machine.setTarget(release(2))
  const both = { [`old_${nameOf('api', 1)}`]: 'running', [nameOf('api', 2)]: 'running' }
  const states = async () =>
    Object.fromEntries([...(await machine.containers())].map(([name, one]) => [name, one.State]))
  await eventually('both run', states, (found) =>
    Object.entries(both).every(([name, state]) => found[name]?.Status === state),
  )
  await eventually(
    'it is shown',
    async () => (await machine.api('/v2/applications/state')).body,
    (shown) => shown.includes('"Handing over"'),
  )
  // A daemon that is killed meanwhile does not lose count.
  await machine.kill()
  await machine.start()
  assert.equal((await machine.container(`old_${nameOf('api', 1)}`)).Id, old.Id)
  writeFileSync(join(machine.locksOf('api'), 'go'), '')
  await machine.converged({ [nameOf('api', 2)]: 'running' })
  assert.match((await machine.events()).join('\n'), /service api of app 101 handed over: file/)
})

test('an update that does not run is undone, and the old container is back', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine, {
    config: '[plugins.supervisor.rollback]\nstable_s = 1\ntimeout_s = 20',
  })
  const release = (number: number, script: string) =>
    target({ api: { command: ['sh', '-c', script], restart: 'no' } }, { number })
  await machine.setTarget(release(1, IDLE))
  await machine.converged({ [nameOf('api', 1)]: 'running' })
  const { Id } = await machine.container(nameOf('api', 1))
  await machine.setTarget(release(2, 'exit 3'))
  await machine.recorded('service api of app 101 is back as it was: exited')
  await machine.converged({ [nameOf('api', 1)]: 'running' })
  assert.equal((await machine.container(nameOf('api', 1))).Id, Id)
  // What failed is not tried again, another one is.
  await machine.setTarget(release(3, `echo good; ${IDLE}`))
  await machine.converged({ [nameOf('api', 3)]: 'running' })
})

test('an update lock of a container holds back its app alone, until it is forced', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const machine = await supervisedMachine(t, engine)
  const OTHER = 202
  const release = (number: number) => {
    const environment = { RELEASE: String(number) }
    const command = ['sh', '-c', `touch "$BALENA_APP_LOCK_PATH"; ${IDLE}`]
    return together(
      target({ api: { environment, command } }, { number }),
      target({ other: { environment } }, { number }, OTHER),
    )
  }
  await machine.setTarget(release(1))
  await machine.converged({ [nameOf('api', 1)]: 'running', [nameOf('other', 1)]: 'running' })
  const { Id } = await machine.container(nameOf('api', 1))

  const refused = await machine.post('/v1/restart', { appId: APP })
  assert.equal(refused.status, 423)
  assert.match(refused.body, /Lockfile exists for \{ appId: 101, service: api \}/)
  assert.equal((await machine.container(nameOf('api', 1))).Id, Id)

  await machine.setTarget(release(2))
  await machine.recorded('Updates are locked')
  await eventually(
    'the other app is updated',
    async () => [...(await machine.containers())].map(([name]) => name),
    (names) => names.includes(nameOf('other', 2)),
  )
  assert.equal((await machine.container(nameOf('api', 1))).Id, Id)
  const device = (await machine.api('/v1/device')).json()
  assert.deepEqual([device.update_pending, device.update_failed], [true, true])

  assert.equal((await machine.post('/v1/update', { force: true })).status, 204)
  await machine.converged({ [nameOf('api', 2)]: 'running', [nameOf('other', 2)]: 'running' })
  const { Id: second } = await machine.container(nameOf('api', 2))
  assert.equal((await machine.post('/v1/restart', { appId: APP, force: true })).status, 200)
  assert.notEqual((await machine.container(nameOf('api', 2))).Id, second)
})
