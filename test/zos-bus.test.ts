import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import { readBusAddress } from '../plugins/zos/bus/address.ts'
import { type BusOptions, createBus } from '../plugins/zos/bus/bus.ts'
import { ZosError } from '../plugins/zos/zos-error.ts'
import { within } from '../src/deadline.ts'
import { type TestCommands, type TestLog, testCommands, testLog } from './helpers/zos-commands.ts'
import { freePort, type TestRedis, testRedis } from './helpers/zos-redis.ts'
import { slowProxy } from './helpers/zos-slow-proxy.ts'
import { eventually } from './supervisor/eventually.ts'

const REPLIES = 'msgbus.system.reply'
const BIG = '{"contract_id":18446744073709551615}'

const handlers = {
  'zos.system.version': () => '{"zos":"3.14.1","zinit":"v0.2.14"}',
  'zos.deployment.get': ({ payload }: { payload: string }) => payload,
  'zos.deployment.delete': () => {
    throw new ZosError('invalid', 'deletion over the api is disabled')
  },
  'zos.statistics.get': () => {
    throw new TypeError('a mistake of ours, with a secret')
  },
}

function busOf(
  t: TestContext,
  url: string,
  options: Partial<BusOptions> = {},
  commands: TestCommands = testCommands(handlers),
) {
  const log: TestLog = testLog()
  const bus = createBus({
    url,
    commands,
    log,
    retryMs: 5,
    maxRetryMs: 40,
    asideMs: 50,
    ...options,
  })
  t.after(() => bus.stop())
  bus.start()
  return { bus, log, commands }
}

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** As a peer leaves it. */
function request(cmd: string, members: object = {}) {
  return {
    ver: 1,
    ref: 'a-1',
    src: '1171:sess-1',
    cmd,
    exp: 300,
    dat: '',
    tag: null,
    ret: REPLIES,
    shm: 'application/json',
    now: Math.floor(Date.now() / 1000),
    ...members,
  }
}

async function push(redis: TestRedis, cmd: string, members: object = {}): Promise<void> {
  await redis.ask('LPUSH', `msgbus.${cmd}`, JSON.stringify(request(cmd, members)))
}

interface Reply {
  readonly ref: string
  readonly dst: string
  readonly dat: string
  readonly now: number
  readonly err?: { readonly code: number; readonly message: string }
}

async function reply(redis: TestRedis): Promise<Reply> {
  const popped = await within(30_000, redis.ask('BRPOP', REPLIES, '25'), 'answer on the bus')
  assert.ok(Array.isArray(popped), 'no reply within 25 s')
  return JSON.parse(popped[1])
}

/** A reply that Redis took but could not say so comes twice. */
async function replyTo(redis: TestRedis, ref: string): Promise<Reply> {
  for (;;) {
    const next = await reply(redis)
    if (next.ref === ref) return next
  }
}

const answered = ({ dat }: Reply) => Buffer.from(dat, 'base64').toString()

test('a request is answered exactly, copying what belongs to it', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const { commands, bus } = busOf(t, redis.url)
  const before = Math.floor(Date.now() / 1000)
  await push(redis, 'zos.deployment.get', { dat: base64(BIG), ver: 7, ref: 'é-1' })
  const { now, ...rest } = await reply(redis)
  assert.ok(now >= before)
  assert.deepEqual(rest, {
    ver: 7,
    ref: 'é-1',
    dst: '1171:sess-1',
    dat: base64(BIG),
    shm: 'application/json',
  })
  assert.deepEqual(commands.calls, [{ command: 'zos.deployment.get', twin: 1171, payload: BIG }])
  assert.equal(bus.notReady(), undefined)
})

