import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type EngineErrorCode, isEngineError } from '../src/engine/error.ts'
import { followEvents } from '../src/engine/events.ts'
import type { LogLine } from '../src/engine/log-lines.ts'
import { TEST_IMAGE, useEngine } from './helpers/engine.ts'
import { startRegistry } from './helpers/registry.ts'

// What differs from Docker: spec balena-supervisor §23.4.

const engineOf = useEngine('podman')

const code = (wanted: EngineErrorCode) => (error: unknown) => isEngineError(error, wanted)

test('Podman says what it is, and empty lists are lists', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  assert.equal((await client.spoken()).product, 'podman')
  assert.match((await client.version()).Version, /^\d+\.\d+/)
  assert.ok((await client.info()).NCPU > 0)
  assert.deepEqual(await client.containers.list(), [])
  assert.deepEqual(await client.volumes.list(), [])
})

test('a container of Podman lives its whole life', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { containers } = engine.client
  const labels = { 'io.example.app': '7' }
  const { Id, Warnings } = await containers.create('api', {
    Image: TEST_IMAGE,
    Env: ['A=1'],
    Labels: labels,
    HostConfig: { RestartPolicy: { Name: 'always' } },
  })
  assert.deepEqual(Warnings, [])
  const created = await containers.inspect('api')
  assert.deepEqual([created.Id, created.State.Status], [Id, 'created'])
  assert.deepEqual(created.Config.Labels, labels)
  assert.ok(created.Config.Env.includes('A=1'))
  assert.equal(await containers.start('api'), true)
  assert.equal(await containers.start('api'), false)
  const [listed] = await containers.list({ labels: ['io.example.app=7'] })
  assert.deepEqual([listed?.Id, listed?.State, listed?.Names], [Id, 'running', ['/api']])
  await containers.rename('api', 'old_api')
  await assert.rejects(containers.inspect('api'), code('ENGINE_NOT_FOUND'))
  assert.equal(await containers.stop('old_api', { seconds: 5 }), true)
  assert.equal(await containers.stop('old_api'), false)
  assert.equal((await containers.wait('old_api')).error, undefined)
  await containers.remove('old_api', { volumes: true })
  await assert.rejects(containers.remove('old_api'), code('ENGINE_NOT_FOUND'))
})

test('what Podman 4 cannot do has a code of its own', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  if (!(await client.version()).Version.startsWith('4.')) return t.skip('needs Podman 4')
  await client.containers.create('fixed', { Image: TEST_IMAGE })
  const update = client.containers.update('fixed', { RestartPolicy: { Name: 'no' } })
  await assert.rejects(update, code('ENGINE_UNSUPPORTED'))
  await client.containers.remove('fixed')
})

test('Podman’s logs of both kinds come line by line', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { containers } = engine.client
  for (const Tty of [false, true]) {
    const Cmd = ['sh', '-c', 'echo one; echo two >&2; seq -s x 10000']
    await containers.create('talker', { Image: TEST_IMAGE, Cmd, Tty })
    await containers.start('talker')
    await containers.wait('talker')
    const lines: LogLine[] = []
    for await (const line of containers.logs('talker')) lines.push(line)
    const numbers = Array.from({ length: 10_000 }, (_, index) => index + 1).join('x')
    const texts = lines.map(({ text }) => text).sort()
    assert.deepEqual(texts, [numbers, 'one', 'two'])
    const two = lines.find(({ text }) => text === 'two')
    assert.equal(two?.stream, Tty ? 'stdout' : 'stderr')
    for (const { time } of lines) {
      if (Tty) assert.equal(time, undefined)
      else assert.match(time ?? '', /^\d{4}-\d\d-\d\dT/)
    }
    await containers.remove('talker')
  }
})

test('a pull that fails after status 200 fails here too', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { images } = engine.client
  const registry = await startRegistry(t, { address: engine.hostAddress, content: 'podman' })
  await assert.rejects(images.pull(`${registry.host}/app:missing`), code('ENGINE_NOT_FOUND'))
  await assert.rejects(images.pull(`${engine.hostAddress}:1/app`), (error) => {
    assert.ok(isEngineError(error, 'ENGINE_FAILED'))
    return /connection refused/.test(error.message)
  })
})

test('Podman pulls with credentials, and removes', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { images } = engine.client
  const registry = await startRegistry(t, { address: engine.hostAddress, content: 'podman' })
  registry.credentials = { username: 'user', password: 'pass>>??canary' }
  const image = `${registry.host}/team/app:1.0`
  await assert.rejects(images.pull(image), code('ENGINE_NOT_FOUND'))
  await images.pull(image, { credentials: registry.credentials })
  const { Id, RepoDigests } = await images.inspect(image)
  assert.ok(RepoDigests.includes(`${registry.host}/team/app@${registry.digest}`))
  assert.ok((await images.list()).some(({ Id: other }) => other === Id))
  await images.tag(image, 'localhost/other:2')
  await images.remove('localhost/other:2')
  await images.remove(image)
  await assert.rejects(images.inspect(image), code('ENGINE_NOT_FOUND'))
})

test('networks and volumes of Podman', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { networks, volumes } = engine.client
  const Labels = { 'io.example': 'yes' }
  const id = await networks.create({ Name: 'cafe_default', Labels })
  assert.equal((await networks.inspect('cafe_default')).Id, id)
  assert.equal((await networks.list({ labels: ['io.example=yes'] })).length, 1)
  await assert.rejects(networks.create({ Name: 'cafe_default' }), isEngineError)
  await networks.remove(id)
  await assert.rejects(networks.inspect(id), code('ENGINE_NOT_FOUND'))
  const volume = await volumes.create({ Name: '7_data', Labels })
  assert.deepEqual([volume.Name, volume.Labels], ['7_data', Labels])
  assert.equal((await volumes.list({ labels: ['io.example=yes'] })).length, 1)
  await volumes.remove('7_data')
  await assert.rejects(volumes.inspect('7_data'), code('ENGINE_NOT_FOUND'))
})

test('Podman’s events speak Docker’s words, also after it came back', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers } = client
  const wanted = ['create', 'start', 'die', 'destroy']
  for (const round of [1, 2]) {
    const controller = new AbortController()
    const seen: string[] = []
    let connect = () => {}
    const connected = new Promise<void>((done) => {
      connect = done
    })
    const following = followEvents(client, {
      signal: controller.signal,
      types: ['container'],
      onConnected: connect,
      onEvent: ({ type, action, attributes }) => {
        if (type !== 'container' || attributes.name !== `told${round}`) return
        if (wanted.includes(action)) seen.push(action)
        if (action === 'destroy') controller.abort()
      },
      onLost: () => {},
    })
    await connected
    await containers.create(`told${round}`, { Image: TEST_IMAGE })
    await containers.start(`told${round}`)
    await containers.stop(`told${round}`)
    await containers.remove(`told${round}`)
    await following
    assert.deepEqual(seen, wanted)
    if (round === 2) return
    await engine.kill()
    await engine.start()
  }
})
