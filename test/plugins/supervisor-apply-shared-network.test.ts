import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeEngine } from './supervisor-apply-fake.ts'
import { APP, applied, device, serviceOf, target, until } from './supervisor-apply-fixtures.ts'

test('a service in the network of one that was stopped waits for it, and fails nothing', async (t) => {
  const fake = new FakeEngine()
  const supervisor = device().supervisor(fake.engine())
  t.after(() => supervisor.stop())
  await supervisor.start()
  const services = (value: string) => ({
    proxy: {},
    web: { network_mode: 'service:proxy', environment: { A: value } },
  })
  await supervisor.setTarget(target(services('1')))
  await applied(supervisor)
  await supervisor.stopService({ appId: APP, serviceName: 'proxy' })
  await assert.rejects(supervisor.restartService({ appId: APP, serviceName: 'web' }), {
    code: 'OPERATION_FAILED',
    message: /web waits for proxy/,
  })
  await supervisor.setTarget(target(services('2'), { commit: 'c2', releaseId: 2 }))
  await applied(supervisor)
  assert.equal(supervisor.status().updateFailed, false)
  assert.equal(serviceOf(supervisor, 'web').status, 'Installed')
  assert.equal(fake.box('proxy')?.state, 'exited')
  const starts = fake.calls.filter((call) => call.includes('.start'))
  assert.equal(starts.length, 2, 'none is tried in vain')
  await supervisor.startService({ appId: APP, serviceName: 'proxy' })
  await until(supervisor, () => fake.box('web')?.state === 'running', 'the start')
  assert.equal(fake.box('web')?.body.Env?.includes('A=2'), true)
})

test('nobody waits for a service that shares the network of one that shall not run', async (t) => {
  const fake = new FakeEngine()
  const supervisor = device().supervisor(fake.engine())
  t.after(() => supervisor.stop())
  await supervisor.start()
  const services = {
    proxy: { running: false },
    web: { network_mode: 'service:proxy' },
    probe: { network_mode: 'service:web' },
    log: { depends_on: ['web'] },
  }
  await supervisor.setTarget(target(services))
  await applied(supervisor)
  assert.equal(supervisor.status().appState, 'applied')
  assert.equal(fake.box('log')?.state, 'running')
  assert.equal(fake.box('probe')?.state, 'created')
})