test('errors have code 255 and their own words; mistakes of ours show nothing', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const { log } = busOf(t, redis.url)
  await push(redis, 'zos.deployment.delete', { shm: null })
  const { now: _, ...refused } = await reply(redis)
  assert.deepEqual(refused, {
    ver: 1,
    ref: 'a-1',
    dst: '1171:sess-1',
    dat: base64('null'),
    shm: null,
    err: { code: 255, message: 'deletion over the api is disabled' },
  })
  await push(redis, 'zos.statistics.get')
  assert.deepEqual((await reply(redis)).err, { code: 255, message: 'internal error' })
  assert.ok(log.lines.some((line) => line.includes('zos.statistics.get failed: TypeError')))
  const unknown = JSON.stringify(request('zos.no.such'))
  await redis.ask('LPUSH', 'msgbus.zos.system.version', unknown)
  assert.deepEqual((await reply(redis)).err, { code: 255, message: 'function is not found' })
})

test('what is no request, has expired or asks for another queue is not answered', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const { commands, log } = busOf(t, redis.url, { maxRequestBytes: 2000 })
  const now = Math.floor(Date.now() / 1000)
  const cmd = 'zos.system.version'
  const dropped: unknown[] = [
    'no json',
    '[]',
    'null',
    '"text"',
    request(cmd, { src: 'abc' }),
    request(cmd, { src: '0' }),
    request(cmd, { src: '4294967296' }),
    request(cmd, { src: '7abc' }),
    request(cmd, { src: 7 }),
    request(cmd, { ver: '1' }),
    request(cmd, { ref: 'x'.repeat(600) }),
    request(cmd, { cmd: 5 }),
    request(cmd, { exp: -1 }),
    request(cmd, { exp: 1.5 }),
    request(cmd, { dat: {} }),
    request(cmd, { shm: 'application/xml' }),
    request(cmd, { ret: 'msgbus.zos.deployment.deploy' }),
    request(cmd, { ret: undefined }),
    request(cmd, { now: now - 301 }),
    request(cmd, { now: now - 1801, exp: 1_000_000 }),
    request(cmd, { dat: base64('x'.repeat(2000)) }),
  ]
  for (const item of dropped) {
    const text = typeof item === 'string' ? item : JSON.stringify(item)
    await redis.ask('LPUSH', `msgbus.${cmd}`, text)
  }
  // Sent later than now, without an expiry, or with one beyond all measure, it still counts.
  await push(redis, cmd, { ref: 'later', now: now + 100_000, exp: 2 ** 50 })
  await push(redis, cmd, { ref: 'last', now: 0, exp: 0 })
  assert.equal((await reply(redis)).ref, 'later')
  assert.equal((await reply(redis)).ref, 'last')
  assert.equal(commands.calls.length, 2)
  assert.equal(await redis.ask('EXISTS', 'msgbus.zos.deployment.deploy'), 0)
  assert.ok(log.lines.length < 10, 'a line for each kind, not for each message')
})

test('a payload that is not UTF-8 in base64 is refused with a code of its own', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const { commands } = busOf(t, redis.url)
  for (const dat of ['a', '!!!!', 'AA=A', Buffer.from([255, 254]).toString('base64')]) {
    await push(redis, 'zos.system.version', { dat })
    assert.equal((await reply(redis)).err?.code, 101, dat)
  }
  assert.equal(commands.calls.length, 0)
})

test('Redis that is down at first, is killed and comes back costs only what it held', async (t) => {
  const redis = await testRedis(t, { running: false })
  if (!redis) return
  const { bus, log } = busOf(t, redis.url)
  await eventually(
    'it is told',
    () => log.lines.length,
    (count) => count === 1,
  )
  assert.match(bus.notReady() ?? '', new RegExp(`the message bus at 127.0.0.1:${redis.port}: `))
  for (const round of [1, 2]) {
    await redis.start()
    await push(redis, 'zos.system.version', { ref: `round ${round}` })
    assert.equal((await reply(redis)).ref, `round ${round}`)
    await eventually(
      'ready',
      () => bus.notReady(),
      (reason) => reason === undefined,
    )
    await redis.kill()
    await eventually(
      'not ready',
      () => bus.notReady(),
      (reason) => reason !== undefined,
    )
  }
  // Once for each loss and each return, however many attempts there were.
  const told = log.lines.map((line) => /^(warn lost|info .* is back)/.exec(line)?.[0].slice(-4))
  assert.deepEqual(told, ['lost', 'back', 'lost', 'back', 'lost'])
})

