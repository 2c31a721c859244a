import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { test } from 'node:test'
import type { Engine } from '../src/engine/engine.ts'
import { type EngineErrorCode, isEngineError } from '../src/engine/error.ts'
import type { LogLine } from '../src/engine/log-lines.ts'
import { TEST_IMAGE, useEngine } from './helpers/engine.ts'
import { startRegistry } from './helpers/registry.ts'

const engineOf = useEngine()

const code = (wanted: EngineErrorCode) => (error: unknown) => isEngineError(error, wanted)

/** Starts a container that runs these words of a shell. */
async function run(
  engine: Engine,
  name: string,
  shell: string,
  more: object = {},
): Promise<string> {
  const body = { Image: TEST_IMAGE, Cmd: ['sh', '-c', shell], ...more }
  const { Id } = await engine.containers.create(name, body)
  await engine.containers.start(Id)
  return Id
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

const textsOf = (lines: readonly LogLine[], stream: LogLine['stream']) =>
  lines.filter((line) => line.stream === stream).map(({ text }) => text)

test('Docker says what it is', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  await client.ping()
  const spoken = await client.spoken()
  assert.equal(spoken.product, 'docker')
  assert.ok(spoken.minor >= 41)
  assert.match((await client.version()).Version, /^\d+\.\d+/)
  const info = await client.info()
  assert.ok(info.ID !== '' && info.NCPU > 0 && info.MemTotal > 0)
  const [image] = await client.images.list({ references: [TEST_IMAGE] })
  assert.deepEqual(image?.RepoTags, [TEST_IMAGE])
})

test('a container lives its whole life', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers } = client
  const labels = { 'io.example.app': '7' }
  const { Id, Warnings } = await containers.create('api', {
    Image: TEST_IMAGE,
    Env: ['SECRET=canary'],
    Labels: labels,
    HostConfig: { RestartPolicy: { Name: 'always' } },
  })
  assert.deepEqual(Warnings, [])
  await assert.rejects(containers.create('api', { Image: TEST_IMAGE }), code('ENGINE_CONFLICT'))

  const created = await containers.inspect('api')
  assert.equal(created.Id, Id)
  assert.equal(created.State.Status, 'created')
  assert.equal(created.HostConfig.RestartPolicy?.Name, 'always')
  assert.ok(created.Config.Env.includes('SECRET=canary'))
  assert.deepEqual(created.Config.Labels, labels)

  assert.equal(await containers.start('api'), true)
  assert.equal(await containers.start('api'), false, 'it ran')
  const [listed, ...others] = await containers.list({ labels: ['io.example.app=7'] })
  assert.deepEqual(others, [])
  assert.deepEqual([listed?.Id, listed?.State, listed?.Names], [Id, 'running', ['/api']])
  assert.deepEqual(await containers.list({ labels: ['io.example.app=8'] }), [])

  await containers.update('api', { RestartPolicy: { Name: 'no' } })
  assert.equal((await containers.inspect('api')).HostConfig.RestartPolicy?.Name, 'no')
  await containers.rename('api', 'old_api')
  await assert.rejects(containers.inspect('api'), code('ENGINE_NOT_FOUND'))
  await assert.rejects(containers.remove('old_api'), code('ENGINE_CONFLICT'))

  assert.equal(await containers.stop('old_api', { seconds: 5 }), true)
  assert.equal((await containers.inspect(Id)).State.Running, false)
  assert.equal(await containers.stop('old_api'), false, 'it was stopped')
  assert.deepEqual(await containers.wait('old_api'), { status: 0 })
  assert.deepEqual(await containers.list({ all: false }), [])
  await containers.remove('old_api')
  await assert.rejects(containers.remove('old_api'), code('ENGINE_NOT_FOUND'))
  for (const call of [
    () => containers.start('none'),
    () => containers.stop('none'),
    () => containers.kill('none'),
    () => containers.rename('none', 'other'),
    () => containers.wait('none'),
    () => containers.logs('none').next(),
    () => containers.logs('none', { tty: false }).next(),
  ]) {
    await assert.rejects(call, code('ENGINE_NOT_FOUND'))
  }
})

test('a container is killed, and waited for from before its end', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers } = client
  await run(client, 'stubborn', 'trap "exit 3" USR1; echo ready; while :; do sleep 0.01; done')
  const logs = containers.logs('stubborn', { follow: true })
  assert.equal((await logs.next()).value?.text, 'ready')
  const exit = containers.wait('stubborn')
  await containers.kill('stubborn', 'SIGUSR1')
  assert.deepEqual(await exit, { status: 3 })
  assert.equal((await logs.next()).done, true, 'its log ends with it')
  await assert.rejects(containers.kill('stubborn'), code('ENGINE_CONFLICT'))
  await containers.remove('stubborn')
})

