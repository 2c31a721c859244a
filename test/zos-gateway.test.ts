import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect as tlsConnect } from 'node:tls'
import fc from 'fast-check'
import type { DriverError, RunningWorkload } from '../plugins/zos/drivers/driver.ts'
import { MAX_HELLO_BYTES, readClientHello } from '../plugins/zos/drivers/gateway/client-hello.ts'
import { createGatewayDrivers, type GatewayOptions } from '../plugins/zos/drivers/gateway/index.ts'
import { createGuard } from '../plugins/zos/drivers/guard.ts'
import { freshFolder } from './helpers/daemon.ts'
import { rawBackend, soon } from './helpers/zos-gateway.ts'
import { resultIn, taskOf, workloadOf } from './helpers/zos-storage-task.ts'

const signal = new AbortController().signal
const PROXY = {
  proxy: { http: [{ host: '127.0.0.1', port: 0 }], tls: [{ host: '127.0.0.1', port: 0 }] },
}

function gateways(t: TestContext, more: Partial<GatewayOptions> = {}) {
  const all = createGatewayDrivers({
    backEnd: PROXY,
    domain: () => 'Node.Example',
    publicAddresses: () => ['185.1.2.3/24', '2001:db8::1/64'],
    ...more,
  })
  t.after(async () => {
    await all.name.stop?.()
    await all.fqdn.stop?.()
  })
  return all
}

const backends = (backend: string, more: object = {}) => ({
  tlsPassthrough: false,
  backends: [backend],
  network: undefined,
  ...more,
})
const nameTask = (name: string, backend = 'http://10.1.2.3', more: object = {}) =>
  taskOf(
    workloadOf('gateway-name-proxy', `w_${name.replace(/\W/g, '')}`, {
      name,
      ...backends(backend, more),
    }),
    {
      ownsName: async (asked) => asked === name,
    },
  )
const fqdnTask = (fqdn: string, backend = 'http://10.1.2.3', more: object = {}) =>
  taskOf(
    workloadOf('gateway-fqdn-proxy', `w_${fqdn.replace(/\W/g, '')}`, {
      fqdn,
      ...backends(backend, more),
    }),
  )

const failed = (message: string | RegExp) => (error: Error) => {
  assert.equal(error.name, 'DriverError')
  assert.equal((error as DriverError).kind, 'failed')
  if (typeof message === 'string') assert.equal(error.message, message)
  else assert.match(error.message, message)
  return true
}

test('a name is published below the domain of the node, if the twin has it', async (t) => {
  const { name, backEnd } = gateways(t)
  assert.deepEqual(await name.probe(signal), { able: true })
  assert.equal(name.name, 'proxy')
  const task = nameTask('My_App-1')
  assert.deepEqual(await name.provision(task), { fqdn: 'My_App-1.Node.Example' })
  assert.deepEqual(await backEnd.ids(), [task.id])
  assert.deepEqual(await name.provision(task), { fqdn: 'My_App-1.Node.Example' }, 'again')
  await name.deprovision(task)
  await name.deprovision(task)
  assert.deepEqual(await backEnd.ids(), [])

  await assert.rejects(
    name.provision({ ...task, ownsName: async () => false }),
    failed(
      /^failed to setup name proxy: .*a name contract with the given name must be reserved first$/,
    ),
  )
  const homeless = gateways(t, { domain: () => undefined })
  const reason = "node doesn't support name proxy (doesn't have a domain)"
  assert.deepEqual(await homeless.name.probe(signal), { able: false, reason })
  await assert.rejects(
    homeless.name.provision(task),
    failed(`failed to setup name proxy: ${reason}`),
  )
})

test('a domain of the tenant is published once on this node', async (t) => {
  const { fqdn, name } = gateways(t)
  const task = fqdnTask('app.tenant.org')
  assert.deepEqual(await fqdn.provision(task), {})
  const taken = failed('domain already registered: app.tenant.org')
  const other = { ...fqdnTask('APP.tenant.org'), id: '7-7-other' }
  await assert.rejects(fqdn.provision(other), taken)
  // Two at the same time.
  const [a, b] = [fqdnTask('b.tenant.org'), { ...fqdnTask('b.tenant.org'), id: '7-7-b' }]
  const both = await Promise.allSettled([fqdn.provision(a), fqdn.provision(b)])
  assert.deepEqual(
    both.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  )
  await fqdn.deprovision(task)
  assert.deepEqual(await fqdn.provision(other), {})
  // After a restart another deployment comes first; the one that had it keeps it.
  const running: RunningWorkload = {
    id: '9-9-first',
    twinId: 9,
    contractId: 9n,
    workload: fqdnTask('c.tenant.org').workload,
    result: resultIn('ok'),
  }
  const late = { ...fqdnTask('c.tenant.org'), running: () => [running] }
  await assert.rejects(fqdn.provision(late), failed('domain already registered: c.tenant.org'))

  const managed = failed(
    /can't create a fqdn workload with a subdomain of the gateway's managed domain$/,
  )
  await assert.rejects(fqdn.provision(fqdnTask('x.node.EXAMPLE')), managed)
  assert.deepEqual(await fqdn.provision(fqdnTask('notnode.example')), {})
  await assert.rejects(fqdn.provision(fqdnTask(`${'x'.repeat(64)}.org`)), failed(/is too long/))
  await name.provision(nameTask('app'))
})