test('a reply whose Redis went away is sent when it is back', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  let go = () => {}
  const gate = new Promise<void>((open) => {
    go = open
  })
  const slow = testCommands({ 'zos.system.version': () => gate.then(() => '"late"') })
  busOf(t, redis.url, {}, slow)
  await push(redis, 'zos.system.version')
  await eventually(
    'it is called',
    () => slow.calls.length,
    (count) => count === 1,
  )
  await redis.kill()
  go()
  await new Promise((tick) => setTimeout(tick, 50))
  await redis.start()
  assert.equal(answered(await reply(redis)), '"late"')
})

test('a Redis that is slow, cut off or says nothing more is waited for and left', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const proxy = await slowProxy(t, redis.port)
  proxy.delayMs = 60
  const { bus } = busOf(t, `redis://127.0.0.1:${proxy.port}`, { redisMs: 600 })
  const ready = () => eventually('ready', bus.notReady, (reason) => reason === undefined)
  await ready()
  await push(redis, 'zos.system.version', { ref: 'slow' })
  await replyTo(redis, 'slow')
  proxy.cut()
  await eventually('the cut is noticed', bus.notReady, (reason) => reason !== undefined)
  await ready()
  await push(redis, 'zos.system.version', { ref: 'cut' })
  await replyTo(redis, 'cut')
  proxy.delayMs = 0
  proxy.freeze()
  await eventually('the silence is noticed', bus.notReady, (reason) => reason !== undefined)
  proxy.cut()
  await ready()
  await push(redis, 'zos.system.version', { ref: 'again' })
  await replyTo(redis, 'again')
  // Before the proxy ends, or it waits to be told that the reply was taken.
  await within(20_000, bus.stop(), 'stop')
})

test('a key that holds no list costs its own command only, and does not spin', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  await redis.ask('SET', 'msgbus.zos.deployment.get', 'text')
  const { bus, log } = busOf(t, redis.url)
  await push(redis, 'zos.system.version')
  await reply(redis)
  const told = () => log.lines.filter((line) => line.includes('holds no list'))
  await eventually('it is told', told, ({ length }) => length === 1)
  assert.match(told()[0] ?? '', /"msgbus\.zos\.deployment\.get".*DEL msgbus\.zos\.deployment\.get/)
  await eventually('it is told', bus.notReady, (reason) => /no list/.test(reason ?? ''))
  // Tried again each 50 ms: some calls, not thousands.
  const calls = async () => {
    const stats = String(await redis.ask('INFO', 'commandstats'))
    return Number(/cmdstat_brpop:calls=(\d+)/.exec(stats)?.[1])
  }
  const before = await calls()
  await new Promise((tick) => setTimeout(tick, 500))
  assert.ok((await calls()) - before < 40)
  await redis.ask('DEL', 'msgbus.zos.deployment.get')
  await push(redis, 'zos.deployment.get', { dat: base64('[1]') })
  assert.equal(answered(await reply(redis)), '[1]')
  await eventually(
    'it is fine',
    () => bus.notReady(),
    (reason) => reason === undefined,
  )
  assert.equal(told().length, 1)
})

test('the replies cannot be taken: no memory passes, a key of another type does not', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  let go = () => {}
  const gate = new Promise<void>((open) => {
    go = open
  })
  const held = testCommands({ ...handlers, 'zos.held': () => gate.then(() => '1') })
  const { log } = busOf(t, redis.url, {}, held)
  await push(redis, 'zos.held', { ref: 'oom' })
  await eventually(
    'it is called',
    () => held.calls.length,
    (count) => count === 1,
  )
  await redis.ask('CONFIG', 'SET', 'maxmemory', '1')
  go()
  await new Promise((tick) => setTimeout(tick, 100))
  await redis.ask('CONFIG', 'SET', 'maxmemory', '0')
  assert.equal((await reply(redis)).ref, 'oom')
  await redis.ask('SET', REPLIES, 'text')
  await push(redis, 'zos.system.version', { ref: 'lost' })
  await eventually(
    'it is told',
    () => log.lines,
    (lines) => lines.some((line) => line.includes('Redis does not take a reply: WRONGTYPE')),
  )
  await redis.ask('DEL', REPLIES)
  await push(redis, 'zos.system.version', { ref: 'after' })
  assert.equal((await reply(redis)).ref, 'after')
})

