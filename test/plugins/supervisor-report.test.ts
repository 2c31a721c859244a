import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { difference, type State } from '../../plugins/supervisor/report/difference.ts'
import { Reporter } from '../../plugins/supervisor/report/reporter.ts'
import { FakeEngine } from './supervisor-apply-fake.ts'
import { device, target, UUID } from './supervisor-apply-fixtures.ts'

interface Report {
  readonly method: string | undefined
  readonly authorization: string | undefined
  readonly body: Record<string, State>
}

/** Takes reports; `statuses` one after the other, then 200. */
async function collector(
  t: TestContext,
  statuses: readonly (number | [number, Record<string, string>])[] = [],
) {
  const reports: Report[] = []
  let wake = () => {}
  const server = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    const answer = statuses[reports.length] ?? 200
    const [status, headers] = Array.isArray(answer) ? answer : [answer, {}]
    reports.push({
      method: request.method,
      authorization: request.headers.authorization,
      body: JSON.parse(text),
    })
    response.writeHead(status, headers).end()
    wake()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    reports,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/device/v3/state`,
    async until(holds: () => boolean): Promise<void> {
      while (!holds()) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}

test('only what changed since the last accepted report is told', async (t) => {
  const { reports, url, until } = await collector(t, [200, 500, 503])
  let state: State = { status: 'Idle', apps: { a: { x: 1 }, b: { x: 1 } } }
  const problems: (string | undefined)[] = []
  const reporter = new Reporter({
    url,
    token: async () => 'geheim',
    deviceUuid: UUID,
    state: () => state,
    intervalMs: 1,
    retryMs: 1,
    maxRetryMs: () => 10,
    timeoutMs: () => 5000,
    onProblem: (problem) => problems.push(problem),
  })
  t.after(() => reporter.stop())
  reporter.start()
  await until(() => reports.length === 1)
  state = { status: 'Idle', apps: { a: { x: 1 }, b: { x: 2 } } }
  reporter.changed()
  await until(() => reports.length === 4)
  assert.deepEqual(reports[0], {
    method: 'PATCH',
    authorization: 'Bearer geheim',
    body: { [UUID]: { status: 'Idle', apps: { a: { x: 1 }, b: { x: 1 } } } },
  })
  // Refused twice, told three times.
  for (const { body } of reports.slice(1)) {
    assert.deepEqual(body, { [UUID]: { apps: { b: { x: 2 } } } })
  }
  assert.deepEqual(problems.slice(0, 2), [
    'Cannot report: the server answered 500',
    'Cannot report: the server answered 503',
  ])
})

test('nothing is reported before a server wants it again', async (t) => {
  const { reports, url, until } = await collector(t, [[429, { 'retry-after': '3600' }]])
  let state = { status: 'Idle' }
  const reporter = new Reporter({
    url,
    deviceUuid: UUID,
    state: () => state,
    intervalMs: 1,
    retryMs: 1,
    maxRetryMs: () => 1,
    timeoutMs: () => 5000,
    onProblem: () => {},
  })
  reporter.start()
  await until(() => reports.length === 1)
  state = { status: 'Updating' }
  reporter.changed()
  await new Promise((tick) => setTimeout(tick, 50))
  assert.equal(reports.length, 1)
  // Stopping does not wait for it.
  await reporter.stop()
})

test('a supervisor reports its apps, without environments', async (t) => {
  const { reports, url, until } = await collector(t)
  const fake = new FakeEngine()
  const supervisor = device().supervisor(fake.engine(), {
    report: { url, intervalMs: 1, device: () => ({ api_port: 48484 }) },
  })
  t.after(() => supervisor.stop())
  await supervisor.start()
  await supervisor.setTarget(target({ api: { environment: { A: 'geheim' } } }))
  const merged = () => {
    let device: Record<string, unknown> = {}
    for (const { body } of reports) device = { ...device, ...body[UUID] }
    return device
  }
  const done = () => JSON.stringify(merged()).includes('"release_uuid":"c1"')
  await until(() => done() && JSON.stringify(merged()).includes('"update_status":"done"'))
  assert.deepEqual(merged(), {
    api_port: 48484,
    apps: {
      101: {
        release_uuid: 'c1',
        releases: {
          c1: {
            update_status: 'done',
            services: { api: { image: 'cvmd-test:latest', status: 'Running' } },
          },
        },
      },
    },
  })
  assert.doesNotMatch(JSON.stringify(reports), /geheim/)
})

test('differences put on the last report give the state of now', () => {
  const Leaf = fc.oneof(fc.integer({ max: 3 }), fc.constantFrom('a', 'b'), fc.constant(null))
  const Names = fc.constantFrom('status', 'apps', '__proto__', 'x')
  const Value = fc.oneof(Leaf, fc.dictionary(Names, Leaf, { noNullPrototype: true }))
  const Whole = fc.dictionary(Names, Value, { noNullPrototype: true })
  fc.assert(
    fc.property(Whole, Whole, (last, now) => {
      const changed = difference(last, now)
      for (const [name, value] of Object.entries(now)) {
        const told = own(changed, name)
        if (told === undefined) assert.deepEqual(own(last, name) ?? null, value)
        else if (typeof value !== 'object' || value === null) assert.deepEqual(told, value)
        else {
          for (const [key, one] of Object.entries(told as State)) {
            assert.deepEqual(one, own(value as State, key))
          }
        }
      }
      assert.deepEqual(difference(now, now), {})
    }),
  )
})

function own(state: State, name: string): unknown {
  return Object.hasOwn(state, name) ? state[name] : undefined
}
