import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openEngine } from '../src/engine/engine.ts'
import { EngineError, type EngineErrorCode } from '../src/engine/error.ts'
import { begin, json, standIn, text } from './helpers/engine-stand-in.ts'

/** What a call throws, which has to be an EngineError with this code. */
async function refused(call: Promise<unknown>, code: EngineErrorCode): Promise<EngineError> {
  const error = await call.then(
    (value) => assert.fail(`it gave ${JSON.stringify(value)}`),
    (thrown: unknown) => thrown,
  )
  assert.ok(error instanceof EngineError, String(error))
  assert.equal(error.code, code, error.message)
  return error
}

test('the version is asked for once, and the highest both sides know is spoken', async (t) => {
  for (const [highest, spoken] of [
    ['1.41', '1.41'],
    ['1.44', '1.44'],
    ['1.52', '1.47'],
  ] as const) {
    const ping = text(200, 'OK', { 'api-version': highest })
    const engine = await standIn(t, json(200, []), { ping })
    const { containers, networks } = openEngine(engine)
    await containers.list()
    await networks.list()
    assert.deepEqual(
      engine.requests.map(({ line }) => line.split(' ')[1]),
      ['/_ping', `/v${spoken}/containers/json?all=true`, `/v${spoken}/networks`],
    )
  }
})

test('an engine that is too old, or says no version, is refused with the remedy', async (t) => {
  for (const headers of [
    { 'api-version': '1.40' },
    { 'api-version': '2.0' },
    {},
    { 'api-version': 'x' },
  ]) {
    const engine = await standIn(t, json(200, []), { ping: text(200, 'OK', { ...headers }) })
    const { message } = await refused(openEngine(engine).containers.list(), 'ENGINE_VERSION')
    assert.match(message, /at least 1\.41 is needed/)
    assert.equal(engine.requests.length, 1)
  }
})

