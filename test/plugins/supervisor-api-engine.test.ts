/** What a call really did, seen from the engine: the whole plugin, a socket, real containers. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { TEST_IMAGE, type TestEngine, useEngine } from '../helpers/engine.ts'
import { type SupervisorServer, serveSupervisor, untilAnswer } from './supervisor-server.ts'

const engineOf = useEngine()

/** Two apps: 101 with one service, 202 with two. */
const TARGET = {
  local: {
    name: 'box',
    config: {},
    apps: {
      101: release('solo', 2000, ['main']),
      202: release('duo', 3000, ['web', 'db']),
    },
  },
}

function release(name: string, image: number, services: readonly string[]) {
  return {
    name,
    commit: 'a1b2c3',
    releaseId: 1001,
    services: Object.fromEntries(
      services.map((serviceName, index) => [
        image + index,
        {
          serviceName,
          serviceId: image + index,
          imageId: image + index,
          image: TEST_IMAGE,
          running: true,
          environment: { LEVEL: 'low' },
          labels: { 'io.balena.features.supervisor-api': '1' },
          volumes: ['data:/data'],
        },
      ]),
    ),
    volumes: { data: {} },
    networks: {},
  }
}

interface Scene {
  readonly engine: TestEngine
  readonly server: SupervisorServer
  post(path: string, body?: unknown, key?: string): Promise<{ status: number; text: string }>
  /** Container of a service, as the engine has it. */
  inspect(service: string): Promise<{ id: string; running: boolean; env: Record<string, string> }>
}

async function scene(t: TestContext, work: (scene: Scene) => Promise<void>): Promise<void> {
  const engine = await engineOf(t)
  if (!engine) return
  const server = await serveSupervisor(engine.socketPath)
  const post: Scene['post'] = async (path, body = {}, key) => {
    const answer = await server.ask(path, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify(body),
    })
    return { status: answer.status, text: await answer.text() }
  }
  const inspect: Scene['inspect'] = async (service) => {
    const [found, ...others] = await engine.client.containers.list({
      all: true,
      labels: [`io.balena.service-name=${service}`],
    })
    assert.deepEqual([found === undefined, others.length], [false, 0], service)
    const { Id, State, Config } = await engine.client.containers.inspect(found?.Id ?? '')
    const env = Object.fromEntries(
      (Config.Env ?? []).map((line: string) => {
        const at = line.indexOf('=')
        return [line.slice(0, at), line.slice(at + 1)]
      }),
    )
    return { id: Id, running: State.Running, env }
  }
  try {
    const set = await post('/v2/local/target-state', TARGET)
    assert.equal(set.status, 200, set.text)
    await untilAnswer(
      server,
      '/v2/applications/state',
      (text) => text.match(/"status":"Running"/g)?.length === 3,
    )
    await untilAnswer(server, '/v2/state/status', (text) => text.includes('"applied"'))
    await work({ engine, server, post, inspect })
  } finally {
    await server.stop()
    await engine.clear()
  }
}

test('stop answers once it stopped, start once it runs; what is shown is what is there', async (t) => {
  await scene(t, async ({ server, post, inspect }) => {
    const before = await inspect('main')
    const stopped = await post('/v1/apps/101/stop')
    assert.deepEqual([stopped.status, JSON.parse(stopped.text)], [200, { containerId: before.id }])
    assert.equal((await inspect('main')).running, false)
    const twice = await post('/v1/apps/101/stop')
    assert.equal(twice.status, 200)
    const shown = await (await server.ask('/v2/applications/101/state')).text()
    assert.match(shown, /"status":"exited"/)
    const started = await post('/v2/applications/101/start-service', { imageId: 2000 })
    assert.deepEqual(started, { status: 200, text: 'OK' })
    assert.deepEqual(
      [(await inspect('main')).id, (await inspect('main')).running],
      [before.id, true],
    )
    const app = (await (await server.ask('/v1/apps/101')).json()) as Record<string, unknown>
    assert.equal(app.containerId, before.id)
    assert.equal((app.env as Record<string, string>).LEVEL, 'low')
    assert.equal('BALENA_SUPERVISOR_API_KEY' in (app.env as object), false)
    const ids = await (await server.ask('/v2/containerId?service=main')).json()
    assert.deepEqual(ids, { status: 'success', containerId: before.id })
  })
})

test('restart makes new containers of one service, or of one app, and leaves the others', async (t) => {
  await scene(t, async ({ post, inspect }) => {
    const idsOf = async () => ({
      main: (await inspect('main')).id,
      web: (await inspect('web')).id,
      db: (await inspect('db')).id,
    })
    const first = await idsOf()
    const one = await post('/v2/applications/202/restart-service', { serviceName: 'db' })
    assert.deepEqual(one, { status: 200, text: 'OK' })
    const second = await idsOf()
    assert.deepEqual([second.main, second.web], [first.main, first.web])
    assert.notEqual(second.db, first.db)
    assert.deepEqual(await post('/v1/restart', { appId: 202 }), { status: 200, text: 'OK' })
    const third = await idsOf()
    assert.equal(third.main, first.main)
    assert.ok(third.web !== second.web && third.db !== second.db)
    for (const service of ['main', 'web', 'db']) assert.ok((await inspect(service)).running)
  })
})