test('a replica that may not be written is left in peace until it may', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const primary = await testRedis(t)
  if (!primary) return
  await redis.ask('REPLICAOF', '127.0.0.1', `${primary.port}`)
  const { bus } = busOf(t, redis.url)
  await eventually(
    'told',
    () => bus.notReady(),
    (reason) => /READONLY/.test(reason ?? ''),
  )
  await redis.ask('REPLICAOF', 'NO', 'ONE')
  await push(redis, 'zos.system.version')
  assert.equal(answered(await reply(redis)), handlers['zos.system.version']())
})

test('10,000 waiting requests are all answered, a few at a time, none starved', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const many = Array.from({ length: 10_000 }, (_, at) =>
    JSON.stringify(request('zos.deployment.get', { ref: `${at}`, dat: base64(`${at}`) })),
  )
  await redis.ask('LPUSH', 'msgbus.zos.deployment.get', ...many)
  await push(redis, 'zos.system.version', { ref: 'other' })
  let running = 0
  let most = 0
  const commands = testCommands({
    'zos.deployment.get': async ({ payload }) => {
      most = Math.max(most, ++running)
      await new Promise((tick) => setTimeout(tick, 2))
      running--
      return payload
    },
    'zos.system.version': () => '1',
  })
  busOf(t, redis.url, { workers: 8 }, commands)
  const seen = new Set<string>()
  let other = -1
  while (seen.size < 10_001) {
    const next = await reply(redis)
    if (next.ref === 'other') other = seen.size
    else assert.equal(answered(next), next.ref)
    seen.add(next.ref)
  }
  assert.equal(most, 8)
  assert.ok(other < 100, `the other command had to wait for ${other} of the full queue`)
})

test('nobody reads the replies: the oldest go', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  await redis.ask('LPUSH', REPLIES, ...Array.from({ length: 10_000 }, (_, at) => `${at}`))
  busOf(t, redis.url)
  await push(redis, 'zos.system.version')
  await eventually(
    'the reply is there',
    async () => String(await redis.ask('LINDEX', REPLIES, '0')),
    (first) => first.startsWith('{'),
  )
  await eventually(
    'trimmed',
    () => redis.ask('LLEN', REPLIES),
    (length) => length === 10_000,
  )
  assert.equal(await redis.ask('LINDEX', REPLIES, '-1'), '1')
})

test('a command that is late or says too much is answered with an error', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  let aborted = 0
  const commands = testCommands({
    'zos.late': ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          aborted++
          reject(signal.reason)
        })
      }),
    'zos.long': () => `"${'x'.repeat(5000)}"`,
  })
  busOf(t, redis.url, { deadlineMs: 100, maxReplyBytes: 4000 }, commands)
  await push(redis, 'zos.late')
  const message = 'zos.late did not answer within 100 ms, try again later'
  assert.deepEqual((await reply(redis)).err, { code: 255, message })
  assert.equal(aborted, 1)
  await push(redis, 'zos.long')
  const tooLong = 'the reply of zos.long has 5002 bytes, at most 4000 can be sent'
  assert.deepEqual((await reply(redis)).err, { code: 255, message: tooLong })
})