test('an engine that was replaced by another is asked for its version again', async (t) => {
  let newer = false
  const engine = await standIn(
    t,
    (socket, request) => {
      if (newer && request.line.includes('/v1.41/')) {
        const message = 'client version 1.41 is too old. Minimum supported API version is 1.44'
        return json(400, { message })(socket, request)
      }
      json(200, [])(socket, request)
    },
    {
      ping: (socket, request) =>
        text(200, 'OK', { 'api-version': newer ? '1.45' : '1.41' })(socket, request),
    },
  )
  const { containers } = openEngine(engine)
  await containers.list()
  newer = true
  await refused(containers.list(), 'ENGINE_VERSION')
  await containers.list()
  assert.match(engine.requests.at(-1)?.line ?? '', /\/v1\.45\//)
  assert.deepEqual((await openEngine(engine).spoken()).version, '1.45')
})

test('nobody there, nobody listening, and a connection that breaks are told apart', async (t) => {
  const engine = await standIn(t, (socket) => void socket.destroy(), { listening: false })
  const { containers } = openEngine(engine)
  assert.match((await refused(containers.list(), 'ENGINE_UNREACHABLE')).message, /ENOENT/)
  await engine.listen()
  const broken = await refused(containers.list(), 'ENGINE_UNREACHABLE')
  assert.match(broken.message, /^Cannot list containers: the connection was lost/)
})

test('an answer that ends too early is no answer', async (t) => {
  for (const head of ['content-length: 100', 'transfer-encoding: chunked']) {
    const engine = await standIn(t, (socket) => {
      socket.end(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n2\r\n[]\r\n`)
    })
    await refused(openEngine(engine).containers.list(), 'ENGINE_UNREACHABLE')
  }
})

test('an engine that accepts and never answers meets the deadline', async (t) => {
  const engine = await standIn(t, () => {})
  const { containers } = openEngine({ ...engine, deadlineMs: 50 })
  const { message } = await refused(containers.list(), 'ENGINE_TIMEOUT')
  assert.equal(message, 'Cannot list containers: the engine did not answer within 50 ms')
  await engine.quiet()
  // Also where not even the version comes, and where the body does not.
  const silent = await standIn(t, () => {}, { ping: () => {} })
  await refused(openEngine({ ...silent, deadlineMs: 50 }).info(), 'ENGINE_TIMEOUT')
  const half = await standIn(t, (socket) => void begin(socket))
  await refused(openEngine({ ...half, deadlineMs: 50 }).info(), 'ENGINE_TIMEOUT')
  await half.quiet()
})

test('so many calls run at a time, and the others after them', async (t) => {
  const unanswered: (() => void)[] = []
  let most = 0
  const engine = await standIn(t, (socket, request) => {
    unanswered.push(() => json(200, [])(socket, request))
    most = Math.max(most, unanswered.length)
    if (unanswered.length === 16) for (const answer of unanswered.splice(0)) answer()
  })
  const { containers } = openEngine(engine)
  await Promise.all(Array.from({ length: 48 }, () => containers.list()))
  assert.equal(most, 16)
})

test('calls that wait for a place meet their deadline, and leave the place to others', async (t) => {
  let answering = false
  const engine = await standIn(t, (socket, request) => {
    if (answering) json(200, [])(socket, request)
  })
  const { containers } = openEngine({ ...engine, deadlineMs: 50 })
  await Promise.all(Array.from({ length: 40 }, () => refused(containers.list(), 'ENGINE_TIMEOUT')))
  answering = true
  await Promise.all(Array.from({ length: 40 }, () => containers.list({ deadlineMs: 10_000 })))
})

test('an aborted call throws the reason of its signal and ends its connection', async (t) => {
  const engine = await standIn(t, (socket, { line }) => {
    if (line.includes('/info')) begin(socket)
  })
  const client = openEngine(engine)
  await client.ping()
  const reason = new Error('no longer wanted')
  for (const [part, call] of [
    ['containers', (signal: AbortSignal) => client.containers.list({ signal })],
    ['/info', (signal: AbortSignal) => client.info({ signal })],
    ['wait', (signal: AbortSignal) => client.containers.wait('api', { signal })],
  ] as const) {
    const controller = new AbortController()
    const failed = assert.rejects(call(controller.signal), reason)
    await engine.asked(part)
    controller.abort(reason)
    await failed
    await engine.ended(part)
  }
  await assert.rejects(client.containers.list({ signal: AbortSignal.abort(reason) }), reason)
})

test('what is not HTTP, not JSON or not of the shape is told, without showing it', async (t) => {
  const body = (said: string) =>
    `HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ${said.length}\r\n\r\n${said}`
  for (const [answer, words] of [
    ['\u0000\u0001 secret-canary \r\n\r\n', /./],
    ['HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n secret-canary', /./],
    [body('<secret-canary>'), /: the answer is not JSON$/],
    [body('[{"Id":["secret-canary"]}]'), /: 0\.Id should be string$/],
    [body('"secret-canary"'), /: the answer should be Array$/],
  ] as const) {
    const engine = await standIn(t, (socket) => void socket.end(answer, 'latin1'))
    const error = await openEngine(engine)
      .containers.list()
      .then(
        () => assert.fail('it gave a list'),
        (thrown: unknown) => thrown,
      )
    assert.ok(error instanceof EngineError)
    assert.match(error.code, /^ENGINE_(MALFORMED|UNREACHABLE)$/)
    assert.match(error.message, words)
    assert.doesNotMatch(error.message, /canary/)
  }
})

test('an answer has a limit, and its connection ends there', async (t) => {
  const engine = await standIn(t, (socket) => {
    begin(socket)
    const more = () => {
      while (!socket.destroyed && socket.write(`${' '.repeat(1024)}\n`)) {}
    }
    socket.on('drain', more)
    more()
  })
  const client = openEngine({ ...engine, maxAnswerBytes: 10_000 })
  const { message } = await refused(client.containers.list(), 'ENGINE_MALFORMED')
  assert.match(message, /more than 10000 bytes/)
  await engine.ended('containers')
  await refused(client.containers.kill('api'), 'ENGINE_MALFORMED')
})

test('heads without an end, and lines of a stream without one, have a limit too', async (t) => {
  const heads = await standIn(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n')
    const more = () => {
      while (!socket.destroyed && socket.write(`x-header: ${'y'.repeat(1000)}\r\n`)) {}
    }
    socket.on('drain', more)
    more()
  })
  const error = await openEngine(heads)
    .info({ deadlineMs: 20_000 })
    .then(
      () => assert.fail('it gave an answer'),
      (thrown: unknown) => thrown,
    )
  assert.ok(error instanceof EngineError)
  assert.match(error.code, /^ENGINE_(MALFORMED|UNREACHABLE)$/)

  const lines = await standIn(t, (socket) => {
    begin(socket)
    const more = () => {
      while (!socket.destroyed && socket.write('x'.repeat(65_536))) {}
    }
    socket.on('drain', more)
    more()
  })
  const pulled = await refused(openEngine(lines).images.pull('a'), 'ENGINE_MALFORMED')
  assert.match(pulled.message, /a line has more than 1048576 bytes/)
  await lines.ended('images/create')
})

test('lists that are null are empty', async (t) => {
  const engine = await standIn(t, (socket, request) => {
    const list = request.line.includes('/volumes') ? { Volumes: null } : null
    json(200, list)(socket, request)
  })
  const { containers, images, networks, volumes } = openEngine(engine)
  assert.deepEqual(await containers.list(), [])
  assert.deepEqual(await images.list(), [])
  assert.deepEqual(await networks.list(), [])
  assert.deepEqual(await volumes.list(), [])
})

test('null inside of objects is empty too, and unknown members stay', async (t) => {
  const summary = { Id: 'x', Names: null, Labels: null, Mounts: null, NewMember: { a: 1 } }
  const engine = await standIn(t, json(200, [summary]))
  const [container] = await openEngine(engine).containers.list()
  assert.deepEqual(container?.Names, [])
  assert.deepEqual(container?.Labels, {})
  assert.deepEqual(container?.NewMember, { a: 1 })
})

test('the engine’s words reach the error: short, on one line, without what was secret', async (t) => {
  const secret = 'hunter2-hunter2'
  const engine = await standIn(
    t,
    json(500, {
      message: `bad "LOGIN=${secret}"\nor ${secret}\u001b[31m ${'long '.repeat(1000)}`,
    }),
  )
  const { containers } = openEngine(engine)
  const body = { Image: 'x', Env: ['A=1', `LOGIN=${secret}`, 'EMPTY='] }
  const error = await refused(containers.create('api', body), 'ENGINE_FAILED')
  assert.equal(error.status, 500)
  assert.match(
    error.message,
    /^Cannot create container "api": the engine answered 500: bad "\[masked\]" or \[masked\] \[31m long/,
  )
  assert.ok(error.message.length < 600)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is meant
  assert.doesNotMatch(error.message, /hunter2|[\u0000-\u001f]/)
  assert.doesNotMatch(JSON.stringify({ ...error, stack: error.stack }), /hunter2/)
})

test('statuses have codes', async (t) => {
  for (const [status, body, code] of [
    [400, '{"message":"no"}', 'ENGINE_REJECTED'],
    [403, '{"message":"no"}', 'ENGINE_REJECTED'],
    [404, '{"message":"No such container: x"}', 'ENGINE_NOT_FOUND'],
    [404, '{"message":"page not found"}', 'ENGINE_UNSUPPORTED'],
    [404, 'Not Found', 'ENGINE_UNSUPPORTED'],
    [409, '{"message":"in use"}', 'ENGINE_CONFLICT'],
    [500, '{"message":1}', 'ENGINE_FAILED'],
    [503, '', 'ENGINE_FAILED'],
    [302, '', 'ENGINE_FAILED'],
  ] as const) {
    const engine = await standIn(t, text(status, body))
    const error = await refused(openEngine(engine).containers.rename('a', 'b'), code)
    assert.equal(error.status, status)
  }
})

test('no secret is ever in a request line', async (t) => {
  const engine = await standIn(t, (socket, request) => {
    if (request.line.includes('images/create'))
      return json(200, { status: 'done' })(socket, request)
    json(201, { Id: 'x', Name: 'x' })(socket, request)
  })
  const { containers, images, networks, volumes } = openEngine(engine)
  const canary = 'canary-5e1f'
  const Labels = { 'io.example': canary }
  await containers.create('api', { Image: 'x', Env: [`TOKEN=${canary}`], Labels })
  await networks.create({ Name: 'net', Labels })
  await networks.connect('net', 'api', { Aliases: [canary] })
  await volumes.create({ Name: 'data', Labels, DriverOpts: { o: canary } })
  await containers.update('api', { RestartPolicy: { Name: canary } })
  await images.pull('registry.example:5000/team/app:1.0', {
    credentials: { username: 'user', password: canary },
  })
  assert.equal(engine.requests.length, 7)
  for (const { head } of engine.requests) assert.doesNotMatch(head, /canary/)
  const pull = engine.requests.find(({ line }) => line.includes('images'))
  assert.match(pull?.line ?? '', /\?fromImage=registry.example%3A5000%2Fteam%2Fapp&tag=1.0 /)
  const header = /x-registry-auth: (\S+)/i.exec(pull?.head ?? '')?.[1] ?? ''
  assert.equal(header.length % 4, 0, 'padding is kept')
  assert.deepEqual(JSON.parse(Buffer.from(header, 'base64url').toString()), {
    username: 'user',
    password: canary,
    serveraddress: 'registry.example:5000',
  })
  const bodies = engine.requests.filter(({ body }) => body.includes(canary))
  assert.equal(bodies.length, 5)
  for (const { head } of bodies) assert.match(head, /content-type: application\/json/i)
})

test('a name that would be another path is not sent', async (t) => {
  const engine = await standIn(t, json(200, {}))
  const { containers, images, networks, volumes } = openEngine(engine)
  for (const name of ['', '.', '..', 'a/b', '../info', 'a\nb', 'a\\b', 'x'.repeat(256)]) {
    await refused(containers.inspect(name), 'ENGINE_REJECTED')
    await refused(containers.create(name, { Image: 'x' }), 'ENGINE_REJECTED')
    await refused(containers.rename('a', name), 'ENGINE_REJECTED')
    await refused(networks.remove(name), 'ENGINE_REJECTED')
    await refused(volumes.remove(name), 'ENGINE_REJECTED')
    if (name !== 'a/b') await refused(images.remove(name), 'ENGINE_REJECTED')
  }
  assert.equal(engine.requests.length, 0)
  await containers.kill('a?b#c d')
  const [, kill] = engine.requests
  assert.equal(kill?.line, 'POST /v1.41/containers/a%3Fb%23c%20d/kill HTTP/1.1')
})

test('an error inside of a stream that began well is a failure', async (t) => {
  for (const [line, code] of [
    [{ error: 'disk is full', errorDetail: { message: 'disk is full' } }, 'ENGINE_FAILED'],
    [{ errorDetail: { message: 'disk is full' } }, 'ENGINE_FAILED'],
    [{ error: 'manifest unknown' }, 'ENGINE_NOT_FOUND'],
    [{ error: '' }, 'ENGINE_FAILED'],
  ] as const) {
    const engine = await standIn(t, (socket) => {
      begin(socket)
      socket.end(`{"status":"Pulling"}\r\n${JSON.stringify(line)}\r\n{"status":"Done"}\r\n`)
    })
    const seen: string[] = []
    const onProgress = ({ status }: { readonly status: string }) => void seen.push(status)
    await refused(openEngine(engine).images.pull('a', { onProgress }), code)
    assert.deepEqual(seen, ['Pulling'])
  }
})

test('a pull that falls silent ends, and so does its connection', async (t) => {
  const engine = await standIn(t, (socket) => {
    begin(socket)
    socket.write('{"status":"Pulling"}\n')
  })
  const { message } = await refused(
    openEngine(engine).images.pull('a', { idleMs: 50 }),
    'ENGINE_TIMEOUT',
  )
  assert.equal(message, 'Cannot pull image "a": the engine sent nothing for 50 ms')
  await engine.quiet()
})
