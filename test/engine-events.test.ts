import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Engine, openEngine } from '../src/engine/engine.ts'
import { isEngineError } from '../src/engine/error.ts'
import { type EngineEvent, followEvents } from '../src/engine/events.ts'
import { TEST_IMAGE, useEngine } from './helpers/engine.ts'
import { begin, standIn } from './helpers/engine-stand-in.ts'

const engineOf = useEngine()

/** What a follower was told, in order, with a way to wait for more. */
function record(engine: Engine, options: { readonly retryMs?: number } = {}) {
  const controller = new AbortController()
  const told: (string | EngineEvent)[] = []
  const errors: unknown[] = []
  let wake = () => {}
  const tell = (what: string | EngineEvent) => {
    told.push(what)
    wake()
  }
  const ended = followEvents(engine, {
    retryMs: 5,
    maxRetryMs: 20,
    ...options,
    signal: controller.signal,
    onConnected: () => tell('connected'),
    onEvent: tell,
    onLost: (error) => {
      errors.push(error)
      tell('lost')
    },
  })
  let taken = 0
  /** The next thing told for which this is true; all before it is passed over. */
  const next = async (wanted: (what: string | EngineEvent) => boolean) => {
    for (;;) {
      while (taken < told.length) {
        const what = told[taken++] as string | EngineEvent
        if (wanted(what)) return what
      }
      await new Promise<void>((woken) => {
        wake = woken
      })
    }
  }
  return {
    errors,
    said: (word: string) => next((what) => what === word),
    event: (type: string, action: string) =>
      next(
        (what) => typeof what !== 'string' && what.type === type && what.action === action,
      ) as Promise<EngineEvent>,
    stop: async () => {
      controller.abort()
      await ended
    },
    ended,
  }
}

const line = (event: object) => `${JSON.stringify(event)}\n`

test('events come in one form, whichever engine tells them', async (t) => {
  const engine = await standIn(t, (socket) => {
    begin(socket)
    const Actor = { ID: 'abc', Attributes: { name: 'api', exitCode: '1' } }
    socket.write(
      line({ Type: 'container', Action: 'die', Actor, time: 5, timeNano: 5_250_000_000 }),
    )
    socket.write(line({ Type: 'container', Action: 'died', Actor, time: 5 }))
    socket.write(line({ Type: 'container', Action: 'remove', Actor }))
    socket.write(line({ Type: 'image', Action: 'remove', Actor: { ID: 'x', Attributes: null } }))
    socket.end(line({ Type: 'volume', Action: 'destroy', New: 1 }))
  })
  const events: EngineEvent[] = []
  let opened = 0
  const reading = (async () => {
    const all = openEngine(engine).events.read({ types: ['container'], onOpen: () => opened++ })
    for await (const event of all) events.push(event)
  })()
  await assert.rejects(reading, (error) => isEngineError(error, 'ENGINE_UNREACHABLE'))
  assert.equal(opened, 1)
  assert.deepEqual(
    events.map(({ type, action, id, timeMs }) => [type, action, id, timeMs]),
    [
      ['container', 'die', 'abc', 5250],
      ['container', 'die', 'abc', 5000],
      ['container', 'destroy', 'abc', 0],
      ['image', 'delete', 'x', 0],
      ['volume', 'destroy', '', 0],
    ],
  )
  assert.deepEqual(events[0]?.attributes, { name: 'api', exitCode: '1' })
  const { searchParams } = new URL(
    engine.requests.at(-1)?.line.split(' ')[1] ?? '',
    'http://engine',
  )
  assert.deepEqual(JSON.parse(searchParams.get('filters') ?? ''), { type: ['container'] })
  assert.match(searchParams.get('since') ?? '', /^\d+\.\d{3}$/)
})

test('a follower connects again after every kind of loss, and tells each once', async (t) => {
  let answers = 0
  const engine = await standIn(
    t,
    (socket) => {
      begin(socket)
      answers++
      if (answers === 1) return void socket.end()
      if (answers === 2) return void socket.write('this is no event\n')
      if (answers === 3) return void socket.destroy()
      socket.write(line({ Type: 'container', Action: 'start', Actor: { ID: 'abc' } }))
    },
    { listening: false },
  )
  const follower = record(openEngine(engine))
  await follower.said('lost')
  await engine.listen()
  for (let count = 0; count < 3; count++) {
    await follower.said('connected')
    await follower.said('lost')
  }
  await follower.said('connected')
  assert.equal((await follower.event('container', 'start')).id, 'abc')
  await follower.stop()
  await engine.ended('/events')
  for (const error of follower.errors) assert.ok(isEngineError(error), String(error))
  assert.ok(follower.errors.some((error) => isEngineError(error, 'ENGINE_MALFORMED')))
})

