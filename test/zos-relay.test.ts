import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { RegistryError, type Twin } from '../plugins/zos/registry/registry.ts'
import { readRelayAddress } from '../plugins/zos/relay/address.ts'
import { createRelayClient, type RelayClientOptions } from '../plugins/zos/relay/client.ts'
import { createLines } from '../plugins/zos/relay/lines.ts'
import { createSeen } from '../plugins/zos/relay/seen.ts'
import { createTwins } from '../plugins/zos/relay/twins.ts'
import { type Envelope, encodeEnvelope } from '../plugins/zos/rmb/envelope.ts'
import { createIdentity, type Identity } from '../plugins/zos/rmb/identity.ts'
import { ZosError } from '../plugins/zos/zos-error.ts'
import { within } from '../src/deadline.ts'
import { type TestCommands, testCommands, testLog } from './helpers/zos-commands.ts'
import { freePort } from './helpers/zos-redis.ts'
import { relayError, type TestRelay, testRelay } from './helpers/zos-relay.ts'
import { requester } from './helpers/zos-requester.ts'
import { slowProxy } from './helpers/zos-slow-proxy.ts'
import { eventually } from './supervisor/eventually.ts'

const NODE = 17
const CALLER = 42
const node = createIdentity('77'.repeat(32), 'ed25519')
const caller = createIdentity('11'.repeat(32), 'ed25519')
const other = createIdentity('22'.repeat(32), 'sr25519')
const BIG = '{"contract_id":18446744073709551615,"text":"é"}'

const handlers = {
  'zos.deployment.get': ({ payload }: { payload: string }) => payload,
  'zos.deployment.delete': () => {
    throw new ZosError('invalid', 'deletion over the api is disabled', { code: 7 })
  },
}

function keyOf(id: number): Uint8Array | undefined {
  return { [NODE]: node, [CALLER]: caller, 43: other }[id]?.publicKey
}

function twin(id: number, identity: Identity, members: Partial<Twin> = {}): Twin {
  const { publicKey, keyType, pk } = identity
  return { id, keyType, publicKey, relays: [], pk, ...members }
}

const ALL = [twin(NODE, node), twin(CALLER, caller), twin(43, other)]

function registryOf(twins: () => readonly Twin[]) {
  const listeners = new Set<() => void>()
  const asked: number[] = []
  return {
    asked,
    changed: () => {
      for (const listener of listeners) listener()
    },
    twin: async (id: number) => {
      asked.push(id)
      return twins().find((one) => one.id === id)
    },
    onChange: (changed: () => void) => {
      listeners.add(changed)
      return () => void listeners.delete(changed)
    },
  }
}

function clientOf(
  t: TestContext,
  urls: readonly string[],
  options: Partial<RelayClientOptions> = {},
  commands: TestCommands = testCommands(handlers),
) {
  const log = testLog()
  const client = createRelayClient({
    urls,
    identity: node,
    twinId: NODE,
    registry: registryOf(() => ALL),
    commands,
    log,
    retryMs: 5,
    maxRetryMs: 50,
    ...options,
  })
  t.after(() => client.stop())
  client.start()
  return { client, log, commands }
}

const present = (relay: TestRelay, name: string) =>
  eventually(`${name} is connected`, relay.connected, (names) => names.includes(name))

/** A relay, this daemon at it, and a twin that asks it. */
async function scene(
  t: TestContext,
  options: Partial<RelayClientOptions> = {},
  commands?: TestCommands,
) {
  const relay = await testRelay(t, keyOf)
  const daemon = clientOf(t, [relay.url], options, commands)
  await present(relay, options.session ? `${NODE}:${options.session}` : `${NODE}`)
  const asking = { url: relay.url, identity: caller, twinId: CALLER, session: 'a' }
  const asker = await requester(t, { ...asking, other: twin(NODE, node) })
  return { relay, asker, ...daemon }
}

/** Waits until the daemon has read all that was sent before. */
async function fence(asker: Awaited<ReturnType<typeof requester>>): Promise<void> {
  await asker.ask(asker.envelope('zos.deployment.get', '0'))
}

