/** The remote form: served for this device, forwarded to peers, one answer of each for an app. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type ApiHost, apiHost } from './supervisor-api-fixtures.ts'

/** Another device: what it was asked, and an answer. */
interface FakePeer {
  readonly url: string
  readonly asked: { method?: string; url?: string; authorization?: string; body: string }[]
  answer: (request: IncomingMessage, response: ServerResponse) => void
  close(): Promise<void>
}

async function fakePeer(): Promise<FakePeer> {
  const asked: FakePeer['asked'] = []
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const { method, url } = request
    const { authorization } = request.headers
    asked.push({
      body,
      ...(method === undefined ? {} : { method }),
      ...(url === undefined ? {} : { url }),
      ...(authorization === undefined ? {} : { authorization }),
    })
    peer.answer(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const peer: FakePeer = {
    url: `http://127.0.0.1:${port}`,
    asked,
    answer: (_request, response) => {
      response.setHeader('content-type', 'application/json')
      response.end('{"from":"peer"}')
    },
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return peer
}

async function withPeer(
  work: (host: ApiHost, peer: FakePeer) => Promise<void>,
  more: Record<string, unknown> = {},
): Promise<void> {
  const peer = await fakePeer()
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  const file = join(folder, 'key')
  writeFileSync(file, `${'a'.repeat(64)}\n`)
  const host = await apiHost({
    device: { uuid: 'dec0de', id: 1, name: 'here' },
    peers: {
      beef: { url: `${peer.url}/`, key: { file }, device_id: 2, app_ids: [101, 303] },
      dead: { url: 'http://127.0.0.1:1', key: { file }, app_ids: [404] },
    },
    ...more,
  })
  try {
    await work(host, peer)
  } finally {
    await host.stop()
    await peer.close()
    rmSync(folder, { recursive: true })
  }
}

async function remote(host: ApiHost, path: string, body: unknown) {
  const answer = await host.call('POST', `/supervisor${path}`, body, '')
  const text = await answer.text()
  const isJson = answer.headers.get('content-type')?.includes('json')
  return { status: answer.status, body: isJson ? JSON.parse(text) : text }
}

test('for this device it is the same call', async () => {
  await withPeer(async (host, peer) => {
    for (const device of [{ uuid: 'dec0de' }, { deviceId: 1 }, { uuid: 'dec0de', deviceId: 1 }]) {
      const { status, body } = await remote(host, '/v2/device/name', device)
      assert.deepEqual([status, body], [200, { status: 'success', deviceName: 'here' }])
    }
    const restart = await remote(host, '/v1/restart', {
      uuid: 'dec0de',
      method: 'POST',
      data: { appId: 101, force: true },
    })
    assert.deepEqual(restart, { status: 200, body: 'OK' })
    assert.deepEqual(host.fake.calls, [['restartApp', 101, { force: true }]])
    assert.equal((await remote(host, '/ping', { uuid: 'dec0de', method: 'GET' })).body, 'OK')
    const quoted = await remote(host, '/v2/device/name', { deviceId: '1' })
    assert.equal(quoted.status, 200)
    const failed = await remote(host, '/v1/restart', { uuid: 'dec0de' })
    assert.deepEqual(failed, { status: 400, body: 'Missing app id' })
    assert.equal(peer.asked.length, 0)
  })
})

test('for this device a failure is what the same call says', async () => {
  await withPeer(async (host) => {
    for (const [path, data] of [
      ['/v1/restart', { appId: 999 }],
      ['/v1/apps/999/stop', {}],
      ['/v2/applications/999/stop-service', { serviceName: 'x' }],
      ['/v1/reboot', []],
      ['/v1/device/host-config', { network: 5 }],
    ] as const) {
      const method = path.endsWith('config') ? 'PATCH' : 'POST'
      const own = await host.call(method, path, data)
      const far = { uuid: 'dec0de', method, data: Array.isArray(data) ? {} : data }
      const asked = await host.call('POST', `/supervisor${path}`, far, '')
      const told = async (answer: Response) => {
        return [answer.status, answer.headers.get('content-type'), await answer.text()]
      }
      assert.deepEqual(await told(asked), await told(own), path)
    }
  })
})

test('with an app beside the device the answer is the device its own', async () => {
  await withPeer(async (host) => {
    const asked = await remote(host, '/v2/version', { deviceId: 1, appId: 101 })
    assert.deepEqual(asked, { status: 200, body: { status: 'success', version: '19.0.5' } })
    assert.equal((await remote(host, '/v2/version', { deviceId: 1, appId: 303 })).status, 404)
  })
})

test('for a peer it is forwarded with its key, and the answer is its own', async () => {
  await withPeer(async (host, peer) => {
    const asked = await remote(host, '/v1/apps/5/stop?x=1&apikey=mine', {
      uuid: 'beef',
      data: { force: true },
    })
    assert.deepEqual(asked, { status: 200, body: { from: 'peer' } })
    assert.deepEqual(peer.asked, [
      {
        method: 'POST',
        url: '/v1/apps/5/stop?x=1',
        authorization: `Bearer ${'a'.repeat(64)}`,
        body: '{"force":true}',
      },
    ])
    peer.answer = (_request, response) => {
      response.writeHead(423, { 'content-type': 'text/plain', 'set-cookie': 'a=b' })
      response.end('locked')
    }
    const locked = await host.call('POST', '/supervisor/v1/update', { deviceId: 2 }, '')
    assert.deepEqual([locked.status, await locked.text()], [423, 'locked'])
    assert.equal(locked.headers.get('set-cookie'), null)
    peer.answer = (_request, response) => {
      response.writeHead(302, { location: 'http://127.0.0.1:1/' })
      response.end()
    }
    assert.equal((await remote(host, '/v1/device', { uuid: 'beef' })).status, 302)
    assert.equal(peer.asked.at(-1)?.method, 'GET', 'as the path has no POST')
  })
})

test('for an app it is an answer of each device that has it', async () => {
  await withPeer(async (host, peer) => {
    const both = await remote(host, '/v2/version', { appId: 101 })
    assert.deepEqual(both, {
      status: 200,
      body: [
        { uuid: 'dec0de', status: 200, body: { status: 'success', version: '19.0.5' } },
        { uuid: 'beef', status: 200, body: { from: 'peer' } },
      ],
    })
    peer.answer = (_request, response) => response.end('x'.repeat(2 * 1024 * 1024))
    const large = await remote(host, '/v2/version', { appId: 303 })
    assert.equal(large.body[0].status, 502)
    assert.equal(large.body[0].body.code, 'REMOTE_ANSWER_TOO_LARGE')
    const dead = await remote(host, '/v2/version', { appId: 404 })
    assert.deepEqual(dead.body, [
      {
        uuid: 'dead',
        status: 502,
        body: {
          status: 'failed',
          message: 'Cannot reach device "dead": no connection',
          code: 'REMOTE_UNREACHABLE',
        },
      },
    ])
  })
})

test('a peer that begins no answer, or ends none, is given up', async () => {
  await withPeer(
    async (host, peer) => {
      peer.answer = () => undefined
      const silent = await remote(host, '/v2/version', { uuid: 'beef' })
      assert.deepEqual([silent.status, silent.body.code], [504, 'REMOTE_TIMEOUT'])
      peer.answer = (_request, response) => void response.write('begun')
      const endless = await remote(host, '/v2/version', { appId: 303 })
      assert.equal(endless.body[0].status, 504)
      const here = await remote(host, '/v2/local/logs', { appId: 202 })
      assert.equal(here.body[0].status, 504)
    },
    { remote_timeout_s: 1 },
  )
})

test('a request that names no device or no call is refused', async () => {
  await withPeer(async (host, peer) => {
    const refused = async (path: string, body: unknown, status: number, code: string) => {
      const answer = await remote(host, path, body)
      assert.deepEqual([answer.status, answer.body.code], [status, code], JSON.stringify(body))
    }
    await refused('/v1/device', {}, 400, 'REMOTE_DEVICE_MISSING')
    await refused('/v1/device', { uuid: 'cafe' }, 404, 'REMOTE_DEVICE_UNKNOWN')
    await refused('/v1/device', { uuid: 'beef', deviceId: 1 }, 404, 'REMOTE_DEVICE_UNKNOWN')
    await refused('/v1/device', { uuid: 'dec0de', method: 'PATCH' }, 404, 'REMOTE_PATH_UNKNOWN')
    await refused('/v1/other', { uuid: 'beef' }, 404, 'REMOTE_PATH_UNKNOWN')
    await refused('/supervisor/v1/device', { uuid: 'beef' }, 404, 'REMOTE_PATH_UNKNOWN')
    await refused('/cvmd/supervisor/key', { uuid: 'dec0de' }, 404, 'REMOTE_PATH_UNKNOWN')
    await refused('//evil.example/ping', { uuid: 'beef' }, 404, 'REMOTE_PATH_UNKNOWN')
    await refused('/v1/device', { uuid: 'dec0de', verb: 'GET' }, 400, 'INVALID_REQUEST')
    await refused('/v1/device', 'nonsense', 400, 'INVALID_JSON')
    assert.deepEqual([peer.asked, host.fake.calls], [[], []])
  })
})
