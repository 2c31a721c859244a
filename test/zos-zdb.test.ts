import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { DriverError } from '../plugins/zos/drivers/driver.ts'
import { readNamespaceInfo } from '../plugins/zos/drivers/zdb/namespace-info.ts'
import { createZdbDriver, type ZdbOptions } from '../plugins/zos/drivers/zdb/zdb.ts'
import type { Zdb } from '../plugins/zos/model.ts'
import { rawBackend, soon } from './helpers/zos-gateway.ts'
import { testRedis } from './helpers/zos-redis.ts'
import { taskOf, workloadOf } from './helpers/zos-storage-task.ts'
import { startZdb } from './helpers/zos-zdb-server.ts'

const SECRET = 'very-secret-canary'
const ADMIN = 'admin-canary'
const signal = new AbortController().signal

const zdb = (more: Partial<Zdb> = {}, name = 'db') =>
  workloadOf('zdb', name, { size: 1000n, mode: 'user', password: SECRET, public: false, ...more })

const driverTo = (port: number, more: Partial<ZdbOptions> = {}) =>
  createZdbDriver({ address: { host: '127.0.0.1', port }, timeoutMs: 5000, ...more })

/** No error may say a password. */
const refusal = (kind: DriverError['kind'], message: string | RegExp) => (error: Error) => {
  assert.equal(error.name, 'DriverError', String(error.stack))
  assert.equal((error as DriverError).kind, kind, error.message)
  if (typeof message === 'string') assert.equal(error.message, message)
  else assert.match(error.message, message)
  for (let one: unknown = error; one instanceof Error; one = one.cause) {
    assert.doesNotMatch(`${one.stack}${JSON.stringify(one)}`, /canary/)
  }
  return true
}

test('a namespace is made, paused, resumed and removed', async (t) => {
  const server = await startZdb(t, ADMIN)
  const driver = driverTo(server.port, { admin: async () => ADMIN, publicPort: 9900 })
  assert.deepEqual(await driver.probe(signal), { able: true })
  const task = taskOf(zdb({ mode: 'seq' }))
  const result = { Namespace: task.id, IPs: ['127.0.0.1'], Port: 9900 }
  assert.deepEqual(await driver.provision(task), result)
  const made = {
    mode: 'seq',
    password: SECRET,
    public: false,
    maxsize: 1000n,
    locked: false,
    entries: 0,
    dataSize: 0n,
  }
  assert.deepEqual(server.namespaces.get(task.id), made)
  assert.equal((await driver.health?.(task))?.[0]?.message, '0 of 1000 bytes are used')
  await driver.pause?.(task)
  await driver.pause?.(task)
  assert.equal(server.namespaces.get(task.id)?.locked, true)
  assert.match((await driver.health?.(task))?.[0]?.message ?? '', /it is locked$/)
  await driver.resume?.(task)
  assert.equal(server.namespaces.get(task.id)?.locked, false)

  // Again after a restart, when it has content.
  const namespace = server.namespaces.get(task.id)
  assert.ok(namespace)
  Object.assign(namespace, { entries: 3, dataSize: 500n })
  assert.deepEqual(await driver.provision(task), result)
  assert.deepEqual(server.namespaces.get(task.id), { ...made, entries: 3, dataSize: 500n })

  await driver.deprovision(task)
  await driver.deprovision(task)
  assert.deepEqual([...server.namespaces.keys()], ['default'])
  await driver.pause?.(task)
  assert.equal((await driver.health?.(task))?.[0]?.ok, false)
})

test('an interrupted creation is finished', async (t) => {
  const server = await startZdb(t)
  const task = taskOf(zdb({ mode: 'seq', public: true, password: '' }))
  const driver = driverTo(server.port, { ips: () => ['2001:db8::5', '10.0.0.5'] })
  server.fault = ([command], socket) => {
    if (command === 'NSSET') socket.destroy()
    return undefined
  }
  await assert.rejects(driver.provision(task), refusal('transient', /^Cannot reach 0-db at /))
  assert.ok(server.namespaces.has(task.id))
  server.fault = undefined
  assert.deepEqual(await driver.provision(task), {
    Namespace: task.id,
    IPs: ['2001:db8::5', '10.0.0.5'],
    Port: server.port,
  })
  const { mode, password, maxsize } = server.namespaces.get(task.id) ?? {}
  assert.deepEqual([mode, password, maxsize], ['seq', '', 1000n])
})

