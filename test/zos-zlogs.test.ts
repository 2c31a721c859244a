import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { type TestContext, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { createClient } from '@redis/client'
import fc from 'fast-check'
import { type WebSocket, WebSocketServer } from 'ws'
import { DriverError } from '../plugins/zos/drivers/driver.ts'
import { createGuard, type Guard } from '../plugins/zos/drivers/guard.ts'
import type { MachineLogLine, MachineLogs } from '../plugins/zos/drivers/machine-logs.ts'
import { createZlogsDriver, type ZlogsOptions } from '../plugins/zos/drivers/zlogs/driver.ts'
import { createLineBuffer } from '../plugins/zos/drivers/zlogs/line-buffer.ts'
import { isLocalAddress, reachable } from '../plugins/zos/drivers/zlogs/local-address.ts'
import { readOutput } from '../plugins/zos/drivers/zlogs/output.ts'
import { createLogPosition } from '../plugins/zos/drivers/zlogs/position.ts'
import {
  driverError,
  eventually,
  machineData,
  tasksOf,
  workloadOf,
} from './helpers/zos-container.ts'
import { freePort, testRedis } from './helpers/zos-redis.ts'

/** A machine's log in memory: each line a nanosecond later than the one before. */
function testLog() {
  const lines: MachineLogLine[] = []
  let wake = () => {}
  let broken = false
  const asked: { since: string | undefined; tail: number; id: string }[] = []
  const logs: MachineLogs = {
    async *follow(id, { since, tail, signal }) {
      asked.push({ since, tail, id })
      const from = lines.findIndex(({ time = '' }) => since !== undefined && time >= since)
      let at = since === undefined ? Math.max(0, lines.length - tail) : from
      if (at === -1) at = lines.length
      for (;;) {
        signal.throwIfAborted()
        if (broken) {
          broken = false
          throw new Error('the engine is away')
        }
        const line = lines[at]
        if (line) {
          at++
          yield line
          continue
        }
        await new Promise<void>((resolve) => {
          wake = resolve
          signal.addEventListener('abort', () => resolve(), { once: true })
        })
      }
    },
  }
  return {
    logs,
    asked,
    write(...texts: string[]) {
      for (const text of texts) {
        const time = `2026-01-01T00:00:00.${String(lines.length).padStart(9, '0')}Z`
        lines.push({ text, time })
      }
      wake()
    },
    breakOff() {
      broken = true
      wake()
    },
  }
}

function driverOf(t: TestContext, logs: MachineLogs, more: Partial<ZlogsOptions> = {}) {
  const quick = { retryMs: 20, maxRetryMs: 100, allowLocal: true }
  const driver = createZlogsDriver({ logs, ...quick, ...more })
  t.after(() => driver.stop?.())
  return driver
}

function taskOf(output: string) {
  const workloads = [
    workloadOf('zmachine', 'vm', machineData('10.44.2.9')),
    workloadOf('zlogs', 'logs', { zmachine: 'vm', output }),
  ]
  return tasksOf({ workloads }).of('zlogs', 'logs')
}

/** All text that a channel got, from when this resolves on. */
async function listenTo(t: TestContext, port: number, channel: string, password?: string) {
  let text = ''
  const client = createClient({
    RESP: 2,
    disableClientInfo: true,
    socket: { host: '127.0.0.1', port, reconnectStrategy: false },
    ...(password === undefined ? {} : { password }),
  })
  client.on('error', () => {})
  await client.connect()
  t.after(() => {
    if (client.isOpen) client.destroy()
  })
  const hear = (chunk: Buffer) => {
    text += gunzipSync(chunk).toString()
  }
  await client.subscribe(channel, hear, true)
  return () => text
}

test('a log is published to Redis, and goes on where it was when Redis comes back', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const log = testLog()
  log.write('one', 'two <ü>')
  const driver = driverOf(t, log.logs)
  const task = taskOf(`${redis.url}/logs/of-vm`)
  const first = await listenTo(t, redis.port, 'logs/of-vm')
  assert.equal(await driver.provision(task), undefined)
  await eventually('both lines', () => first() === 'one\ntwo <ü>\n')
  assert.deepEqual(log.asked, [{ since: undefined, tail: 100, id: '7-40-vm' }])
  assert.equal(await driver.provision(task), undefined, 'again')
  const health = async () => (await driver.health?.(task))?.[0]
  await eventually('health', async () => (await health())?.ok)

  await redis.kill()
  await eventually('health', async () => (await health())?.ok === false)
  assert.match((await health())?.message ?? '', /^redis:\/\/127\.0\.0\.1:\d+: /)
  log.write('while it was away')
  // The log breaks off too: no line is lost, and none comes twice.
  log.breakOff()
  await eventually('another look', () => log.asked.length === 2)
  await redis.start()
  const later = await listenTo(t, redis.port, 'logs/of-vm')
  await eventually('health', async () => (await health())?.ok)
  log.write('three')
  await eventually('the rest', () => later().endsWith('three\n'))
  // What is published before anybody listens is heard by nobody.
  assert.match(later(), /^(?:while it was away\n)?three\n$/)
  assert.equal(log.asked.length, 2)

  await driver.deprovision(task)
  await driver.deprovision(task)
  await eventually('its connection ends', async () => (await clientsOf(redis)) === 2)
  assert.deepEqual(await health(), {
    name: 'stream',
    ok: false,
    message: 'the log is not carried',
  })
})