test('a request is answered: signed, encrypted, to the session that asked', async (t) => {
  const { relay, asker, commands, client } = await scene(t)
  const request = asker.envelope('zos.deployment.get', BIG)
  const answer = await asker.ask(request)
  assert.equal(await asker.read(answer), BIG)
  assert.deepEqual(answer.message, { kind: 'response' })
  assert.deepEqual(answer.source, { twin: NODE })
  assert.deepEqual(answer.destination, { twin: CALLER, connection: 'a' })
  assert.deepEqual([answer.schema, answer.expiration], ['application/json', 1800n])
  assert.equal(answer.payload?.kind, 'cipher')
  const refused = await asker.ask(asker.envelope('zos.deployment.delete', ''))
  const message = 'deletion over the api is disabled'
  assert.deepEqual(refused.message, { kind: 'error', code: 7, message })
  assert.equal(await asker.read(refused), 'null')
  assert.deepEqual(commands.calls, [
    { command: 'zos.deployment.get', twin: CALLER, payload: BIG },
    { command: 'zos.deployment.delete', twin: CALLER, payload: '' },
  ])
  assert.equal(client.notReady(), undefined)
  assert.deepEqual(relay.refused, [])
})

test('a twin of either kind of key, without one for encryption, is answered in clear', async (t) => {
  const relay = await testRelay(t, keyOf)
  const bare = [twin(NODE, node), twin(43, other, { pk: undefined, keyType: undefined })]
  clientOf(t, [relay.url], { registry: registryOf(() => bare), session: 's' })
  await present(relay, `${NODE}:s`)
  const asking = { url: relay.url, identity: other, twinId: 43, plain: true }
  const asker = await requester(t, { ...asking, other: twin(NODE, node) })
  const destination = { twin: NODE, connection: 's' }
  const answer = await asker.ask(asker.envelope('zos.deployment.get', BIG, { destination }))
  assert.deepEqual([answer.payload?.kind, await asker.read(answer)], ['plain', BIG])
  assert.deepEqual(answer.source, destination)
  // It encrypts, though nobody can know its key.
  const payload = { kind: 'cipher', bytes: new Uint8Array(40) } as const
  const refused = await asker.ask(
    asker.envelope('zos.deployment.get', '', { destination, payload }),
  )
  const message = 'twin 43 has no public key for encryption'
  assert.deepEqual(refused.message, { kind: 'error', code: 105, message })
})

test('a payload that cannot be decrypted or is no text is refused with its code', async (t) => {
  const { asker, commands } = await scene(t)
  for (const [code, kind, bytes] of [
    [106, 'cipher', new Uint8Array(40)],
    [106, 'cipher', new Uint8Array(0)],
    [101, 'plain', Uint8Array.of(255, 254)],
  ] as const) {
    const payload = { kind, bytes }
    const answer = await asker.ask(asker.envelope('zos.deployment.get', '', { payload }))
    assert.equal(answer.message?.kind === 'error' && answer.message.code, code)
  }
  assert.equal(commands.calls.length, 0)
})

test('a key for encryption that is none keeps the answer from going out in clear', async (t) => {
  const pk = new Uint8Array(33)
  const twins = [twin(NODE, node), twin(CALLER, caller, { pk })]
  const { asker } = await scene(t, { registry: registryOf(() => twins) })
  const payload = { kind: 'plain', bytes: new TextEncoder().encode(BIG) } as const
  const answer = await asker.ask(asker.envelope('zos.deployment.get', '', { payload }))
  const message = `the key of twin ${CALLER} is not valid`
  assert.deepEqual(answer.message, { kind: 'error', code: 106, message })
  assert.equal(await asker.read(answer), 'null')
})