test('a paused container stands still until it is resumed', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { containers } = engine.client
  await run(engine.client, 'frozen', 'while :; do echo line; sleep 0.01; done')
  const logs = containers.logs('frozen', { follow: true })
  assert.equal((await logs.next()).value?.text, 'line')
  await containers.pause('frozen')
  const { State } = await containers.inspect('frozen')
  assert.deepEqual([State.Status, State.Running], ['paused', true])
  await assert.rejects(containers.pause('frozen'), code('ENGINE_CONFLICT'))
  const count = async () => (await collect(containers.logs('frozen'))).length
  const before = await count()
  assert.equal(await count(), before)
  await containers.unpause('frozen')
  assert.equal((await containers.inspect('frozen')).State.Status, 'running')
  await assert.rejects(containers.unpause('frozen'), (error) => isEngineError(error))
  await logs.return(undefined)
  for (const call of [containers.pause, containers.unpause]) {
    await assert.rejects(call('none'), code('ENGINE_NOT_FOUND'))
  }
  await containers.remove('frozen', { force: true })
})

test('what cannot be made or started says why, without what was secret', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { containers } = engine.client
  const missing = containers.create('a1', { Image: 'none:1' })
  await assert.rejects(missing, code('ENGINE_NOT_FOUND'))
  const bad = containers.create('a1', { Image: TEST_IMAGE, Env: ['=canary-value'] })
  await assert.rejects(bad, (error) => {
    assert.ok(isEngineError(error, 'ENGINE_REJECTED'))
    assert.match(
      error.message,
      /^Cannot create container "a1": the engine answered 400: .*\[masked\]/,
    )
    return !/canary/.test(error.message)
  })
  await containers.create('a1', { Image: TEST_IMAGE, Cmd: ['no-such-program'] })
  await assert.rejects(containers.start('a1'), (error) => {
    assert.ok(isEngineError(error))
    return /no-such-program/.test(error.detail ?? '')
  })
  await containers.remove('a1', { force: true, volumes: true })
})

test('logs of both kinds come line by line, from the place where they were left', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers } = client
  const shell = 'echo one; echo two >&2; seq -s x 10000; printf "end without newline"'
  await run(client, 'framed', shell)
  assert.deepEqual(await containers.wait('framed'), { status: 0 })
  const lines = await collect(containers.logs('framed'))
  const numbers = Array.from({ length: 10_000 }, (_, index) => index + 1).join('x')
  assert.deepEqual(textsOf(lines, 'stdout'), ['one', numbers, 'end without newline'])
  assert.deepEqual(textsOf(lines, 'stderr'), ['two'])
  for (const { time, cut } of lines) {
    assert.match(time ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/)
    assert.equal(cut, false)
  }
  const errors = await collect(containers.logs('framed', { only: 'stderr' }))
  assert.deepEqual(textsOf(errors, 'stderr'), ['two'])
  const [first, long] = await collect(
    containers.logs('framed', { only: 'stdout', maxLineBytes: 10 }),
  )
  assert.deepEqual([first?.text, first?.cut], ['one', false])
  assert.deepEqual([long?.text, long?.cut], [numbers.slice(0, 10), true])
  const last = await collect(containers.logs('framed', { tail: 1 }))
  assert.deepEqual(textsOf(last, 'stdout'), ['end without newline'])

  await run(client, 'terminal', 'echo one; echo two >&2; seq -s x 10000', { Tty: true })
  await containers.wait('terminal')
  const raw = await collect(containers.logs('terminal'))
  assert.deepEqual(textsOf(raw, 'stdout'), ['one', 'two', numbers])
  const [one, two] = raw
  assert.ok(one?.time && two?.time && one.time < two.time)
  const later = await collect(containers.logs('terminal', { since: two.time, tty: true }))
  assert.deepEqual(textsOf(later, 'stdout'), ['two', numbers])
  await assert.rejects(
    collect(containers.logs('terminal', { since: 'yesterday', tty: true })),
    code('ENGINE_REJECTED'),
  )
  for (const name of ['framed', 'terminal']) await containers.remove(name)
})

test('followed logs end when the reader leaves or aborts', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers } = client
  await run(client, 'talker', 'while :; do echo line; sleep 0.01; done')
  let count = 0
  for await (const { text } of containers.logs('talker', { follow: true })) {
    assert.equal(text, 'line')
    if (++count === 5) break
  }
  const controller = new AbortController()
  const reason = new Error('enough')
  const reading = collect(containers.logs('talker', { follow: true, signal: controller.signal }))
  const failed = assert.rejects(reading, reason)
  controller.abort(reason)
  await failed
  await containers.remove('talker', { force: true })
})

