/** Targets polled from a server, and reports to it, through a whole daemon (spec §19). */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { TEST_IMAGE, type TestEngine, useEngine } from './helpers/engine.ts'
import { CLOUD_APP, type Cloud, cloudTarget, startCloud, TOKEN } from './supervisor/cloud.ts'
import { eventually } from './supervisor/eventually.ts'
import { type SupervisedMachine, supervisedMachine } from './supervisor/supervised.ts'
import { APP, nameOf, target } from './supervisor/targets.ts'

const engineOf = useEngine()

const release = (number: number) =>
  cloudTarget(APP, TEST_IMAGE, { api: { environment: { RELEASE: String(number) } } }, number)

async function managed(
  t: TestContext,
  engine: TestEngine,
): Promise<{ readonly machine: SupervisedMachine; readonly cloud: Cloud }> {
  const tokenFile = join(engine.folder, 'token')
  writeFileSync(tokenFile, TOKEN)
  const cloud = await startCloud(t, engine.hostAddress, tokenFile)
  cloud.publish(release(1))
  return { machine: await supervisedMachine(t, engine, { config: cloud.config }), cloud }
}

/** Waits for as many polls more. */
async function polls(cloud: Cloud, count: number): Promise<void> {
  const enough = cloud.polls.length + count
  await eventually(
    'it polls',
    () => cloud.polls.length,
    (length) => length >= enough,
  )
}

const running = (number: number) => ({ [nameOf('api', number)]: 'running' })

test('a polled target is applied, asked for again by its ETag, and outlives a bad server', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { machine, cloud } = await managed(t, engine)
  await machine.converged(running(1))
  await polls(cloud, 2)
  assert.deepEqual(cloud.polls[0], { etag: undefined, answered: 'well' })
  assert.deepEqual(cloud.polls.at(-1), { etag: '"1"', answered: 304 })
  const posted = await machine.post('/v2/local/target-state', target({ api: {} }))
  assert.equal(posted.status, 400, posted.body)

  let number = 1
  for (const [mood, problem] of [
    [500, 'the server answered 500'],
    ['garbage', 'the answer is no JSON'],
    ['cut', 'Cannot fetch the target'],
  ] as const) {
    number++
    const before = await machine.containers()
    cloud.polled = mood
    cloud.publish(release(number))
    await machine.recorded(problem)
    await polls(cloud, 1)
    assert.deepEqual([...(await machine.containers()).keys()], [...before.keys()], String(mood))
    assert.equal((await machine.api('/v1/healthy')).status, 200)
    cloud.polled = 'well'
    await machine.converged(running(number))
  }
  cloud.publish(cloudTarget(APP, TEST_IMAGE, { 'no name': {} }, 9))
  await machine.recorded('no name')
  await machine.converged(running(number))
})

test('a daemon that starts while the server fails goes on with the target it had', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { machine, cloud } = await managed(t, engine)
  await machine.converged(running(1))
  const { Id } = await machine.container(nameOf('api', 1))
  await machine.kill()
  await engine.client.containers.remove(Id, { force: true })
  cloud.polled = 503
  const before = cloud.polls.length
  await machine.start()
  await machine.recorded('the server answered 503')
  // What is missing is made, by the target that was stored.
  await machine.converged(running(1))
  const made = (await machine.container(nameOf('api', 1))).Id
  cloud.polled = 'well'
  await machine.recorded('targets come from source url again')
  assert.equal(cloud.polls[before]?.etag, undefined, 'an ETag is for the answer that is in memory')
  await polls(cloud, 1)
  assert.equal(cloud.polls.at(-1)?.answered, 304)
  assert.equal((await machine.container(nameOf('api', 1))).Id, made, 'the same target again')
})

test('a refused report is sent again, and after a restart everything once more', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { machine, cloud } = await managed(t, engine)
  const reported = (number: number) =>
    eventually(
      `release ${number} is reported`,
      () => cloud.accepted().apps?.[CLOUD_APP],
      (app) => {
        const known = app?.releases[`c${number}`]
        const { services, update_status } = known ?? {}
        const done = app?.release_uuid === `c${number}` && update_status === 'done'
        return done && services?.api?.status === 'Running'
      },
    )
  await reported(1)
  assert.equal(cloud.accepted().name, 'box')
  // Nothing happens, and nothing is reported.
  const quiet = cloud.reports.length
  await polls(cloud, 2)
  assert.equal(cloud.reports.length, quiet)

  for (const [number, mood] of [
    [2, 500],
    [3, 'cut'],
  ] as const) {
    cloud.reported = mood
    cloud.publish(release(number))
    await machine.recorded(
      mood === 500 ? 'Cannot report: the server answered 500' : 'Cannot report',
    )
    await machine.converged(running(number))
    cloud.reported = 'well'
    await reported(number)
  }

  const before = cloud.reports.length
  await machine.kill()
  await machine.start()
  const [first] = await eventually(
    'it reports again',
    () => cloud.reports.slice(before),
    (reports) => reports.length > 0,
  )
  assert.equal(first?.told.name, 'box')
  assert.ok(Object.hasOwn(first?.told.apps ?? {}, CLOUD_APP), JSON.stringify(first))
})