test('a domain can be asked for whether it leads here', async (t) => {
  const asked: string[] = []
  const { fqdn } = gateways(t, {
    verifyHost: async (host) => {
      asked.push(host)
      if (host.startsWith('away')) throw new Error("host doesn't point to the gateway ip")
    },
  })
  await fqdn.provision(fqdnTask('Here.tenant.org'))
  await assert.rejects(
    fqdn.provision(fqdnTask('away.tenant.org')),
    failed(/failed to verify domain dns record: host doesn't point to the gateway ip$/),
  )
  assert.deepEqual(asked, ['here.tenant.org', 'away.tenant.org'])
})

test('only one backend, which is another machine', async (t) => {
  const { fqdn } = gateways(t)
  const refused = async (backend: string, why: RegExp, more: object = {}) => {
    await assert.rejects(
      fqdn.provision(fqdnTask('a.tenant.org', backend, more)),
      failed(why),
      backend,
    )
  }
  await refused(
    'http://185.1.2.3',
    /'http:\/\/185\.1\.2\.3': 185\.1\.2\.3 is a public address of the node/,
  )
  await refused('http://[2001:DB8:0::1]:80', /2001:db8::1 is a public address of the node/)
  await refused('127.0.0.1:22', /an address of no other machine/, { tlsPassthrough: true })
  await refused('[::ffff:127.0.0.1]:22', /an address of no other machine/, { tlsPassthrough: true })
  await refused('http://169.254.169.254/latest', /an address of no other machine/)
  await refused('http://[fe80::1]', /an address of no other machine/)
  await refused('http://0.0.0.0', /an address of no other machine/)
  await refused('nonsense', /it is no address/)
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? [])
  const outer = own.find(({ family, internal }) => family === 'IPv4' && !internal)
  if (outer) await refused(`http://${outer.address}`, /is an address of the node/)
  const two = fqdnTask('a.tenant.org', 'http://10.0.0.1', {
    backends: ['http://10.0.0.1', 'http://10.0.0.2'],
  })
  await assert.rejects(fqdn.provision(two), failed('only one backend is supported, got 2'))
  const inside = fqdnTask('a.tenant.org', 'http://10.0.0.1', { network: 'net1' })
  await assert.rejects(fqdn.provision(inside), failed(/^failed to get user network/))
  const guard = createGuard({ allowLocal: true, publicAddresses: () => ['10.0.0.1'] })
  assert.equal(guard('127.0.0.1'), undefined)
  assert.match(guard('10.0.0.1') ?? '', /public address/)
})

test('a name that is given up is not led anywhere for ever', async (t) => {
  const { name, backEnd } = gateways(t, { checkMs: 20 })
  let owned = true
  let asked = 0
  const task = {
    ...nameTask('app'),
    ownsName: async () => {
      asked++
      if (asked === 2) throw new Error('the registry is away')
      return owned
    },
  }
  await name.provision(task)
  const stop = new AbortController()
  const crashes: string[] = []
  let watched: Promise<void> | undefined
  await soon(
    'crash',
    new Promise<void>((resolve) => {
      watched = name.watch?.(({ id, reason }) => {
        crashes.push(id, reason)
        resolve()
      }, stop.signal)
      setTimeout(() => {
        owned = false
      }, 100)
    }),
  )
  assert.deepEqual(crashes, [task.id, 'a name contract with the given name must be reserved first'])
  assert.deepEqual(await backEnd.ids(), [])
  stop.abort()
  await soon('end', watched ?? Promise.reject(new Error('it does not watch')))
})

