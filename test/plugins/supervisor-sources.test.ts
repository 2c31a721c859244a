import assert from 'node:assert/strict'
import { once } from 'node:events'
import { renameSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { FileSource } from '../../plugins/supervisor/sources/file-source.ts'
import { retryAfterMs } from '../../plugins/supervisor/sources/http.ts'
import { UrlSource } from '../../plugins/supervisor/sources/url-source.ts'
import { freshFolder } from '../helpers/daemon.ts'
import { err, FakeEngine } from './supervisor-apply-fake.ts'
import { applied, device, target, UUID, until } from './supervisor-apply-fixtures.ts'

type Answer = (request: IncomingMessage, response: ServerResponse) => void

/** Serves answers one after the other, the last one again and again. */
async function serve(t: TestContext, ...answers: Answer[]) {
  const requests: IncomingMessage[] = []
  const waiting: { count: number; resolve: () => void }[] = []
  const server = createServer((request, response) => {
    const answer = answers[Math.min(requests.length, answers.length - 1)] as Answer
    requests.push(request)
    answer(request, response)
    for (const { count, resolve } of waiting) if (requests.length >= count) resolve()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    requests,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/state`,
    asked: (count: number) =>
      new Promise<void>((resolve) => {
        if (requests.length >= count) resolve()
        else waiting.push({ count, resolve })
      }),
  }
}

const says =
  (status: number, body: string, headers: Record<string, string> = {}): Answer =>
  (_, response) => {
    response.writeHead(status, headers)
    response.end(body)
  }

function source(t: TestContext, url: string, changes: object = {}) {
  const bodies: unknown[] = []
  const problems: (string | undefined)[] = []
  let wake = () => {}
  const one = new UrlSource({
    url,
    token: async () => 'geheim',
    intervalMs: () => 60_000,
    timeoutMs: () => 5000,
    onTarget: async (body) => {
      bodies.push(body)
      wake()
    },
    onProblem: (problem) => {
      problems.push(problem)
      wake()
    },
    ...changes,
  })
  t.after(() => one.stop())
  const told = () =>
    new Promise<void>((resolve) => {
      wake = resolve
    })
  return { one, bodies, problems, told }
}

test('a URL is asked with the token, and after that whether it changed', async (t) => {
  const { url, requests, asked } = await serve(
    t,
    says(200, '{"a":1}', { etag: '"one"' }),
    says(304, ''),
    says(200, '{"a":2}'),
  )
  const { one, bodies, problems, told } = source(t, url)
  const first = told()
  one.start()
  await first
  await one.refresh()
  await one.refresh()
  await asked(3)
  assert.deepEqual(bodies, [{ a: 1 }, { a: 2 }])
  assert.deepEqual(problems, [])
  assert.equal(one.good, true)
  assert.equal(requests[0]?.headers.authorization, 'Bearer geheim')
  assert.deepEqual(
    requests.map(({ headers }) => headers['if-none-match']),
    [undefined, '"one"', '"one"'],
  )
})

test('a target that could not be taken is asked for as a whole again', async (t) => {
  const { url, requests } = await serve(t, says(200, '{}', { etag: '"one"' }))
  let fails = true
  const { one, problems } = source(t, url, {
    onTarget: async () => {
      if (fails) throw new Error('not measured')
    },
  })
  await one.refresh()
  fails = false
  await one.refresh()
  assert.deepEqual(problems, ['Cannot fetch the target: not measured', undefined])
  assert.equal(requests[1]?.headers['if-none-match'], undefined)
})

test('failures are told once, tried again with pauses, and show no token', async (t) => {
  const { url, asked } = await serve(
    t,
    says(500, 'geheim'),
    says(503, ''),
    says(302, '', { location: 'http://127.0.0.1:1/' }),
    says(200, 'no json'),
    (_, response) => response.destroy(),
    says(200, '{}'),
  )
  const { one, bodies, problems, told } = source(t, url, { retryMs: 1 })
  one.start()
  await asked(6)
  while (bodies.length === 0 || problems.at(-1) !== undefined) await told()
  assert.deepEqual(problems.slice(0, 4), [
    'Cannot fetch the target: the server answered 500',
    'Cannot fetch the target: the server answered 503',
    'Cannot fetch the target: the server answered 302',
    'Cannot fetch the target: the answer is no JSON',
  ])
  assert.doesNotMatch(problems.join(), /geheim/)
})

test('what one answer asks for does not hold after the next', async (t) => {
  const { url, asked } = await serve(
    t,
    says(503, '', { 'retry-after': '3600' }),
    (_, response) => response.destroy(),
    says(200, '{}'),
  )
  const { one } = source(t, url, { retryMs: 1 })
  one.start()
  await asked(1)
  await one.refresh()
  await asked(3)
})

test('an answer that is too long, or does not come, ends', async (t) => {
  const { url } = await serve(
    t,
    (_, response) => {
      response.writeHead(200)
      const chunk = Buffer.alloc(1024 * 1024, 32)
      const more = () => {
        while (!response.destroyed && response.write(chunk));
      }
      response.on('drain', more)
      more()
    },
    () => {},
  )
  const { one, problems } = source(t, url, { timeoutMs: () => 3000 })
  await one.refresh()
  assert.match(problems[0] ?? '', /has more than 10485760 bytes/)
  const late = source(t, url, { timeoutMs: () => 50 })
  await late.one.refresh()
  assert.deepEqual(late.problems, ['Cannot fetch the target: no answer within 50 ms'])
})

test('a file is read at the start, when it changes, and when it is asked for', async (t) => {
  const path = join(freshFolder(), 'target.json')
  const bodies: unknown[] = []
  const problems: (string | undefined)[] = []
  let wake = () => {}
  const one = new FileSource({
    path,
    lookMs: 10,
    onTarget: async (body) => {
      bodies.push(body)
      wake()
    },
    onProblem: (problem) => {
      problems.push(problem)
      wake()
    },
  })
  t.after(() => one.stop())
  const holds = async (what: () => boolean) => {
    while (!what()) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
  one.start()
  await holds(() => problems.length === 1)
  assert.match(problems[0] ?? '', /ENOENT/)
  writeFileSync(`${path}.new`, '{"a":1}')
  renameSync(`${path}.new`, path)
  await holds(() => bodies.length === 1 && problems.length === 2)
  writeFileSync(`${path}.new`, '{"a":')
  renameSync(`${path}.new`, path)
  await holds(() => problems.length === 3)
  assert.match(problems[2] ?? '', /it is no JSON/)
  assert.equal(one.good, false)
  writeFileSync(`${path}.new`, '{"a":22}')
  renameSync(`${path}.new`, path)
  await holds(() => bodies.length === 2)
  await one.refresh()
  assert.deepEqual(bodies, [{ a: 1 }, { a: 22 }, { a: 22 }])
})

test('a supervisor with a file applies it, refuses posts, and keeps it when it becomes wrong', async (t) => {
  const path = join(freshFolder(), 'target.json')
  const environment = { A: '1' }
  const cloud = (commit: string, name = 'api') => ({
    [UUID]: {
      name: 'box',
      config: {},
      apps: {
        aaaa: {
          id: 101,
          name: 'one',
          releases: {
            [commit]: {
              id: 1,
              services: {
                [name]: { id: 1, image_id: 1, image: 'cvmd-test:latest', environment, labels: {} },
              },
              volumes: {},
              networks: {},
            },
          },
        },
      },
    },
  })
  writeFileSync(path, JSON.stringify(cloud('c1')))
  const fake = new FakeEngine()
  const place = device()
  const supervisor = place.supervisor(fake.engine(), { targetFile: path })
  t.after(() => supervisor.stop())
  await supervisor.start()
  await applied(supervisor)
  assert.equal(supervisor.localMode, false)
  assert.equal(supervisor.target().source, 'file')
  await assert.rejects(supervisor.setTarget(target({ web: {} })), {
    status: 400,
    code: 'NOT_LOCAL',
    message: 'Target state can only set when device is in local mode',
  })
  writeFileSync(path, JSON.stringify(cloud('c2', 'not/a name')))
  await supervisor.update()
  await until(supervisor, () => supervisor.health().targetFetched === false, 'the refusal')
  assert.equal(supervisor.app(101)?.commit, 'c1')
  assert.equal(supervisor.health().healthy, true)
  writeFileSync(path, JSON.stringify(cloud('c3')))
  await supervisor.update()
  await until(supervisor, () => supervisor.app(101)?.commit === 'c3', 'the new target')
  await applied(supervisor)
  assert.equal(fake.box('api')?.name, 'api_1_1_c3')
})

test('an image goes with the last service that names it, and no image of strangers ever', async (t) => {
  const path = join(freshFolder(), 'target.json')
  const fake = new FakeEngine()
  const supervisor = device().supervisor(fake.engine(), { targetFile: path })
  t.after(() => supervisor.stop())
  const image = 'registry.test/shared:1'
  const put = async (services: Parameters<typeof target>[0], commit: string) => {
    writeFileSync(path, JSON.stringify(target(services, { commit })))
    await supervisor.update()
    await until(supervisor, () => supervisor.app(101)?.commit === commit, commit)
    await applied(supervisor)
    await until(supervisor, () => supervisor.status().appState === 'applied', 'the rest')
  }
  writeFileSync(path, JSON.stringify(target({})))
  await supervisor.start()
  await put({ api: { image }, web: { image } }, 'c2')
  await put({ api: { image } }, 'c3')
  assert.ok(fake.imgs.has(image))
  await put({ api: {} }, 'c4')
  await until(supervisor, () => !fake.imgs.has(image), 'the removal')
  await put({ web: { image: 'registry.test/other:1' } }, 'c5')
  assert.deepEqual([...fake.imgs.keys()].sort(), ['cvmd-test:latest', 'registry.test/other:1'])
  // Somebody holds on to it in a way that is not seen here (spec §24.8).
  fake.before = (call) => {
    if (call.startsWith('images.remove')) throw err('CONFLICT')
  }
  await put({ api: {} }, 'c6')
  assert.equal(supervisor.status().updateFailed, false)
  assert.ok(fake.imgs.has('registry.test/other:1'))
  assert.equal(fake.calls.filter((call) => call.startsWith('images.remove')).length, 2)
})

test('Retry-After is seconds or a date, at most an hour', () => {
  assert.equal(retryAfterMs(null, 0), undefined)
  assert.equal(retryAfterMs('7', 0), 7000)
  assert.equal(retryAfterMs('9999999', 0), 3_600_000)
  assert.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:10 GMT', 4000), 6000)
  assert.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:10 GMT', 14_000), 0)
  assert.equal(retryAfterMs('soon', 0), undefined)
  fc.assert(
    fc.property(fc.string(), fc.integer(), (text, now) => {
      const ms = retryAfterMs(text, now)
      assert.ok(ms === undefined || (ms >= 0 && ms <= 3_600_000))
    }),
  )
})
