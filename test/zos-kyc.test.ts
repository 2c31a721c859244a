import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { createKyc, type Kyc, type KycOptions } from '../plugins/zos/kyc/create-kyc.ts'
import { ZosError } from '../plugins/zos/zos-error.ts'
import { within } from '../src/deadline.ts'

/** A status and a body; `silence`, or `cut` for a connection that ends. */
type Answer = readonly [status: number, body: string] | 'silence' | 'cut'

interface Rig {
  readonly kyc: Kyc
  readonly url: URL
  /** Paths that were asked for. */
  readonly asked: string[]
  /** Answers in turn; the last one stays. */
  answers: Answer[]
  now: number
}

const VERIFIED: Answer = [200, '{"result":{"status":"VERIFIED"}}']

/** A service of the test's own, with a client that does not pause for long. */
async function withService(
  work: (rig: Rig) => Promise<void>,
  options: Partial<KycOptions> = {},
): Promise<void> {
  const server = createServer((request, response) => {
    rig.asked.push(request.url ?? '')
    const answer = rig.answers.length > 1 ? rig.answers.shift() : rig.answers[0]
    if (answer === 'cut') request.socket.destroy()
    if (typeof answer === 'string' || answer === undefined) return
    response.statusCode = answer[0]
    response.end(answer[1])
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/base/`)
  const rig: Rig = {
    url,
    asked: [],
    answers: [VERIFIED],
    now: 0,
    kyc: createKyc({ url, pauseMs: 1, timeoutMs: 20_000, now: () => rig.now, ...options }),
  }
  try {
    await within(60_000, work(rig), 'end its test')
  } finally {
    await new Promise((resolve) => {
      server.close(resolve)
      server.closeAllConnections()
    })
  }
}

async function refused(work: Promise<void>, kind: string, message: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof ZosError, String(error))
    assert.equal(error.kind, kind)
    assert.match(error.message, message)
    return true
  })
}

test('a verified twin passes and is remembered for a while', () =>
  withService(async (rig) => {
    await rig.kyc.check(42)
    rig.now = 599_000
    await rig.kyc.check(42)
    assert.deepEqual(rig.asked, ['/base/api/v1/status?twin_id=42'])
    rig.now = 601_000
    await rig.kyc.check(42)
    assert.equal(rig.asked.length, 2)
  }))

test('a twin that is not verified is refused in the words of the reference, and not remembered', () =>
  withService(async (rig) => {
    const answers: readonly Answer[] = [
      [200, '{"result":{"status":"PENDING"}}'],
      [200, '{"result":{"status":"verified"}}'],
      [404, ''],
    ]
    for (const answer of answers) {
      rig.answers = [answer]
      await refused(rig.kyc.check(42), 'forbidden', /^user with twin id 42 is not verified$/)
    }
    assert.equal(rig.asked.length, 3)
    rig.answers = [VERIFIED]
    await rig.kyc.check(42)
  }))

test('a service that fails is asked five times more', () =>
  withService(async (rig) => {
    const fault: Answer = [500, 'x']
    rig.answers = [fault, 'cut', [200, '<html>'], [200, '{"result":null}'], fault, VERIFIED]
    await rig.kyc.check(42)
    assert.equal(rig.asked.length, 6)
    rig.answers = [[502, '']]
    await refused(
      rig.kyc.check(43),
      'unavailable',
      /^failed to get the verification status of twin 43 from http:\/\/127\.0\.0\.1:\d+: status 502$/,
    )
    assert.equal(rig.asked.length, 12)
  }))

test('answers that are absurd are faults of the service', () =>
  withService(async (rig) => {
    const cases: readonly (readonly [Answer, RegExp])[] = [
      [[200, `{"result":{"status":7}}`], /its answer has no result\.status$/],
      [[200, '[]'], /its answer has no result\.status$/],
      [[200, ' '.repeat(70_000)], /more than 65536 bytes$/],
      [[302, ''], /status 302$/],
    ]
    for (const [answer, message] of cases) {
      rig.answers = [answer]
      await refused(rig.kyc.check(42), 'unavailable', message)
    }
  }))

test('a service that is silent is given up', () =>
  withService(
    async (rig) => {
      rig.answers = ['silence']
      await refused(rig.kyc.check(42), 'unavailable', /no answer within 50 ms$/)
      assert.equal(rig.asked.length, 6)
    },
    { timeoutMs: 50 },
  ))

test("a caller who goes away ends it with the caller's reason", () =>
  withService(
    async (rig) => {
      const abort = new AbortController()
      rig.answers = ['silence']
      const waits = rig.kyc.check(42, abort.signal)
      abort.abort(new Error('gone'))
      await assert.rejects(waits, /^Error: gone$/)
      const later = new AbortController()
      rig.answers = [[500, '']]
      const pauses = rig.kyc.check(42, later.signal)
      setTimeout(() => later.abort(new Error('gone')), 50)
      await assert.rejects(pauses, /^Error: gone$/)
    },
    { pauseMs: 60_000 },
  ))

test('not too many are asked for at once', () =>
  withService(async (rig) => {
    const abort = new AbortController()
    rig.answers = ['silence']
    const waiting = Array.from({ length: 64 }, (_, twin) => rig.kyc.check(twin + 1, abort.signal))
    await refused(rig.kyc.check(99), 'unavailable', /^too many verification statuses/)
    abort.abort(new Error('gone'))
    await Promise.allSettled(waiting)
    rig.answers = [VERIFIED]
    await rig.kyc.check(99)
  }))