test("a container's key opens its app, and one made anew reaches the container", async (t) => {
  await scene(t, async ({ server, post, inspect }) => {
    const { env, id } = await inspect('main')
    const key = env.BALENA_SUPERVISOR_API_KEY ?? ''
    assert.match(key, /^[0-9a-f]{64}$/)
    assert.equal(env.BALENA_SUPERVISOR_ADDRESS, 'http://10.114.104.1:48484')
    assert.equal((await post('/v1/restart', { appId: 202 }, key)).status, 401)
    const fresh = await post('/v1/regenerate-api-key', {}, key)
    assert.equal(fresh.status, 200)
    assert.equal((await post('/v1/restart', { appId: 101 }, key)).status, 401)
    await untilAnswer(
      server,
      '/v2/containerId?service=main',
      (text) => text.includes('containerId') && !text.includes(id),
    )
    await untilAnswer(server, '/v2/applications/101/state', (text) => text.includes('"Running"'))
    assert.equal((await inspect('main')).env.BALENA_SUPERVISOR_API_KEY, fresh.text)
    assert.deepEqual(await post('/v1/restart', { appId: 101 }, fresh.text), {
      status: 200,
      text: 'OK',
    })
  })
})

test('a lock of the app keeps it as it is, until force removes it', async (t) => {
  await scene(t, async ({ server, post, inspect }) => {
    const folder = join(server.folder, 'locks/101/main')
    mkdirSync(folder, { recursive: true })
    const lock = join(folder, 'updates.lock')
    writeFileSync(lock, '')
    const before = await inspect('main')
    const message = 'Lockfile exists for { appId: 101, service: main }'
    for (const [path, body] of [
      ['/v1/restart', { appId: 101 }],
      ['/v1/purge', { appId: 101 }],
      ['/v1/apps/101/stop', {}],
      ['/v2/applications/101/restart', {}],
      ['/v2/applications/101/stop-service', { serviceName: 'main' }],
    ] as const) {
      const { status, text } = await post(path, body)
      assert.deepEqual([status, JSON.parse(text).message], [423, message], path)
    }
    const reboot = await post('/v1/reboot')
    assert.deepEqual([reboot.status, JSON.parse(reboot.text).Error], [423, message])
    assert.equal((await inspect('main')).id, before.id)
    assert.equal((await post('/v1/restart', { appId: 202 })).status, 200, 'another app')
    assert.equal((await post('/v2/applications/101/restart', { force: true })).status, 200)
    assert.equal(existsSync(lock), false)
    assert.notEqual((await inspect('main')).id, before.id)
  })
})

test('cleanup-volumes lists and removes none but our own that nothing uses', async (t) => {
  await scene(t, async ({ engine, server, post }) => {
    const { volumes } = engine.client
    const ours = { 'io.balena.supervised': 'true', 'io.balena.app-uuid': '101' }
    await volumes.create({ Name: 'foreign' })
    await volumes.create({ Name: '101_old', Labels: ours })
    const named = async () => (await volumes.list()).map(({ Name }) => Name).sort()
    await untilAnswer(server, '/v2/cleanup-volumes?dryRun=1', (text) => text.includes('101_old'))
    const before = await named()
    const listed = JSON.parse((await post('/v2/cleanup-volumes', { dryRun: true })).text)
    assert.deepEqual(listed, { status: 'success', volumes: ['101_old'] })
    assert.deepEqual(await named(), before)
    assert.equal((await server.ask('/v2/cleanup-volumes')).status, 200)
    assert.deepEqual(
      await named(),
      before.filter((name) => name !== '101_old'),
    )
  })
})

test('without its engine the plugin answers from memory, and says what it cannot do', async (t) => {
  await scene(t, async ({ engine, server, post }) => {
    await engine.kill()
    try {
      const refused = await post('/v1/restart', { appId: 101 })
      assert.equal(refused.status, 503)
      assert.match(JSON.parse(refused.text).code, /^ENGINE_/)
      assert.equal((await server.ask('/v1/device')).status, 200)
      const status = await untilAnswer(server, '/v2/state/status', () => {
        return server.notReady() !== undefined
      })
      assert.match(status, /"serviceName":"main"/)
    } finally {
      await engine.start()
    }
    await untilAnswer(server, '/ping', () => server.notReady() === undefined)
    assert.deepEqual(await post('/v1/restart', { appId: 101 }), { status: 200, text: 'OK' })
  })
})