test('what is not signed by its sender, late, early, elsewhere or again is dropped', async (t) => {
  const { relay, asker, commands, log } = await scene(t)
  const now = BigInt(Math.floor(Date.now() / 1000))
  const command = 'zos.deployment.get'
  const good = asker.envelope(command, '1')
  const forged = asker.envelope(command, '2', { source: { twin: 43 } })
  const { signature: _, ...unsigned } = asker.envelope(command, '3')
  const dropped: readonly (Envelope | Uint8Array)[] = [
    Uint8Array.of(1, 2, 3),
    new Uint8Array(),
    forged,
    unsigned,
    { ...good, uid: 'another' },
    { ...good, signature: (good.signature as Uint8Array).slice(1) },
    asker.envelope(command, '4', { source: { twin: 99 } }),
    asker.envelope(command, '5', { source: { twin: 0 } }),
    asker.envelope(command, '6', { timestamp: now - 400n }),
    asker.envelope(command, '7', { timestamp: now - 2000n, expiration: 2n ** 60n }),
    asker.envelope(command, '8', { timestamp: now + 1000n }),
    asker.envelope(command, '9', { timestamp: 2n ** 64n - 1n, expiration: 2n ** 64n - 1n }),
    asker.envelope(command, '10', { expiration: 0n }),
    asker.envelope(command, '11', { destination: { twin: 43 } }),
    asker.envelope(command, '12', { destination: { twin: NODE, connection: 'x' } }),
    asker.envelope(command, '13', { schema: 'application/xml' }),
    asker.envelope(command, '14', { uid: '' }),
    asker.envelope(command, '15', { message: { kind: 'response' } }),
    asker.envelope(command, '16', { message: { kind: 'ping' } }),
    relayError('', 'destination offline'),
  ]
  for (const item of dropped) {
    relay.send(`${NODE}`, item instanceof Uint8Array ? item : encodeEnvelope(item))
  }
  // What a stranger broke does not keep the real one from being answered, and only once.
  assert.equal(await asker.read(await asker.ask(good)), '1')
  relay.send(`${NODE}`, encodeEnvelope(good))
  asker.send(good)
  await fence(asker)
  const called = commands.calls.map(({ payload }) => payload)
  assert.deepEqual(called, ['1', '0'])
  const said = log.lines.join('\n')
  assert.match(said, /the relay says: destination offline/)
  assert.match(said, /its signature is not that of twin 43/)
  assert.ok(log.lines.length < 20, 'a line for each kind, not for each message')
  assert.equal(relay.connected().includes(`${NODE}`), true)
})