test('stop answers what was taken, leaves the rest, and is safe at any time', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  let go = () => {}
  const gate = new Promise<void>((open) => {
    go = open
  })
  const commands = testCommands({ 'zos.held': ({ payload }) => gate.then(() => payload) })
  const { bus } = busOf(t, redis.url, { workers: 4 }, commands)
  const refs = Array.from({ length: 10 }, (_, at) => `${at}`)
  for (const ref of refs) await push(redis, 'zos.held', { ref, dat: base64(`"${ref}"`) })
  await eventually(
    'four run',
    () => commands.calls.length,
    (count) => count === 4,
  )
  const stopped = bus.stop()
  go()
  await within(20_000, Promise.all([stopped, bus.stop()]), 'stop')
  const replies = new Set<string>()
  for (let count = 0; count < 4; count++) replies.add((await reply(redis)).ref)
  assert.deepEqual([...replies].sort(), ['0', '1', '2', '3'])
  assert.equal(await redis.ask('LLEN', 'msgbus.zos.held'), 6)
  assert.equal(commands.calls.length, 4)
  assert.equal(
    String(await redis.ask('CLIENT', 'LIST'))
      .split('\n')
      .filter(Boolean).length,
    1,
  )
  await within(20_000, busOf(t, redis.url).bus.stop(), 'stop')
  await within(20_000, busOf(t, `redis://127.0.0.1:${await freePort()}`).bus.stop(), 'stop')
  const never = createBus({ url: redis.url, commands, log: testLog() })
  await never.stop()
})

test('nothing that arrives while it stops is lost', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  for (let round = 0; round < 10; round++) {
    const { bus } = busOf(t, redis.url)
    const pushing = (async () => {
      for (let at = 0; at < 30; at++) await push(redis, 'zos.system.version', { ref: `${at}` })
    })()
    await new Promise((tick) => setTimeout(tick, round))
    await within(20_000, bus.stop(), 'stop')
    await pushing
    const left: number = Number(await redis.ask('LLEN', 'msgbus.zos.system.version'))
    const done: number = Number(await redis.ask('LLEN', REPLIES))
    assert.equal(left + done, 30)
    await redis.ask('FLUSHALL')
  }
})

test('credentials are used, and shown nowhere', async (t) => {
  const password = 's3cret/pass:word'
  const redis = await testRedis(t, { password })
  if (!redis) return
  const url = (secret: string) => `redis://:${encodeURIComponent(secret)}@127.0.0.1:${redis.port}`
  const events: string[] = []
  const sink = { append: (message: string) => void events.push(message) } as never
  const { bus: refused, log } = busOf(t, url('wr0ng'), { events: sink })
  await eventually('told', refused.notReady, (reason) => /WRONGPASS/.test(reason ?? ''))
  const good = busOf(t, url(password), { events: sink })
  await push(redis, 'zos.system.version')
  await reply(redis)
  await redis.kill()
  await eventually('lost', good.bus.notReady, (reason) => reason !== undefined)
  const shown = inspect([log.lines, good.log.lines, events, good.bus, good.bus.notReady()])
  for (const secret of ['wr0ng', 's3cret', encodeURIComponent(password)]) {
    assert.ok(!shown.includes(secret), shown)
  }
  assert.ok(events.length >= 2)
})

test('addresses are read, and none is quoted with its password', () => {
  for (const [text, label] of [
    ['redis://127.0.0.1', '127.0.0.1:6379'],
    ['redis://user:s3cret@bus.example:7000/2', 'bus.example:7000/2'],
    ['rediss://:s3cret@[::1]:7000', '[::1]:7000'],
    ['unix:///run/redis.sock', 'unix:/run/redis.sock'],
    ['unix://user:s3cret@/run/redis.sock?db=1', 'unix:/run/redis.sock'],
  ] as const) {
    assert.equal(readBusAddress(text).label, label)
  }
  for (const text of [
    '',
    'redis',
    'http://:s3cret@host',
    'redis://:s3cret@',
    'redis://:s3cret@host/x',
    'redis://:s3cret@host:99999',
    'redis://:s3cret%zz@host',
    'unix://s3cret',
  ]) {
    assert.throws(
      () => readBusAddress(text),
      (error) => error instanceof TypeError && !inspect(error).includes('s3cret'),
      text,
    )
  }
})
