/** Who may do what: keys, scopes, capabilities, and an API that is open on purpose. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type ApiHost, apiHost, app, service } from './supervisor-api-fixtures.ts'

async function withHost(
  config: Record<string, unknown>,
  work: (host: ApiHost) => Promise<void>,
): Promise<void> {
  const host = await apiHost(config)
  try {
    await work(host)
  } finally {
    await host.stop()
  }
}

test('a key is found in the query, even a wrong one, or else in the header', async () => {
  await withHost({}, async ({ host, key, scoped }) => {
    const wrong = 'f'.repeat(64)
    const ask = async (query: string, authorization?: string) => {
      const headers = authorization === undefined ? {} : { authorization }
      const answer = await host.request(`/v2/version${query}`, { headers })
      const text = await answer.text()
      if (answer.status === 401) assert.equal(text, 'Unauthorized')
      return answer.status
    }
    assert.equal(await ask(`?apikey=${key}`), 200)
    assert.equal(await ask(`?apikey=${scoped}`), 200)
    assert.equal(await ask(`?apikey=${wrong}`, `Bearer ${key}`), 401)
    assert.equal(await ask(`?apikey=`, `Bearer ${key}`), 200)
    assert.equal(await ask(`?apikey=${wrong}&apikey=${wrong}`, `bearer ${key}`), 200)
    assert.equal(await ask(`?ApiKey=${key}`), 401)
    assert.equal(await ask('', `ApiKey ${key}`), 200)
    assert.equal(await ask('', `Bearer  ${key}`), 401)
    assert.equal(await ask('', `Basic ${key}`), 401)
    assert.equal(await ask(''), 401)
  })
})

test('who sends wrong keys is told to wait, a right one passes all the same', async () => {
  await withHost({}, async (host) => {
    const statuses: number[] = []
    for (let i = 0; i < 12; i++) {
      const answer = await host.call('GET', '/v2/version', undefined, 'e'.repeat(64))
      statuses.push(answer.status)
      if (answer.status === 429) assert.match(answer.headers.get('retry-after') ?? '', /^\d+$/)
    }
    assert.deepEqual(statuses, [...Array(10).fill(401), 429, 429])
    assert.equal((await host.call('GET', '/v2/version')).status, 200)
    const told = host.host.messages().filter((text) => text.startsWith('wrong API key'))
    assert.deepEqual(new Set(told), new Set(['wrong API key from 127.0.0.1']))
    assert.ok(!host.host.messages().join().includes('eeee'))
  })
})

test('a key that was made anew is refused at once, and the containers learn theirs', async () => {
  await withHost({}, async (host) => {
    const answer = await host.call('POST', '/v1/regenerate-api-key', undefined, host.scoped)
    const fresh = await answer.text()
    assert.match(fresh, /^[0-9a-f]{64}$/)
    assert.notEqual(fresh, host.scoped)
    assert.deepEqual(host.fake.calls, [['contextChanged']])
    assert.equal((await host.call('GET', '/v2/version', undefined, host.scoped)).status, 401)
    assert.equal((await host.call('GET', '/v2/version', undefined, fresh)).status, 200)
    assert.equal(host.fake.keyOf(101, 'main'), fresh)
    assert.equal((await host.call('POST', '/v1/regenerate-api-key')).status, 200)
    assert.equal((await host.call('GET', '/v2/version')).status, 401, 'its own as well')
    const said = host.host.messages()
    assert.ok(said.includes('API key of service "main" of app 101 regenerated'))
    assert.ok(said.includes('API key of the device regenerated'))
    assert.ok(!said.join().includes(fresh))
  })
})

test('a key opens nothing once its service is gone', async () => {
  await withHost({}, async (host) => {
    assert.equal((await host.call('GET', '/v1/apps/101', undefined, host.scoped)).status, 200)
    host.fake.views = [app(202, 'duo', [service('web', 2002, '2')])]
    host.fake.changed()
    assert.equal((await host.call('GET', '/v1/apps/101', undefined, host.scoped)).status, 401)
    assert.equal((await host.call('GET', '/v2/version')).status, 200)
  })
})

const CAPABILITIES: readonly (readonly [string, string, string, unknown?])[] = [
  ['device:read', 'GET', '/v1/device'],
  ['device:read', 'GET', '/v1/device/host-config'],
  ['device:read', 'GET', '/v2/version'],
  ['device:read', 'GET', '/v2/device/name'],
  ['device:read', 'GET', '/v2/device/tags'],
  ['device:read', 'GET', '/v2/device/vpn'],
  ['device:read', 'GET', '/v2/local/device-info'],
  ['device:blink', 'POST', '/v1/blink'],
  ['device:power', 'POST', '/v1/reboot'],
  ['device:power', 'POST', '/v1/shutdown'],
  ['device:config', 'PATCH', '/v1/device/host-config', { network: {} }],
  ['device:update', 'POST', '/v1/update'],
  ['device:tags', 'PATCH', '/v2/device/tags', {}],
  ['logs', 'POST', '/v2/journal-logs'],
  ['logs', 'GET', '/v2/local/logs'],
  ['target:read', 'GET', '/v2/local/target-state'],
  ['target:write', 'POST', '/v2/local/target-state', { local: {} }],
  ['volumes:clean', 'GET', '/v2/cleanup-volumes'],
  ['volumes:clean', 'POST', '/v2/cleanup-volumes'],
]

test('without a capability a key of a service is refused, the one of the device is not', async () => {
  await withHost({ capabilities: { all: [] } }, async (host) => {
    for (const [, method, path, body] of CAPABILITIES) {
      const answer = await host.call(method, path, body, host.scoped)
      const plain = path === '/v1/device/host-config'
      assert.equal(answer.status, 401, `${method} ${path}`)
      const text = await answer.text()
      if (plain) assert.equal(text, 'Unauthorized')
      else assert.match(text, /"(message|Error)":"Unauthorized"/)
    }
    assert.deepEqual(host.fake.calls, [])
    for (const path of ['/v1/apps/101', '/v2/applications/state', '/v2/containerId']) {
      assert.equal((await host.call('GET', path, undefined, host.scoped)).status, 200, path)
    }
    assert.equal((await host.call('POST', '/v1/update')).status, 204)
  })
})

test('each capability opens what it is for, for the service it is given to', async () => {
  for (const name of new Set(CAPABILITIES.map(([capability]) => capability))) {
    const services = { '101/main': [name], 202: [] }
    await withHost({ capabilities: { all: [], services } }, async (host) => {
      const web = host.fake.keyOf(202, 'web')
      for (const [capability, method, path, body] of CAPABILITIES) {
        // Both turn the machine off; once is enough for this test.
        if (path === '/v1/shutdown') continue
        const answer = await host.call(method, path, body, host.scoped)
        assert.equal(answer.status !== 401, capability === name, `${name}: ${method} ${path}`)
        await answer.body?.cancel()
        const refused = await host.call(method, path, body, web)
        assert.equal(refused.status, 401, `${name}: ${method} ${path} by another`)
      }
    })
  }
})

test('authentication is on in local mode, unless the operator says otherwise', async () => {
  await withHost({}, async (host) => {
    host.fake.localMode = true
    assert.equal((await host.call('GET', '/v1/device', undefined, '')).status, 401)
  })
  await withHost({ authentication: 'unless-local' }, async (host) => {
    assert.equal((await host.call('GET', '/v1/device', undefined, '')).status, 401)
    host.fake.localMode = true
    assert.equal((await host.call('GET', '/v1/device', undefined, '')).status, 200)
    assert.equal((await host.call('GET', '/v1/apps/202', undefined, 'wrong')).status, 400)
    const answer = await host.call('POST', '/v1/purge', { appId: 202 }, '')
    assert.deepEqual([answer.status, host.fake.calls.length], [200, 1])
  })
})

test('all keys come from a given secret, and another secret gives others', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  const file = join(folder, 'master')
  try {
    const keyFrom = async (digit: string) => {
      writeFileSync(file, `${digit.repeat(64)}\n`)
      let key = ''
      await withHost({ master: { file } }, async (host) => {
        key = host.key
      })
      return key
    }
    const first = await keyFrom('1')
    assert.equal(await keyFrom('1'), first)
    assert.notEqual(await keyFrom('2'), first)
    writeFileSync(file, 'too short')
    await assert.rejects(apiHost({ master: { file } }), /must name a file of 64 hex digits/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