test('connections that end are made again, after refusals, cuts, text and silence', async (t) => {
  const relay = await testRelay(t, keyOf)
  const { client, log } = clientOf(t, [relay.url])
  await present(relay, `${NODE}`)
  let { accepted } = relay
  for (const end of [() => relay.cut(`${NODE}`), () => relay.send(`${NODE}`, 'text')]) {
    end()
    await eventually(
      'again',
      () => relay.accepted,
      (count) => count > accepted,
    )
    accepted = relay.accepted
    await eventually('ready', client.notReady, (reason) => reason === undefined)
  }
  assert.ok(log.lines.some((line) => line.includes('it sent text')))
  await relay.stop()
  await eventually('lost', client.notReady, (reason) => reason !== undefined)
  const back = await testRelay(t, keyOf, relay.port)
  await present(back, `${NODE}`)

  const stranger = createIdentity('99'.repeat(32), 'sr25519')
  const refused = clientOf(t, [back.url], { identity: stranger })
  await eventually(
    'refused',
    () => back.refused.length,
    (count) => count > 1,
  )
  assert.match(refused.client.notReady() ?? '', /^no relay is connected \(127\.0\.0\.1:\d+: /)
  assert.equal(refused.log.lines.filter((line) => line.includes('lost the relay')).length, 1)
  const shown = inspect([refused.log.lines, refused.client.notReady()])
  assert.ok(!/eyJ|token=/.test(shown), shown)
})

test('a relay that falls silent is left', async (t) => {
  const relay = await testRelay(t, keyOf)
  const proxy = await slowProxy(t, relay.port)
  const { client, log } = clientOf(t, [`ws://127.0.0.1:${proxy.port}`], {
    pingMs: 100,
    connectMs: 500,
  })
  await present(relay, `${NODE}`)
  // Pings alone keep it.
  await new Promise((tick) => setTimeout(tick, 500))
  assert.equal(relay.accepted, 1)
  proxy.freeze()
  await eventually('lost', client.notReady, (reason) => reason !== undefined)
  assert.ok(log.lines.some((line) => line.includes('it says nothing any more')))
  await eventually('no answer', client.notReady, (reason) => /did not answer/.test(reason ?? ''))
  proxy.cut()
  await eventually('back', client.notReady, (reason) => reason === undefined)
})

test('with several relays an answer finds its way although one goes', async (t) => {
  const first = await testRelay(t, keyOf)
  const second = await testRelay(t, keyOf)
  let go = () => {}
  const gate = new Promise<void>((open) => {
    go = open
  })
  const commands = testCommands({ held: () => gate.then(() => '1') })
  const { client, log } = clientOf(t, [first.url, second.url], { maxRetryMs: 100 }, commands)
  await present(first, `${NODE}`)
  await present(second, `${NODE}`)
  const asking = { identity: caller, twinId: CALLER, other: twin(NODE, node) }
  const at = await requester(t, { url: first.url, ...asking })
  const elsewhere = await requester(t, { url: second.url, ...asking })
  const request = at.envelope('held', '')
  at.send(request)
  await eventually(
    'it is called',
    () => commands.calls.length,
    (count) => count === 1,
  )
  await first.stop()
  await eventually(
    'noticed',
    () => log.lines.join(),
    (lines) => lines.includes(`lost the relay ${first.host}`),
  )
  assert.equal(client.notReady(), undefined)
  // The same uid at the other relay: it is known already, so nothing is called again.
  const answer = elsewhere.ask(request)
  go()
  assert.equal(await elsewhere.read(await answer), '1')
  assert.equal(commands.calls.length, 1)
})

test('a flood is bounded: some work, some wait, the rest is dropped', async (t) => {
  let go = () => {}
  const gate = new Promise<void>((open) => {
    go = open
  })
  let running = 0
  let most = 0
  const commands = testCommands({
    held: async () => {
      most = Math.max(most, ++running)
      await gate
      running--
      return '1'
    },
    ...handlers,
  })
  const { asker, log, relay } = await scene(t, { workers: 3, maxWaiting: 5 }, commands)
  const flood = Array.from({ length: 30 }, () => asker.envelope('held', ''))
  for (const request of flood) asker.send(request)
  await eventually(
    'dropped',
    () => log.lines,
    (lines) => lines.some((line) => line.includes('too many of its twin wait already')),
  )
  await eventually(
    'all came',
    () => relay.passed.length,
    (count) => count >= 30,
  )
  go()
  const answers = () => relay.passed.filter(({ message }) => message?.kind === 'response').length
  await eventually('answered', answers, (count) => count >= 5)
  await fence(asker)
  assert.ok(most <= 3)
  assert.ok(commands.calls.length < 30)
})

test('a flood of one twin costs that twin only', async (t) => {
  const held: (() => void)[] = []
  const commands = testCommands({
    held: () => new Promise<string>((answer) => held.push(() => answer('1'))),
    ...handlers,
  })
  const { asker, log, relay } = await scene(t, { workers: 4, maxWaiting: 6 }, commands)
  for (let count = 0; count < 40; count++) asker.send(asker.envelope('held', ''))
  await eventually(
    'dropped',
    () => log.lines,
    (lines) => lines.some((line) => line.includes('too many of its twin wait already')),
  )
  const another = await requester(t, {
    url: relay.url,
    identity: other,
    twinId: 43,
    other: twin(NODE, node),
  })
  // There is a place for the other twin, and room for its messages to wait.
  const asked = Array.from({ length: 3 }, () =>
    another.ask(another.envelope('zos.deployment.get', BIG)),
  )
  for (const answer of await within(20_000, Promise.all(asked), 'answer')) {
    assert.equal(await another.read(answer), BIG)
  }
  assert.equal(held.length, 3)
  const over = setInterval(() => held.splice(0).map((answer) => answer()), 1)
  t.after(() => clearInterval(over))
  await eventually(
    'the others of the flood',
    () => relay.passed.filter(({ destination }) => destination?.twin === CALLER).length,
    (count) => count >= 6,
  )
})

test('property: lines are fair, and what waits is bounded', () => {
  const step = fc.oneof(
    fc.record({ add: fc.integer({ min: 1, max: 4 }), bytes: fc.integer({ min: 0, max: 60 }) }),
    fc.constant('next' as const),
    fc.constant('end' as const),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const lines = createLines<{ twin: number; bytes: number; at: number }>({
        most: 8,
        mostBytes: 100,
        mostAtWork: 2,
      })
      let waiting: { twin: number; bytes: number; at: number }[] = []
      const work: number[] = []
      for (const [at, what] of steps.entries()) {
        if (what === 'next') {
          const found = lines.next()
          const may = waiting.filter(({ twin }) => work.filter((one) => one === twin).length < 2)
          assert.equal(found === undefined, may.length === 0)
          if (!found) continue
          const first = waiting.find(({ twin }) => twin === found.twin)
          assert.equal(found.item, first, 'in its own order')
          waiting = waiting.filter((one) => one !== first)
          work.push(found.twin)
        } else if (what === 'end') {
          const twin = work.shift()
          if (twin !== undefined) lines.ended(twin)
        } else {
          const item = { twin: what.add, bytes: what.bytes, at }
          const gone = new Set(lines.add(item.twin, item.bytes, item))
          waiting = [...waiting, item].filter((one) => !gone.has(one))
        }
        assert.equal(lines.size(), waiting.length)
        assert.ok(waiting.length <= 8)
        assert.ok(waiting.reduce((sum, { bytes }) => sum + bytes, 0) <= 100)
      }
    }),
  )
})