/** Connections, those of the test included. */
async function clientsOf({ ask }: { ask(...words: string[]): Promise<unknown> }): Promise<number> {
  return String(await ask('CLIENT', 'LIST'))
    .trim()
    .split('\n').length
}

test('a Redis with a password gets it, and nobody else', async (t) => {
  const password = 'canary/pass'
  const redis = await testRedis(t, { password })
  if (!redis) return
  const heard = await listenTo(t, redis.port, 'c', password)
  const log = testLog()
  log.write('secret line')
  const driver = driverOf(t, log.logs)
  const wrong = taskOf(`redis://:canary-wrong@127.0.0.1:${redis.port}/c`)
  await driver.provision(wrong)
  const refused = await eventually('the refusal', async () => {
    const [check] = (await driver.health?.(wrong)) ?? []
    return check?.message.includes('WRONGPASS') && check
  })
  assert.doesNotMatch(JSON.stringify(refused), /canary/)
  // Another output replaces the one before.
  const { port } = redis
  await driver.provision(taskOf(`redis://:${encodeURIComponent(password)}@127.0.0.1:${port}/c`))
  await eventually('the line', () => heard() === 'secret line\n')
})

/** A WebSocket server that keeps what it gets. */
async function webSocketServer(t: TestContext, port = 0) {
  const server = new WebSocketServer({ port, host: '127.0.0.1' })
  const got: Buffer[] = []
  const sockets = new Set<WebSocket>()
  const paths: (string | undefined)[] = []
  server.on('connection', (socket, request) => {
    paths.push(request.url)
    sockets.add(socket)
    socket.on('message', (data, binary) => {
      assert.equal(binary, true)
      got.push(data as Buffer)
    })
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
  })
  await once(server, 'listening')
  const close = async () => {
    for (const socket of sockets) socket.terminate()
    await new Promise<void>((closed) => server.close(() => closed()))
  }
  t.after(close)
  return {
    port: (server.address() as AddressInfo).port,
    text: () => got.map((chunk) => chunk.toString()).join(''),
    paths,
    sockets,
    close,
  }
}

test('a log goes to a WebSocket, which is opened again when it is lost', async (t) => {
  const server = await webSocketServer(t)
  const log = testLog()
  const driver = driverOf(t, log.logs, { compression: 'none' })
  const task = taskOf(`ws://127.0.0.1:${server.port}/in?key=canary`)
  log.write('one')
  await driver.provision(task)
  await eventually('the line', () => server.text() === 'one\n')
  assert.deepEqual(server.paths, ['/in?key=canary'])
  for (const socket of server.sockets) socket.terminate()
  await eventually('another connection', () => server.paths.length === 2)
  log.write('two', 'three')
  await eventually('the lines', () => server.text() === 'one\ntwo\nthree\n')

  await server.close()
  const away = await eventually('the loss', async () => {
    const [check] = (await driver.health?.(task)) ?? []
    return check?.ok === false && check
  })
  assert.doesNotMatch(JSON.stringify(away), /canary/)
  log.write('four')
  const again = await webSocketServer(t, server.port)
  await eventually('the line', () => again.text() === 'four\n')
  await driver.sweep?.(new Set([task.id]), task.signal)
  assert.equal(again.sockets.size, 1)
  await driver.sweep?.(new Set(), task.signal)
  await eventually('its end', () => again.sockets.size === 0)
})