test('an update keeps the rules', async (t) => {
  const server = await startZdb(t)
  const driver = driverTo(server.port)
  const before = zdb()
  const task = taskOf(before)
  await driver.provision(task)
  const update = async (more: Partial<Zdb>) =>
    driver.update?.({ ...taskOf(zdb(more)), previous: before.data })
  await assert.rejects(
    update({ mode: 'seq' }),
    refusal('unchanged', 'cannot change namespace mode'),
  )
  await assert.rejects(update({ size: 999n }), refusal('unchanged', 'cannot shrink zdb namespace'))
  await assert.rejects(update({}), refusal('no-action', /so already/))
  const text = 'no enough free space to support new size'
  await assert.rejects(update({ size: 1_000_001n }), refusal('unchanged', text))
  assert.equal(server.namespaces.get(task.id)?.maxsize, 1000n)
  await update({ size: 5000n, password: `${SECRET}2`, public: true })
  const after = server.namespaces.get(task.id)
  assert.deepEqual([after?.maxsize, after?.password, after?.public], [5000n, `${SECRET}2`, true])
  await update({ password: '' })
  assert.equal(server.namespaces.get(task.id)?.password, '')
  await assert.rejects(update({ password: '*' }), refusal('failed', /single asterisk/))
  server.fault = ([command]) => (command === 'NSSET' ? '-Disk on fire\r\n' : undefined)
  await assert.rejects(
    update({ size: 6000n }),
    refusal('unchanged', /refuses NSSET: Disk on fire$/),
  )
  server.fault = undefined
  await driver.deprovision(task)
  await assert.rejects(update({ size: 6000n }), refusal('unchanged', 'namespace not found'))
})

test('what others were promised is not given away', async (t) => {
  const server = await startZdb(t)
  const driver = driverTo(server.port)
  const [a, b] = [taskOf(zdb({ size: 600_000n }, 'a')), taskOf(zdb({ size: 600_000n }, 'b'))]
  const both = await Promise.allSettled([driver.provision(a), driver.provision(b)])
  assert.deepEqual(
    both.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  )
  await assert.rejects(
    driver.provision(b),
    refusal('failed', /not enough space left in pools of this type hdd$/),
  )
  // What a namespace has filled is not free any more, and is no promise either.
  const filled = server.namespaces.get(a.id)
  assert.ok(filled)
  filled.dataSize = 600_000n
  server.diskFree = 600_000n
  await driver.provision(b)
  server.diskFree = 0n
  await assert.rejects(
    driver.provision(taskOf(zdb({}, 'c'))),
    refusal('failed', /not enough space/),
  )
  await driverTo(server.port, { overcommit: true }).provision(taskOf(zdb({}, 'c')))
  server.diskFree = undefined
  await driver.provision(taskOf(zdb({}, 'd')))
  const probed = await driver.probe(signal)
  assert.ok(probed.able && probed.warning)
})

test('a wrong or missing secret is told without it', async (t) => {
  const server = await startZdb(t, ADMIN)
  const wrong = driverTo(server.port, { admin: async () => 'wrong-canary' })
  const probed = await wrong.probe(signal)
  assert.deepEqual(probed, { able: false, reason: `0-db at 127.0.0.1:${server.port} refuses AUTH` })
  await assert.rejects(wrong.provision(taskOf(zdb())), refusal('failed', /refuses AUTH$/))
  const none = driverTo(server.port)
  await assert.rejects(
    none.provision(taskOf(zdb())),
    refusal('failed', /NSNEW: Permission denied$/),
  )
  // One that repeats what it was sent.
  server.fault = (words) => (words[0] === 'NSSET' ? `-unknown: ${words.join(' ')}\r\n` : undefined)
  const right = driverTo(server.port, { admin: async () => ADMIN })
  await assert.rejects(right.provision(taskOf(zdb())), refusal('failed', /refuses NSSET$/))
  server.fault = (words) => (words[0] === 'AUTH' ? `-what is ${words[1]}?\r\n` : undefined)
  await assert.rejects(right.provision(taskOf(zdb())), refusal('failed', /refuses AUTH$/))
  await assert.rejects(
    right.pause?.(taskOf(zdb())) ?? Promise.resolve(),
    refusal('unchanged', /locking/),
  )
})