test('sizes and times are bounded', async (t) => {
  const commands = testCommands({
    ...handlers,
    late: ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
      }),
    long: () => `"${'x'.repeat(3000)}"`,
    wrong: () => {
      throw new TypeError('with a secret')
    },
  })
  const limits = { maxRequestBytes: 2000, maxReplyBytes: 2000, deadlineMs: 100 }
  const { asker, log } = await scene(t, limits, commands)
  asker.send(asker.envelope('zos.deployment.get', `"${'x'.repeat(3000)}"`))
  for (const [command, message] of [
    ['late', 'late did not answer within 100 ms, try again later'],
    ['long', 'the reply of long has 3002 bytes, at most 2000 can be sent'],
    ['wrong', 'internal error'],
    ['unknown', 'function is not found'],
  ] as const) {
    const answer = await asker.ask(asker.envelope(command, ''))
    assert.deepEqual(answer.message, { kind: 'error', code: 255, message })
  }
  assert.ok(log.lines.some((line) => line.includes('at most 2000 are read')))
  assert.equal(commands.calls.length, 4)
})

test('what the registry says otherwise is told, once for each change', async (t) => {
  const relay = await testRelay(t, keyOf)
  let twins: readonly Twin[] = []
  const registry = registryOf(() => twins)
  const { log } = clientOf(t, [relay.url], { registry })
  const told = () => log.lines.filter((line) => line.includes(`twin ${NODE} `))
  const expected: readonly (readonly [readonly Twin[], RegExp])[] = [
    [[], /twin 17 is not in the registry/],
    [[twin(NODE, other)], /the key of twin 17 is another than that of the identity \(ed25519 /],
    [[twin(NODE, node, { pk: undefined, relays: [relay.host] })], /has no key for encryption/],
    [[twin(NODE, node, { pk: other.pk, relays: [relay.host] })], /is not that of the identity/],
    [
      [twin(NODE, node, { relays: ['relay.grid.tf'] })],
      /expected at relay\.grid\.tf, but connects/,
    ],
  ]
  let count = 0
  for (const [next, words] of expected) {
    twins = next
    registry.changed()
    registry.changed()
    await eventually('told', told, ({ length }) => length > count)
    assert.match(told().at(-1) ?? '', words)
    count = told().length
  }
  twins = [twin(NODE, node, { relays: [relay.host] })]
  const asked = registry.asked.length
  registry.changed()
  await eventually(
    'compared',
    () => registry.asked.length,
    (now) => now > asked,
  )
  assert.equal(told().length, count)
  assert.equal(count, expected.length)
})

test('a registry that cannot be asked delays nothing but what needs it', async (t) => {
  let away = true
  const inner = registryOf(() => ALL)
  const registry = {
    ...inner,
    twin: async (id: number) => {
      if (away) throw new RegistryError('REGISTRY_UNREACHABLE', 'the registry is away')
      return inner.twin(id)
    },
  }
  const { asker, log, commands } = await scene(t, { registry })
  asker.send(asker.envelope('zos.deployment.get', '1'))
  await eventually(
    'told',
    () => log.lines,
    (lines) => lines.some((line) => line.includes('of the relays: the registry is away')),
  )
  away = false
  assert.equal(await asker.read(await asker.ask(asker.envelope('zos.deployment.get', '2'))), '2')
  assert.equal(commands.calls.length, 1)
})

test('stop answers what came, and is safe at any time', async (t) => {
  let go = () => {}
  const gate = new Promise<void>((open) => {
    go = open
  })
  const commands = testCommands({ held: ({ payload }) => gate.then(() => payload) })
  const { client, asker, relay } = await scene(t, {}, commands)
  const answer = asker.ask(asker.envelope('held', '5'))
  await eventually(
    'it is called',
    () => commands.calls.length,
    (count) => count === 1,
  )
  const stopped = client.stop()
  go()
  assert.equal(await asker.read(await answer), '5')
  await within(20_000, Promise.all([stopped, client.stop()]), 'stop')
  await eventually('gone', relay.connected, (names) => !names.includes(`${NODE}`))
  client.start()
  assert.notEqual(client.notReady(), undefined)
  const away = clientOf(t, [`ws://127.0.0.1:${await freePort()}`])
  await within(20_000, away.client.stop(), 'stop')
})

test('addresses of relays', () => {
  for (const [text, prefix, host] of [
    ['wss://relay.grid.tf', 'wss://relay.grid.tf/?', 'relay.grid.tf'],
    ['ws://127.0.0.1:8080/', 'ws://127.0.0.1:8080/?', '127.0.0.1:8080'],
    ['wss://Relay.example/path', 'wss://relay.example/path?', 'relay.example'],
  ] as const) {
    assert.deepEqual(readRelayAddress(text), { prefix, host })
  }
  for (const text of ['', 'relay.grid.tf', 'https://a', 'wss://u:p@a', 'wss://a?x', 'wss://a#x']) {
    assert.throws(() => readRelayAddress(text), TypeError, text)
  }
  const options = { urls: [], identity: node, twinId: 1, log: testLog() }
  const rest = { registry: registryOf(() => []), commands: testCommands({}) }
  assert.throws(() => createRelayClient({ ...options, ...rest }), /name at least one/)
})

test('what was seen is kept until it expires, and at most so many', () => {
  let now = 0
  const seen = createSeen(3, () => now)
  assert.ok(seen.add('a', 10))
  assert.ok(!seen.add('a', 10))
  now = 11
  assert.ok(!seen.has('a'))
  for (const key of ['b', 'c', 'd', 'e']) assert.ok(seen.add(key, 100))
  assert.ok(!seen.has('b'))
  assert.ok(seen.has('c') && seen.has('e'))
})

test('twins are asked for once, unknown ones and failures again', async () => {
  let twins: readonly Twin[] = ALL
  const registry = registryOf(() => twins)
  const cache = createTwins(registry)
  const { signal } = new AbortController()
  await Promise.all([cache.get(CALLER, signal), cache.get(CALLER, signal)])
  assert.deepEqual(registry.asked, [CALLER])
  twins = []
  assert.ok(await cache.get(CALLER, signal))
  cache.forget()
  assert.equal(await cache.get(CALLER, signal), undefined)
  for (let id = 100; id < 1300; id++) await cache.get(id, signal)
  const { length } = registry.asked
  await cache.get(1299, signal)
  assert.equal(registry.asked.length, length)
  await cache.get(100, signal)
  assert.equal(registry.asked.length, length + 1)
})