test('lines that find no output give way to newer ones, and are counted', async (t) => {
  const port = await freePort()
  const log = testLog()
  const driver = driverOf(t, log.logs, { compression: 'none', bufferBytes: 100 })
  const task = taskOf(`ws://127.0.0.1:${port}/`)
  await driver.provision(task)
  for (let index = 0; index < 50; index++) log.write(`line number ${index}`)
  const dropped = await eventually('drops', async () => {
    const [check] = (await driver.health?.(task)) ?? []
    const count = Number(/(\d+) lines dropped/.exec(check?.evidence ?? '')?.[1])
    return count > 40 && count
  })
  const server = await webSocketServer(t, port)
  await eventually('the last line', () => server.text().endsWith('line number 49\n'))
  assert.match(server.text(), new RegExp(`^\\[${dropped} lines were dropped\\]\nline number`))
})

test('an output that never answers does not hold up the stop', async (t) => {
  const silent = createServer((socket) => void socket.resume().on('error', () => {}))
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  t.after(() => new Promise((closed) => silent.close(closed)))
  const log = testLog()
  log.write('one')
  for (const url of [`ws://127.0.0.1:${port}/`, `redis://127.0.0.1:${port}/c`]) {
    const driver = driverOf(t, log.logs)
    const connected = once(silent, 'connection')
    await driver.provision(taskOf(url))
    await connected
    await driver.stop?.()
  }
})

test('outputs that cannot be are refused, and their secrets are not told', async (t) => {
  const cases: [string, RegExp][] = [
    ['redis://:canary@10.1.2.3', /channel is missing$/],
    ['redis://:canary@10.1.2.3/', /channel is missing$/],
    ['redis://', /it is no address of a host$/],
    ['http://canary@10.1.2.3/', /its scheme is none of redis, ws and wss$/],
    ['canary', /it is no address of a host$/],
    [`ws://10.1.2.3/${'canary'.repeat(400)}`, /it is no address of a host$/],
    ['ws://127.0.0.1/', /it is an address of this node itself$/],
    ['ws://2130706433/', /it is an address of this node itself$/],
    ['ws://localhost:8080/', /it is an address of this node itself$/],
    ['redis://[::1]/c', /it is an address of this node itself$/],
    ['redis://[::ffff:127.0.0.1]/c', /it is an address of this node itself$/],
    ['redis://169.254.169.254/c', /it is an address of this node itself$/],
  ]
  const driver = driverOf(t, testLog().logs, { allowLocal: false })
  for (const [output, words] of cases) {
    await assert.rejects(driver.provision(taskOf(output)), (error) => {
      assert.doesNotMatch(String(error), /canary/)
      return driverError('failed', words)(error)
    })
  }
  const { of } = tasksOf({
    workloads: [
      workloadOf('zmachine', 'vm', machineData('10.44.2.9')),
      workloadOf('volume', 'vol', { size: 1n }),
      workloadOf('zlogs', 'a', { zmachine: 'vm', output: 'ws://10.1.2.3/' }),
      workloadOf('zlogs', 'b', { zmachine: 'vol', output: 'ws://10.1.2.3/' }),
      workloadOf('zlogs', 'c', { zmachine: 'none', output: 'ws://10.1.2.3/' }),
    ],
    results: { vm: { state: 'error' } },
  })
  for (const [name, words] of [
    ['a', /^machine state is not ok$/],
    ['b', /^no zmachine with name 'vol'$/],
    ['c', /^no zmachine with name 'none'$/],
  ] as const) {
    await assert.rejects(driver.provision(of('zlogs', name)), driverError('failed', words))
  }
})

test('addresses of the node are known in every spelling', async () => {
  const local = ['127.8.8.8', '0.0.0.0', '169.254.1.1', '224.0.0.1', '255.255.255.255', '::', '::1']
  const more = ['0:0:0:0:0:0:0:1', 'fe80::1%eth0', 'ff02::1', '::ffff:127.0.0.1', '::ffff:7f00:1']
  for (const one of [...local, ...more, 'localhost', 'a.localhost.', 'LOCALHOST']) {
    assert.equal(isLocalAddress(one), true, one)
  }
  for (const one of ['10.1.2.3', '192.168.1.1', '8.8.8.8', 'fd00::1', '2001:db8::1', 'a.example']) {
    assert.equal(isLocalAddress(one), false, one)
  }
  assert.equal(isLocalAddress('::ffff:10.1.2.3'), false)
})