test('health tells of the route and of who answers behind it', async (t) => {
  const { fqdn } = gateways(t, { allowLocal: true })
  const port = await rawBackend(t, (socket) => socket.end())
  const task = fqdnTask('a.tenant.org', `127.0.0.1:${port}`, { tlsPassthrough: true })
  await fqdn.provision(task)
  const states = async (one: typeof task) => (await fqdn.health?.(one))?.map(({ ok }) => ok)
  assert.deepEqual(await states(task), [true, true])
  const dead = fqdnTask('b.tenant.org', '127.0.0.1:1', { tlsPassthrough: true })
  assert.deepEqual(await states(dead), [false, false])
  await fqdn.sweep?.(new Set(), signal)
  assert.deepEqual(await states(task), [false, true])
})

test('routes for traefik are files as the reference writes them', async (t) => {
  const folder = join(freshFolder(), 'routes')
  t.after(() => rmSync(join(folder, '..'), { recursive: true, force: true }))
  const { name, fqdn } = gateways(t, { backEnd: { traefik: { folder } } })
  const probed = await fqdn.probe(signal)
  assert.ok(!probed.able)
  assert.match(probed.reason, /^Cannot write routes for traefik to ".*": ENOENT/)
  await assert.rejects(
    fqdn.provision(fqdnTask('a.tenant.org')),
    failed(/^Cannot publish a\.tenant\.org/),
  )
  mkdirSync(folder)
  assert.deepEqual(await fqdn.probe(signal), { able: true })
  const read = (id: string) => JSON.parse(readFileSync(join(folder, `${id}.yaml`), 'utf8'))

  const named = nameTask('app', 'http://10.1.2.3:8000')
  await name.provision(named)
  assert.deepEqual(read(named.id), {
    http: {
      routers: {
        [`${named.id}-route`]: {
          rule: 'Host(`app.node.example`)',
          service: named.id,
          tls: { certResolver: 'dnsresolver', domains: [{ sans: ['*.node.example'] }] },
        },
      },
      services: { [named.id]: { loadBalancer: { servers: [{ url: 'http://10.1.2.3:8000' }] } } },
    },
  })
  assert.equal(statSync(join(folder, `${named.id}.yaml`)).mode & 0o777, 0o644)
  const own = fqdnTask('a.tenant.org', 'http://[2001:DB8::9]')
  await fqdn.provision(own)
  const route = read(own.id).http
  assert.deepEqual(route.routers[`${own.id}-route`].tls, {
    certResolver: 'resolver',
    domains: [{ main: 'a.tenant.org' }],
  })
  assert.match(route.services[own.id].loadBalancer.servers[0].url, /^http:\/\/\[2001:db8::9\]:80$/i)
  const passed = fqdnTask('b.tenant.org', '10.1.2.3:443', { tlsPassthrough: true })
  await fqdn.provision(passed)
  assert.deepEqual(read(passed.id), {
    tcp: {
      routers: {
        [`${passed.id}-route`]: {
          rule: 'HostSNI(`b.tenant.org`)',
          service: passed.id,
          tls: { passthrough: true },
        },
      },
      services: { [passed.id]: { loadBalancer: { servers: [{ address: '10.1.2.3:443' }] } } },
    },
  })
  // Somebody else's files stay.
  writeFileSync(join(folder, 'dashboard.yaml'), '')
  await fqdn.sweep?.(new Set([named.id, own.id]), signal)
  assert.deepEqual(
    readdirSync(folder).sort(),
    [`${named.id}.yaml`, `${own.id}.yaml`, 'dashboard.yaml'].sort(),
  )
  await fqdn.deprovision(own)
  await fqdn.deprovision(own)
  await name.deprovision(named)
  assert.deepEqual(readdirSync(folder), ['dashboard.yaml'])
})

/** The first bytes that a real client sends. */
async function helloFor(t: TestContext, servername: string): Promise<Uint8Array> {
  let heard = Buffer.alloc(0)
  const port = await rawBackend(t, (socket) => {
    socket.on('data', (data) => {
      heard = Buffer.concat([heard, data])
      if (readClientHello(heard).state !== 'more') socket.destroy()
    })
  })
  const socket = tlsConnect({ port, host: '127.0.0.1', servername })
  await soon(
    'send it',
    new Promise<void>((resolve) => socket.once('close', () => resolve()).on('error', () => {})),
  )
  return heard
}

/** The same message in records of another size. */
function inRecords(hello: Uint8Array, size: number): Uint8Array {
  const message = hello.subarray(5)
  const parts: Uint8Array[] = []
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size)
    parts.push(Uint8Array.of(22, 3, 1, part.length >> 8, part.length & 255), part)
  }
  return Buffer.concat(parts)
}