test('networks carry names between containers', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers, networks } = client
  const Labels = { 'io.example': 'yes' }
  const id = await networks.create({
    Name: 'cafe_default',
    Driver: 'bridge',
    Labels,
    IPAM: { Config: [{ Subnet: '10.99.7.0/24', Gateway: '10.99.7.1' }] },
    Options: { 'com.docker.network.bridge.name': 'cafe0' },
  })
  const body = { Name: 'cafe_default' }
  await assert.rejects(networks.create(body), code('ENGINE_CONFLICT'))
  const network = await networks.inspect('cafe_default')
  assert.equal(network.Id, id)
  assert.deepEqual(network.Labels, Labels)
  assert.deepEqual(network.Options, { 'com.docker.network.bridge.name': 'cafe0' })
  assert.equal(network.IPAM?.Config[0]?.Gateway, '10.99.7.1')
  assert.equal((await networks.list({ labels: ['io.example=yes'] })).length, 1)

  await run(client, 'server', 'while :; do echo hello | nc -l -p 80; done', {
    NetworkingConfig: { EndpointsConfig: { cafe_default: { Aliases: ['db'] } } },
    HostConfig: { NetworkMode: 'cafe_default' },
  })
  const shell = 'until nc db 80; do sleep 0.05; done; until nc other 80; do sleep 0.05; done'
  const HostConfig = { NetworkMode: 'cafe_default' }
  await containers.create('client', { Image: TEST_IMAGE, Cmd: ['sh', '-c', shell], HostConfig })
  await networks.disconnect('cafe_default', 'server')
  await networks.connect('cafe_default', 'server', { Aliases: ['db', 'other'] })
  await containers.start('client')
  assert.deepEqual(await containers.wait('client'), { status: 0 })
  assert.deepEqual(textsOf(await collect(containers.logs('client')), 'stdout'), ['hello', 'hello'])

  const connected = Object.values((await networks.inspect(id)).Containers)
  assert.deepEqual(
    connected.map(({ Name }) => Name),
    ['server'],
  )
  const details = await containers.inspect('server')
  assert.equal(details.NetworkSettings.Networks.cafe_default?.NetworkID, id)
  await assert.rejects(networks.remove(id), code('ENGINE_REJECTED'))
  await containers.remove('client')
  await containers.remove('server', { force: true })
  await networks.remove(id)
  await assert.rejects(networks.inspect(id), code('ENGINE_NOT_FOUND'))
})

test('volumes keep what containers write, and are seen in their mounts', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers, volumes } = client
  const Labels = { 'io.example': 'yes' }
  const volume = await volumes.create({ Name: '7_data', Labels })
  assert.deepEqual([volume.Name, volume.Labels], ['7_data', Labels])
  assert.deepEqual((await volumes.create({ Name: '7_data' })).Labels, Labels)
  const HostConfig = { Binds: ['7_data:/data'] }
  await run(client, 'writer', 'echo kept > /data/file', {
    HostConfig,
    Volumes: { '/anonymous': {} },
  })
  await containers.wait('writer')
  assert.ok(existsSync(`${volume.Mountpoint}/file`), 'paths are the same outside')
  const [listed] = await containers.list()
  assert.deepEqual(listed?.Mounts.map(({ Type, Destination }) => [Type, Destination]).sort(), [
    ['volume', '/anonymous'],
    ['volume', '/data'],
  ])
  assert.equal((await volumes.list()).length, 2)
  assert.equal((await volumes.list({ labels: ['io.example'] })).length, 1)
  await assert.rejects(volumes.remove('7_data'), code('ENGINE_CONFLICT'))
  await containers.remove('writer', { volumes: true })
  assert.deepEqual(
    (await volumes.list()).map(({ Name }) => Name),
    ['7_data'],
  )
  assert.equal((await volumes.inspect('7_data')).Name, '7_data')
  await volumes.remove('7_data')
  await assert.rejects(volumes.inspect('7_data'), code('ENGINE_NOT_FOUND'))
})

test('images get and lose names, and are not removed under a container', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers, images } = client
  const { Id, Config } = await images.inspect(TEST_IMAGE)
  assert.equal(Config?.Cmd?.[0], 'sh')
  await images.tag(TEST_IMAGE, 'team/other:2')
  assert.equal((await images.inspect('team/other:2')).Id, Id)
  assert.equal((await images.inspect(Id)).RepoTags.length, 2)
  await assert.rejects(images.remove(Id), code('ENGINE_CONFLICT'))
  await images.remove('team/other:2')
  await assert.rejects(images.inspect('team/other:2'), code('ENGINE_NOT_FOUND'))
  await assert.rejects(images.remove('team/other:2'), code('ENGINE_NOT_FOUND'))
  await assert.rejects(images.tag(TEST_IMAGE, 'Not A Name'), code('ENGINE_REJECTED'))
  await run(client, 'user', 'sleep 1000')
  await assert.rejects(images.remove(TEST_IMAGE), code('ENGINE_CONFLICT'))
  await containers.remove('user', { force: true })
})