test('what a name stands for is looked at, and where a connection ends', async (t) => {
  const server = await webSocketServer(t)
  const none = () => undefined
  const local = /^Error: it is an address of this node itself$/
  await assert.rejects(reachable('localhost', server.port, createGuard()), local)
  assert.equal(await reachable('127.0.0.1', server.port, none), '127.0.0.1')
  // One that no list of interfaces shows, but the kernel knows as its own.
  let asked = 0
  const late: Guard = () => (++asked > 1 ? 'it is ours' : undefined)
  await assert.rejects(reachable('127.0.0.1', server.port, late), local)
  await assert.rejects(reachable('127.0.0.1', await freePort(), none), /ECONNREFUSED/)
  assert.deepEqual(server.paths, [])
})

test('a log goes to no other address of the node, nor to what is behind its bridges', async (t) => {
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? [])
  const outer = own.find(({ family, internal }) => family === 'IPv4' && !internal)
  if (!outer) return t.skip('the node has no address')
  const driver = driverOf(t, testLog().logs, { allowLocal: false })
  await assert.rejects(
    driver.provision(taskOf(`redis://${outer.address}/log`)),
    driverError('failed', /^cannot send logs to the output: it is an address of this node itself$/),
  )
})

test('a log is gone on with where it was, however coarse its times are', () => {
  const line = fc.record({
    second: fc.nat(5),
    nanoseconds: fc.constantFrom('', '.5', '.500000001'),
  })
  fc.assert(
    fc.property(fc.array(line, { maxLength: 30 }), fc.array(fc.nat(30)), (times, breaks) => {
      const lines = times
        .map(({ second, nanoseconds }) => `2026-01-01T00:00:0${second}${nanoseconds}Z`)
        .sort((a, b) => Number(a.slice(17, -1)) - Number(b.slice(17, -1)))
        .map((time, index) => ({ time, text: String(index) }))
      const position = createLogPosition()
      const got: string[] = []
      for (const length of [...breaks, lines.length]) {
        position.resume()
        const { since } = position
        const seconds = (time: string) => Number(time.slice(17, -1))
        const from = lines.filter(({ time }) => !since || seconds(time) >= seconds(since))
        for (const one of from.slice(0, length)) if (position.isNew(one)) got.push(one.text)
        position.end()
      }
      assert.deepEqual(
        got,
        lines.map(({ text }) => text),
      )
    }),
  )
  const position = createLogPosition(() => new Date('2026-01-01T00:00:00.5Z'))
  position.resume()
  assert.ok(position.isNew({ text: 'a' }) && position.isNew({ text: 'b' }))
  position.end()
  assert.equal(position.since, '2026-01-01T00:00:00.500000000Z')
})

test('any text is an output, or refused without its words', () => {
  const part = fc.constantFrom('redis', 'ws', 'wss', '://', ':', '@', '/', '[::1]', '10.0.0.1', '%')
  const text = fc.oneof(
    fc.string(),
    fc.array(fc.oneof(part, fc.string())).map((all) => all.join('')),
  )
  fc.assert(
    fc.property(text, (output) => {
      try {
        const read = readOutput(output, false)
        assert.ok(read.host !== '' && !isLocalAddress(read.host))
      } catch (error) {
        assert.ok(error instanceof DriverError, String(error))
      }
    }),
  )
})

test('the buffer keeps the newest lines within its bounds, in order', () => {
  const line = fc.string({ maxLength: 60 }).map((text) => text.replaceAll('\n', ' '))
  const step = fc.oneof(line, fc.constant(undefined))
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 200 }),
      fc.integer({ min: 200, max: 1000 }),
      (steps, max) => {
        const buffer = createLineBuffer(max, (lines) => `\u0001${lines}`)
        const pushed: string[] = []
        let [taken, told] = [0, 0]
        const take = () => {
          const text = Buffer.from(buffer.take() ?? new Uint8Array()).toString()
          for (const got of text.split('\n').slice(0, -1)) {
            if (got.startsWith('\u0001')) {
              const dropped = Number(got.slice(1))
              taken += dropped
              told += dropped
            } else assert.equal(got, pushed[taken++])
          }
          return text !== ''
        }
        for (const text of steps) {
          if (text === undefined) take()
          else {
            const whole = text
              .replaceAll('\u0001', ' ')
              .replace(/[\ud800-\udfff]/g, ' ')
              .slice(0, 30)
            pushed.push(whole)
            buffer.push(whole)
          }
          assert.ok(buffer.size <= max)
        }
        while (take()) {}
        assert.equal(taken, pushed.length)
        assert.equal(told, buffer.dropped)
        assert.equal(buffer.size, 0)
      },
    ),
  )
  const buffer = createLineBuffer(20)
  buffer.push('x'.repeat(100))
  assert.equal(Buffer.from(buffer.take() ?? []).toString(), `${'x'.repeat(9)}\n`)
})
