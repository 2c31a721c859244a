import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeEngine } from './supervisor-apply-fake.ts'
import { APP, applied, device, target, until } from './supervisor-apply-fixtures.ts'

test('a name that a stranger has is a failed update, and is taken when the stranger goes', async (t) => {
  const fake = new FakeEngine()
  const stranger = fake.foreign('api_1001_1_c1')
  const supervisor = device().supervisor(fake.engine())
  t.after(() => supervisor.stop())
  await supervisor.start()
  await supervisor.setTarget(target({ api: {} }))
  const waits = () => supervisor.app(APP)?.waits ?? []
  await until(supervisor, () => waits().some((one) => /is in use/.test(one)), 'the wait')
  assert.equal(supervisor.app(APP)?.updateStatus, 'aborted')
  assert.equal(supervisor.status().updateFailed, true)
  fake.leaves(stranger)
  await applied(supervisor)
  assert.equal(supervisor.status().updateFailed, false)
  assert.equal(fake.box('api')?.state, 'running')
})
