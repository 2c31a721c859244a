import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as v from 'valibot'
import { deviceProblem } from '../src/attester/problems.ts'
import { SelfTest, SelfTestInterval } from '../src/attester/self-test.ts'
import { QueueError } from '../src/device/devices.ts'
import { EventLog } from '../src/events/log.ts'

/** A self-test whose device and clock the test decides on. */
function subject(intervalMs: number) {
  const log = new EventLog()
  const abort = new AbortController()
  const challenges: Uint8Array[] = []
  const control = { now: 0, failure: undefined as Error | undefined }
  const selfTest = new SelfTest({
    intervalMs,
    prove: async (challenge) => {
      challenges.push(challenge)
      if (control.failure) throw control.failure
    },
    events: log.sink('test'),
    signal: abort.signal,
    now: () => control.now,
  })
  const messages = () => log.after(0).map(({ level, message }) => `${level}: ${message}`)
  return { selfTest, control, abort, challenges, messages }
}

test("without an interval it does nothing and stands in nobody's way", async () => {
  const { selfTest, challenges } = subject(0)
  selfTest.start()
  assert.equal(selfTest.notReady(), undefined)
  selfTest.stop()
  assert.deepEqual(challenges, [])
})

test('readiness follows the last test, and events its changes', async () => {
  const { selfTest, control, challenges, messages } = subject(1000)
  assert.match(selfTest.notReady() ?? '', /first self-test/)
  await selfTest.run()
  assert.equal(selfTest.notReady(), undefined)
  assert.deepEqual(messages(), [])

  control.failure = new Error('Cannot read "outblob": EIO')
  await selfTest.run()
  await selfTest.run()
  assert.match(selfTest.notReady() ?? '', /^the last self-test failed: .*EIO$/)
  control.failure = undefined
  await selfTest.run()
  assert.equal(selfTest.notReady(), undefined)
  assert.deepEqual(messages(), [
    'error: self-test failed: Cannot read "outblob": EIO',
    'info: self-test passes again after 2 failures',
  ])
  assert.equal(new Set(challenges.map(String)).size, 4)
  assert.ok(challenges.every(({ length }) => length === 64))
})

test('three intervals without an end are too many', async () => {
  const { selfTest, control } = subject(1000)
  await selfTest.run()
  control.now = 3000
  assert.equal(selfTest.notReady(), undefined)
  control.now = 3001
  assert.match(selfTest.notReady() ?? '', /no self-test ended for 3001 ms/)
})

test('a full queue says nothing of the device', async () => {
  const { selfTest, control, messages } = subject(1000)
  await selfTest.run()
  control.failure = deviceProblem(new QueueError('QUEUE_FULL', 'full')) as Error
  await selfTest.run()
  assert.equal(selfTest.notReady(), undefined)
  assert.deepEqual(messages(), [])
})

test('what ends because the daemon stops is no failure', async () => {
  const { selfTest, control, abort, messages } = subject(1000)
  await selfTest.run()
  control.failure = new QueueError('ABORTED', 'gone')
  abort.abort()
  await selfTest.run()
  assert.deepEqual(messages(), [])
})

test('it begins at once, goes on by itself, and stops', async () => {
  let tests = 0
  let thirdMade = () => {}
  const thrice = new Promise<void>((resolve) => {
    thirdMade = resolve
  })
  const selfTest = new SelfTest({
    intervalMs: 1,
    prove: async () => {
      if (++tests === 3) thirdMade()
    },
    events: new EventLog().sink('test'),
    signal: new AbortController().signal,
  })
  selfTest.start()
  selfTest.start()
  assert.equal(tests, 1)
  await thrice
  selfTest.stop()
  selfTest.stop()
  const ended = tests
  await new Promise((tick) => setTimeout(tick, 20))
  assert.equal(tests, ended)
})

test('the interval is off by default, and never too short', () => {
  assert.equal(v.parse(SelfTestInterval, undefined), 0)
  assert.equal(v.parse(SelfTestInterval, 1000), 1000)
  for (const wrong of [-1, 1, 999, 1000.5, 86_400_001, '1000']) {
    assert.ok(!v.safeParse(SelfTestInterval, wrong).success, String(wrong))
  }
})