test('one that is down, slow, or something else', async (t) => {
  const port = await rawBackend(t, (socket) => socket.destroy())
  const away = /^Cannot reach 0-db at 127\.0\.0\.1:\d+: /
  const task = taskOf(zdb())
  for (const down of [1, port]) {
    await soon('fail', assert.rejects(driverTo(down).provision(task), refusal('transient', away)))
    const probed = await driverTo(down).probe(signal)
    assert.ok(!probed.able)
    assert.match(probed.reason, away)
  }
  const silent = await rawBackend(t, (socket) => void socket.resume())
  const impatient = driverTo(silent, { timeoutMs: 200 })
  await soon('fail', assert.rejects(impatient.deprovision(task), refusal('transient', away)))
  for (const garbage of [
    'HTTP/1.1 400 Bad Request\r\n\r\n',
    '$999999999999\r\n',
    '\0\0\0\0',
    '*1\r\n*1\r\n',
  ]) {
    const babbler = await rawBackend(t, (socket) => {
      socket.on('data', () => socket.write(garbage))
    })
    const driver = driverTo(babbler, { timeoutMs: 300 })
    await soon(
      'fail',
      assert.rejects(driver.provision(task), (error: Error) => error.name === 'DriverError'),
    )
    assert.equal((await driver.probe(signal)).able, false)
  }

  const server = await startZdb(t)
  for (const [command, answer, why] of [
    ['PING', ':1\r\n', /says no PONG/],
    ['NSINFO', '+OK\r\n', /describes no namespace/],
    ['NSINFO', '*0\r\n', /describes no namespace/],
    ['NSINFO', '-Boom \x1b[31m\r\n', /refuses NSINFO: Boom \?\[31m$/],
  ] as const) {
    server.fault = ([word]) => (word === command ? answer : undefined)
    const probed = await driverTo(server.port).probe(signal)
    assert.ok(!probed.able)
    assert.match(probed.reason, why)
  }
  server.fault = ([word]) => (word === 'NSLIST' ? '*1\r\n:3\r\n' : undefined)
  await assert.rejects(driverTo(server.port).provision(task), refusal('failed', /no list of names/))
  server.fault = ([word]) => (word === 'NSNEW' ? ':0\r\n' : undefined)
  await assert.rejects(
    driverTo(server.port).provision(task),
    refusal('failed', /its answer is not OK/),
  )
})

test('a real Redis is told from a 0-db', async (t) => {
  const redis = await testRedis(t)
  if (!redis) return
  const probed = await driverTo(redis.port).probe(signal)
  assert.ok(!probed.able)
  assert.match(probed.reason, /^0-db at 127\.0\.0\.1:\d+ refuses NSINFO: ERR unknown command/)
})

test('a description of a namespace is read in any order, and bad ones are none', () => {
  const text =
    '# namespace\nname: 1-2-a\r\nentries: 7\npublic: yes\npassword: no\ndata_size_bytes: 18446744073709551615\n' +
    'data_limits_bytes: 0\nmode: sequential\nunknown line\nlocked: no\n'
  assert.deepEqual(readNamespaceInfo(text), {
    name: '1-2-a',
    entries: 7n,
    public: true,
    password: false,
    dataSize: 18446744073709551615n,
    dataLimit: 0n,
    mode: 'seq',
    locked: false,
    diskFree: undefined,
  })
  assert.equal(readNamespaceInfo(''), undefined)
  assert.equal(readNamespaceInfo('name: a\ndata_size_bytes: -1\ndata_limits_bytes: 0'), undefined)
  assert.equal(readNamespaceInfo(`name: a\n${'x'.repeat(70_000)}`), undefined)
  fc.assert(
    fc.property(fc.string(), (any) => {
      const info = readNamespaceInfo(any)
      assert.ok(info === undefined || info.dataSize >= 0n)
    }),
  )
})
