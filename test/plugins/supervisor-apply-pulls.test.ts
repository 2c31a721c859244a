import assert from 'node:assert/strict'
import { test } from 'node:test'
import { err, FakeEngine } from './supervisor-apply-fake.ts'
import { APP, applied, device, target, until } from './supervisor-apply-fixtures.ts'

test('a pull whose answer was lost is no failure any more when its image is there', async (t) => {
  const fake = new FakeEngine()
  fake.after = (call) => {
    if (call.startsWith('images.pull')) throw err('UNREACHABLE')
  }
  const supervisor = device().supervisor(fake.engine())
  t.after(() => supervisor.stop())
  await supervisor.start()
  await supervisor.setTarget(target({ api: { image: 'registry.test/api:1' } }))
  await until(supervisor, () => fake.box('api')?.state === 'running', 'the start')
  await applied(supervisor, APP)
  await until(supervisor, () => supervisor.status().appState === 'applied', 'the end')
  assert.equal(supervisor.status().updateFailed, false)
})