test('a pull shows its progress, and gives the image', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { images } = engine.client
  const registry = await startRegistry(t, { address: engine.hostAddress, content: 'progress' })
  const image = `${registry.host}/team/app:1.0`
  const seen: { status: string; layer: string; current: number; total: number }[] = []
  await images.pull(image, { onProgress: (progress) => void seen.push(progress) })
  const { RepoDigests, Config, Id } = await images.inspect(image)
  assert.deepEqual(RepoDigests, [`${registry.host}/team/app@${registry.digest}`])
  assert.deepEqual(Config?.Labels, { 'io.example': 'progress' })
  const sized = seen.filter(({ layer, total }) => layer !== '' && total > 0)
  assert.ok(sized.length > 0, JSON.stringify(seen))
  assert.ok(seen.some(({ status }) => status === 'Pull complete'))
  for (const { current, total } of sized) assert.ok(current <= total)
  // One tag only, and by digest as well.
  assert.equal((await images.list()).filter(({ Id: other }) => other === Id).length, 1)
  await images.remove(image)
  const pinned = `${registry.host}/team/app@${registry.digest}`
  await images.pull(pinned)
  assert.equal((await images.inspect(pinned)).Id, Id)
  await images.remove(pinned)
})

test('a registry that asks for credentials gets them, and no error shows them', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { images } = engine.client
  const registry = await startRegistry(t, { address: engine.hostAddress, content: 'private' })
  // In base64 it has both characters that base64url writes otherwise, and padding.
  const credentials = { username: 'user', password: 'pass>>??canary' }
  registry.credentials = credentials
  const image = `${registry.host}/private:1`
  for (const given of [undefined, { ...credentials, password: 'wrong-canary' }]) {
    await assert.rejects(images.pull(image, given ? { credentials: given } : {}), (error) => {
      assert.ok(isEngineError(error))
      return !/canary/.test(`${error.message}${error.detail}`)
    })
  }
  assert.equal(registry.pulls(), 0)
  await images.pull(image, { credentials })
  assert.ok(registry.pulls() > 0)
  await images.remove(image)
})

test('a pull that cannot work says why: no registry, no such image', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { images } = engine.client
  const registry = await startRegistry(t, { address: engine.hostAddress })
  await assert.rejects(images.pull(`${registry.host}/app:missing`), code('ENGINE_NOT_FOUND'))
  await assert.rejects(images.pull('127.0.0.1:1/app'), (error) => {
    assert.ok(isEngineError(error, 'ENGINE_FAILED'))
    return /connection refused/.test(error.message)
  })
  await assert.rejects(images.pull('Not A Name'), code('ENGINE_REJECTED'))
})

test('an aborted pull stops the download', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { images } = engine.client
  const registry = await startRegistry(t, { address: engine.hostAddress, content: 'aborted' })
  registry.stuck = true
  const controller = new AbortController()
  const reason = new Error('another release is wanted')
  const failed = assert.rejects(
    images.pull(`${registry.host}/app`, { signal: controller.signal }),
    reason,
  )
  await registry.begun
  controller.abort(reason)
  await failed
  await registry.leftEarly
  registry.stuck = false
  await images.pull(`${registry.host}/app`)
  await images.remove(`${registry.host}/app`)
})

test('the engine’s network is reached at its address, and clear leaves nothing', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  await client.networks.create({ Name: 'left_over' })
  await client.volumes.create({ Name: 'left_over' })
  await run(client, 'web', 'while :; do echo hello | nc -l -p 80; done', {
    ExposedPorts: { '80/tcp': {} },
    HostConfig: { PortBindings: { '80/tcp': [{ HostPort: '8080' }] }, NetworkMode: 'left_over' },
  })
  assert.equal(await hear(engine.address, 8080), 'hello\n')
  await engine.clear()
  assert.deepEqual(await client.containers.list(), [])
  assert.deepEqual(await client.volumes.list(), [])
  const names = (await client.networks.list()).map(({ Name }) => Name).sort()
  assert.deepEqual(names, ['bridge', 'host', 'none'])
})

/** What somebody says who speaks first. */
function hear(host: string, port: number): Promise<string> {
  return new Promise((done, failed) => {
    const attempt = (left: number) => {
      let said = ''
      const socket = connect({ host, port })
      socket.on('data', (data) => {
        said += data
      })
      socket.on('error', () => {})
      socket.on('close', () => {
        if (said !== '') done(said)
        else if (left === 0) failed(new Error(`nobody speaks at ${host}:${port}`))
        else setTimeout(() => attempt(left - 1), 20)
      })
    }
    attempt(200)
  })
}
