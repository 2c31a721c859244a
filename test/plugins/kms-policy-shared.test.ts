/** Many who ask, and a service that is asked. */
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import * as v from 'valibot'
import { PolicyConfig } from '../../plugins/kms/policy/config.ts'
import { createPolicy } from '../../plugins/kms/policy/index.ts'
import type { Policy } from '../../plugins/kms/policy/policy.ts'
import { BOOT_INFO, json, type StandIn, standIn } from './kms-policy-fixtures.ts'

const YES = { isAllowed: true, gatewayAppId: '', reason: '' }
const NO = { ...YES, isAllowed: false, reason: 'app not registered' }
const OTHER = { ...BOOT_INFO, appId: '99'.repeat(20) }

/** A service that answers when it is told to, and how many questions wait for it. */
interface Slow {
  readonly policy: Policy
  readonly server: StandIn
  readonly ending: AbortController
  /** Answers the oldest question, once there is one. */
  answer(value: object): Promise<void>
  readonly waiting: () => number
}

async function slow(t: TestContext): Promise<Slow> {
  const open: ServerResponse[] = []
  let come = () => {}
  const server = await standIn(t, (_seen, response) => {
    open.push(response)
    response.on('close', () => {
      const at = open.indexOf(response)
      if (at >= 0) open.splice(at, 1)
      come()
    })
    come()
  })
  const ending = new AbortController()
  const config = v.parse(PolicyConfig, { type: 'webhook', url: server.url })
  return {
    policy: createPolicy(config, ending.signal),
    server,
    ending,
    waiting: () => open.length,
    async answer(value) {
      while (open.length === 0) {
        await new Promise<void>((resolve) => {
          come = resolve
        })
      }
      const response = open.shift() as ServerResponse
      json(value)(server.seen[0] as StandIn['seen'][number], response)
    },
  }
}

test('who asks the same is answered together, by a question that began after he asked', async (t) => {
  const { policy, server, answer } = await slow(t)
  const first = policy.kms(BOOT_INFO)
  const later = Array.from({ length: 200 }, () => policy.kms(BOOT_INFO))
  await answer(YES)
  assert.equal((await first).allowed, true)
  // Taken out of the registry while the first was waiting.
  await answer(NO)
  for (const decision of await Promise.all(later)) assert.equal(decision.allowed, false)
  assert.equal(server.seen.length, 2)
  const again = policy.kms(BOOT_INFO)
  await answer(YES)
  assert.equal((await again).allowed, true, 'no answer is kept')
  assert.equal(server.seen.length, 3)
})

test('another machine, or another role, is another question', async (t) => {
  const { policy, server } = await slow(t)
  server.answer = (seen, response) =>
    json(seen.body.includes(OTHER.appId) ? NO : YES)(seen, response)
  const decisions = await Promise.all([
    policy.app(BOOT_INFO),
    policy.app(OTHER),
    policy.kms(BOOT_INFO),
    policy.app(OTHER),
  ])
  assert.deepEqual(
    decisions.map(({ allowed }) => allowed),
    [true, false, true, false],
  )
})

test('who goes away leaves one question behind, not one each', async (t) => {
  const { policy, server, answer, waiting, ending } = await slow(t)
  for (let round = 0; round < 20; round++) {
    const gone = new AbortController()
    const asked = Promise.allSettled(
      Array.from({ length: 10 }, () => [
        policy.kms(BOOT_INFO, gone.signal),
        policy.describe(gone.signal),
      ]).flat(),
    )
    gone.abort()
    for (const one of await asked) {
      assert.equal(one.status === 'rejected' && one.reason.code, 'POLICY_ABORTED')
    }
    await assert.rejects(policy.kms(BOOT_INFO, gone.signal), { code: 'POLICY_ABORTED' })
  }
  await answer(YES)
  await answer(YES)
  assert.ok(server.seen.length <= 4, `${server.seen.length} questions`)
  // Nobody waits for those that came after.
  ending.abort()
  await assert.rejects(policy.kms(BOOT_INFO), { code: 'POLICY_ABORTED' })
  for (let tries = 0; waiting() > 0 && tries < 1000; tries++) {
    await new Promise((turn) => setTimeout(turn, 10))
  }
  assert.equal(waiting(), 0)
})

test('what fails fails for all who waited, and is tried again for the next', async (t) => {
  const { policy, server } = await slow(t)
  server.answer = json(YES, 500)
  const asked = await Promise.allSettled([1, 2, 3].map(() => policy.app(BOOT_INFO)))
  for (const one of asked) {
    assert.equal(one.status === 'rejected' && one.reason.code, 'POLICY_REFUSED')
  }
  server.answer = json(YES)
  assert.equal((await policy.app(BOOT_INFO)).allowed, true)
})