test('the server name of a real client is found, however its message is cut', async (t) => {
  const hello = await helloFor(t, 'App.Tenant.Org')
  const found = { state: 'hello', serverName: 'app.tenant.org' } as const
  assert.deepEqual(readClientHello(hello), found)
  assert.deepEqual(readClientHello(await helloFor(t, '')), {
    state: 'hello',
    serverName: undefined,
  })
  for (const size of [1, 2, 3, 5, 100, 300])
    assert.deepEqual(readClientHello(inRecords(hello, size)), found)
  for (let length = 0; length < hello.length; length++) {
    assert.deepEqual(
      readClientHello(hello.subarray(0, length)),
      { state: 'more' },
      `${length} bytes`,
    )
  }
  assert.deepEqual(readClientHello(Buffer.concat([hello, Buffer.from('early data')])), found)
})

/** A ClientHello with these extensions, as `[type, content]`. */
function helloWith(extensions: readonly (readonly [number, Uint8Array])[]): Uint8Array {
  const u16 = (n: number) => Uint8Array.of(n >> 8, n & 255)
  const all = Buffer.concat(
    extensions.flatMap(([type, data]) => [u16(type), u16(data.length), data]),
  )
  const body = Buffer.concat([
    Uint8Array.of(3, 3),
    new Uint8Array(32),
    Uint8Array.of(0, 0, 2, 0x13, 0x01, 1, 0),
    u16(all.length),
    all,
  ])
  const message = Buffer.concat([Uint8Array.of(1, 0), u16(body.length), body])
  return Buffer.concat([Uint8Array.of(22, 3, 1), u16(message.length), message])
}

function serverNames(...names: readonly string[]): Uint8Array {
  const list = names.map((name) =>
    Buffer.concat([Uint8Array.of(0, 0, name.length), Buffer.from(name)]),
  )
  const all = Buffer.concat(list)
  return Buffer.concat([Uint8Array.of(all.length >> 8, all.length & 255), all])
}

test('a message that two readers may understand in two ways is refused', () => {
  const state = (...extensions: (readonly [number, Uint8Array])[]) =>
    readClientHello(helloWith(extensions))
  assert.deepEqual(state([0, serverNames('a.example.')]), {
    state: 'hello',
    serverName: 'a.example',
  })
  assert.deepEqual(state([10, new Uint8Array(4)]), { state: 'hello', serverName: undefined })
  for (const [why, extensions] of Object.entries({
    'its server name is of an unknown kind': [[0, serverNames('a.example', 'b.example')]],
    'it names its server twice': [
      [0, serverNames('a.example')],
      [0, serverNames('b.example')],
    ],
    'its server name is no host name': [[0, serverNames('a example')]],
    'a length in it goes beyond its end': [[0, Uint8Array.of(0, 200)]],
    'its server name is followed by something': [
      [0, Buffer.concat([serverNames('a'), Uint8Array.of(0)])],
    ],
  } satisfies Record<string, (readonly [number, Uint8Array])[]>)) {
    assert.deepEqual(state(...extensions), { state: 'invalid', reason: why })
  }
  for (const text of [
    'GET / HTTP/1.1\r\n\r\n',
    'SSH-2.0-x',
    '\x16\x02\x00',
    '\x16\x03\x01\x00\x00',
  ]) {
    assert.equal(readClientHello(Buffer.from(text, 'latin1')).state, 'invalid', text)
  }
  // It says that it is larger than anything that is read.
  assert.equal(readClientHello(Uint8Array.of(22, 3, 1, 0, 4, 1, 1, 0, 0)).state, 'invalid')
  assert.equal(readClientHello(Uint8Array.of(22, 3, 1, 0, 4, 2, 0, 0, 0)).state, 'invalid')
})

test('any bytes get an answer, and no state goes back to more', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .uint8Array({ maxLength: 200 })
      .map((rest) => Buffer.concat([Uint8Array.of(22, 3, 1, 0, 80, 1, 0, 0, 76), rest])),
    fc
      .array(fc.tuple(fc.constantFrom(0, 1, 16), fc.uint8Array({ maxLength: 40 })), {
        maxLength: 4,
      })
      .map(helloWith),
  )
  fc.assert(
    fc.property(bytes, fc.nat(200), (input, length) => {
      const part = readClientHello(input.subarray(0, length))
      const whole = readClientHello(input)
      if (part.state === 'invalid') assert.equal(whole.state, 'invalid')
      if (part.state === 'hello') assert.deepEqual(whole, part)
    }),
    { numRuns: 2000 },
  )
  assert.equal(readClientHello(new Uint8Array(MAX_HELLO_BYTES + 10)).state, 'invalid')
})