test('a follower ends at once where it waits, and makes no call while nothing happens', async (t) => {
  const engine = await standIn(t, (socket) => void begin(socket))
  const follower = record(openEngine(engine))
  await follower.said('connected')
  assert.deepEqual(
    engine.requests.map(({ line: asked }) => asked.split(/[ ?]/)[1]),
    ['/_ping', '/v1.41/events'],
  )
  await follower.stop()
  await engine.ended('/events')

  await engine.close()
  const waiting = record(openEngine(engine), { retryMs: 3_600_000 })
  await waiting.said('lost')
  await waiting.stop()
})

test('what a callback throws ends the following', async (t) => {
  const engine = await standIn(t, (socket) => void begin(socket))
  const reason = new Error('a fault of the program')
  const following = followEvents(openEngine(engine), {
    signal: new AbortController().signal,
    onConnected: () => {
      throw reason
    },
    onEvent: () => {},
    onLost: () => assert.fail('nothing was lost'),
  })
  await assert.rejects(following, reason)
  await engine.ended('/events')
})

test('Docker tells of containers, networks, volumes and images', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { containers, images, networks, volumes } = engine.client
  const follower = record(engine.client)
  await follower.said('connected')
  const { Id } = await containers.create('api', {
    Image: TEST_IMAGE,
    Labels: { 'io.example': 'x' },
  })
  const created = await follower.event('container', 'create')
  assert.equal(created.id, Id)
  assert.deepEqual([created.attributes.name, created.attributes['io.example']], ['api', 'x'])
  assert.ok(Math.abs(created.timeMs - Date.now()) < 60_000)
  await containers.start(Id)
  await follower.event('container', 'start')
  await containers.kill(Id)
  assert.equal((await follower.event('container', 'die')).attributes.exitCode, '137')
  await containers.rename(Id, 'old')
  await follower.event('container', 'rename')
  await containers.remove(Id)
  await follower.event('container', 'destroy')
  const network = await networks.create({ Name: 'event_net' })
  assert.equal((await follower.event('network', 'create')).id, network)
  await networks.remove(network)
  await follower.event('network', 'destroy')
  await volumes.create({ Name: 'event_data' })
  assert.equal((await follower.event('volume', 'create')).id, 'event_data')
  await volumes.remove('event_data')
  await follower.event('volume', 'destroy')
  await images.tag(TEST_IMAGE, 'event:1')
  await follower.event('image', 'tag')
  await images.remove('event:1')
  await follower.event('image', 'untag')
  await follower.stop()
})

test('nothing is lost between the connection and the list that follows it', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { containers, events } = engine.client
  for (let round = 0; round < 10; round++) {
    const controller = new AbortController()
    const { signal } = controller
    const name = `round${round}`
    let created: Promise<{ Id: string }> | undefined
    // The moment at which Docker may not listen yet.
    const onOpen = () => {
      created = containers.create(name, { Image: TEST_IMAGE })
    }
    for await (const event of events.read({ signal, onOpen })) {
      if (event.action === 'create' && event.attributes.name === name) break
    }
    await containers.remove((await created)?.Id ?? '')
  }
})

test('an engine that was killed is followed again when it is back', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { client } = engine
  const { containers } = client
  const body = { Image: TEST_IMAGE, HostConfig: { RestartPolicy: { Name: 'always' } } }
  const { Id } = await containers.create('survivor', body)
  await containers.start(Id)
  const follower = record(client)
  await follower.said('connected')
  const wait = assert.rejects(containers.wait(Id), (error) =>
    isEngineError(error, 'ENGINE_UNREACHABLE'),
  )
  await engine.kill()
  await wait
  await follower.said('lost')
  await assert.rejects(client.info(), (error) => isEngineError(error, 'ENGINE_UNREACHABLE'))
  await engine.start()
  await follower.said('connected')
  assert.deepEqual(
    (await containers.list()).map(({ Id: id }) => id),
    [Id],
  )
  await containers.create('later', { Image: TEST_IMAGE })
  assert.equal((await follower.event('container', 'create')).attributes.name, 'later')

  // A stop in good order ends the stream in good order; that is a loss too.
  await engine.end()
  await follower.said('lost')
  await engine.start()
  await follower.said('connected')
  await follower.stop()
  await engine.clear()
})
