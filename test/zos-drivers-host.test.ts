/** A whole daemon on a host without a container engine, seen from its clients. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, test } from 'node:test'
import { networkId } from '../plugins/zos/deployment/ids.ts'
import { networkNames } from '../plugins/zos/drivers/network-host/plan.ts'
import { within } from '../src/deadline.ts'
import { afterTest, cleanAfterEach } from './helpers/after-test.ts'
import { lacks } from './helpers/counterpart.ts'
import { freshFolder } from './helpers/daemon.ts'
import { deploy, features, lastOf, type Statistics } from './helpers/zos-drivers.ts'
import { ask, Grid, isErased, reaches, type ShownWorkload, TWIN } from './helpers/zos-grid.ts'
import { startNode, workload } from './helpers/zos-machine.ts'
import {
  hasWireguard,
  hostNamespace,
  KEYS,
  makesNetworks,
  sh,
  succeeds,
} from './helpers/zos-network-host.ts'
import { startZdb } from './helpers/zos-zdb-server.ts'
import { eventually } from './supervisor/eventually.ts'

const GIB = 1024n ** 3n

test('0-db, files for traefik and public addresses, on a host without an engine', async (t) => {
  const folder = freshFolder()
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const traefik = join(folder, 'traefik')
  mkdirSync(traefik)
  const admin = 'canary-of-admin'
  const zdb = await startZdb(t, admin)
  zdb.diskFree = 10n * GIB
  writeFileSync(join(folder, 'zdb-password'), `${admin}\n`)
  const grid = new Grid(join(folder, 'registry.json'))
  grid.names.set('site', 900)
  const contract = 701
  grid.contracts.set(contract, {
    contract_id: contract,
    state: 'created',
    deployment_hash: '',
    public_ips: [{ ip: '185.1.2.10/24', gateway: '185.1.2.1' }],
  })
  const start = () =>
    startNode(join(folder, 'no-engine.sock'), folder, {
      keys: 'public_network = "public"\nprobe_interval_s = 1',
      tables: `[plugins.zos.gateway]
traefik_dir = "${traefik}"
domain = "gw.example"
allow_local = true
[plugins.zos.zdb]
address = "127.0.0.1:${zdb.port}"
password = { file = "${folder}/zdb-password" }
advertise = ["2001:db8::7"]`,
    })
  let node = await start()
  t.after(() => node.stop())
  assert.deepEqual(await features(node.socket), [
    'zmount',
    'volume',
    'ipv4',
    'ip',
    'zlogs',
    'zdb',
    'gateway-name-proxy',
    'gateway-fqdn-proxy',
  ])

  const db = (size: bigint, more: object = {}) =>
    workload('db', 'zdb', {
      size: Number(size),
      mode: 'seq',
      password: 'canary-of-db',
      public: true,
      ...more,
    })
  const rest = [
    workload('web', 'gateway-fqdn-proxy', {
      fqdn: 'www.own.example',
      tls_passthrough: true,
      backends: ['127.0.0.1:8443'],
    }),
    workload('name', 'gateway-name-proxy', {
      name: 'site',
      tls_passthrough: false,
      backends: ['http://10.1.2.7:80'],
    }),
    workload('pub', 'ip', { v4: true, v6: false }),
  ]
  await deploy(node.socket, grid, contract, [db(GIB), ...rest])
  const up = { db: 'ok', web: 'ok', name: 'ok', pub: 'ok' }
  const [shown] = await reaches(node.socket, contract, up)
  const id = `${TWIN}-${contract}-db`
  assert.deepEqual(shown?.result.data, { Namespace: id, IPs: ['2001:db8::7'], Port: zdb.port })
  const namespace = () => {
    const { mode, password, maxsize, locked } = zdb.namespaces.get(id) ?? {}
    return { mode, password, maxsize, locked }
  }
  const made = { mode: 'seq', password: 'canary-of-db', maxsize: GIB, locked: false }
  assert.deepEqual(namespace(), made)
  const used = async () => (await ask(node.socket, 'zos.statistics.get')).json<Statistics>().used
  assert.equal((await used()).hru, Number(GIB))
  assert.equal((await used()).ipv4u, 1)
  const files = () => readdirSync(traefik).sort()
  const names = ['name', 'web'].map((name) => `${TWIN}-${contract}-${name}.yaml`)
  assert.deepEqual(files(), names)
  const route = (name: string | undefined) => readFileSync(join(traefik, name ?? ''), 'utf8')
  assert.match(route(names[0]), /Host\(`site\.gw\.example`\)/)
  assert.match(route(names[0]), /"url": "http:\/\/10\.1\.2\.7:80"/)
  assert.match(route(names[1]), /HostSNI\(`www\.own\.example`\)/)

  // It grows, but not beyond the disk, and never changes its mode; what is refused changes nothing.
  let version = 0
  const update = async (one: ReturnType<typeof db>) => {
    version++
    const workloads = [{ ...one, version }, ...rest]
    const text = grid.signed(contract, workloads, { version })
    const answer = await ask(node.socket, 'zos.deployment.update', text)
    assert.equal(answer.status, 202, answer.body)
  }
  const lastChange = () => lastOf(node.socket, contract, 'db')
  const refused = async (one: ReturnType<typeof db>, message: string) => {
    await update(one)
    const isSo = (change: ShownWorkload | undefined) => change?.version === version
    const last = await eventually('the update is over', lastChange, isSo)
    assert.deepEqual([last?.result.state, last?.result.message], ['unchanged', message])
    await reaches(node.socket, contract, up)
    assert.deepEqual(namespace(), { ...made, maxsize: 2n * GIB })
  }
  await update(db(2n * GIB))
  await reaches(node.socket, contract, { ...up, db: 'ok@1' })
  assert.deepEqual(namespace(), { ...made, maxsize: 2n * GIB })
  await refused(db(GIB), 'cannot shrink zdb namespace')
  await refused(db(2n * GIB, { mode: 'user' }), 'cannot change namespace mode')
  await refused(db(100n * GIB), 'no enough free space to support new size')

  // A grace period locks the namespace, over a restart of the daemon.
  grid.setState(contract, 'grace_period')
  const paused = { db: 'paused', web: 'paused', name: 'paused', pub: 'paused' }
  await reaches(node.socket, contract, paused)
  assert.equal(namespace().locked, true)
  node.signal('SIGKILL')
  await within(10_000, node.exited(), 'end')
  node = await start()
  await reaches(node.socket, contract, paused)
  assert.equal(namespace().locked, true)
  grid.setState(contract, 'created')
  await reaches(node.socket, contract, up)
  assert.equal(namespace().locked, false)

  grid.setState(contract, 'deleted')
  await isErased(node.socket, contract)
  assert.deepEqual([...zdb.namespaces.keys()], ['default'])
  assert.deepEqual(files(), [])
  assert.deepEqual(await used().then(({ hru, ipv4u }) => [hru, ipv4u]), [0, 0])
  for (const canary of ['canary-of-db', admin]) {
    assert.ok(!node.output().includes(canary), 'the log has no secrets')
  }
})

describe('networks of the host', () => {
  cleanAfterEach()

  it('come, change, stay over a restart and go, without an engine', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    if (lacks(t, 'nft')) return
    const withPeers = hasWireguard()
    const host = hostNamespace()
    const folder = freshFolder()
    afterTest(() => rmSync(folder, { recursive: true, force: true }))
    const grid = new Grid(join(folder, 'registry.json'))
    const start = () =>
      startNode(join(folder, 'no-engine.sock'), folder, {
        keys: 'uplink_range = "100.99.0.0/24"',
        tables: '[plugins.zos.drivers]\nnetwork = "host"\nzmachine = "off"',
        inside: host.prefix,
      })
    let node = await start()
    afterTest(() => node.stop())
    assert.deepEqual(await features(node.socket), ['zmount', 'volume', 'network', 'network-light'])

    // Names of namespaces are the machine's, so nobody else may have this one.
    const name = `n${randomBytes(6).toString('hex')}`
    const names = networkNames(networkId(TWIN, name))
    afterTest(() => succeeds('ip', 'netns', 'del', names.namespace))
    const [own, other] = KEYS
    const net = (subnet: string, version: number) => ({
      ...workload(name, 'network', {
        ip_range: '10.77.0.0/16',
        subnet,
        wireguard_private_key: own.secret,
        wireguard_listen_port: 34_567,
        peers: withPeers
          ? [
              {
                subnet: '10.77.9.0/24',
                wireguard_public_key: other.public,
                allowed_ips: ['10.77.9.0/24', '100.64.77.9/32'],
                endpoint: '192.0.2.9:3000',
              },
            ]
          : [],
      }),
      version,
    })
    const contract = 1001
    await deploy(node.socket, grid, contract, [net('10.77.2.0/24', 0)])
    const up = { [name]: 'ok' }
    const [shown] = await reaches(node.socket, contract, up)
    assert.equal(shown?.result.data, null)
    const links = () => host.links().filter((link) => link.endsWith(networkId(TWIN, name)))
    const made = [names.bridge, names.port, names.uplink].sort()
    assert.deepEqual(links(), made)
    const inside = (...words: string[]) => host.run('ip', '-n', names.namespace, ...words)
    assert.match(inside('-4', 'addr'), /inet 10\.77\.2\.1\/24/)
    assert.match(inside('route'), /default via 100\.99\.0\./)
    const ports = async () => (await ask(node.socket, 'zos.network.list_wg_ports')).json<number[]>()
    assert.ok((await ports()).includes(34_567))
    if (withPeers) {
      const peers = sh('ip', 'netns', 'exec', names.namespace, 'wg', 'show', names.wireguard)
      assert.ok(peers.includes(other.public))
      assert.match(inside('route'), /10\.77\.0\.0\/16 dev w-/)
    }

    node.signal('SIGKILL')
    await within(10_000, node.exited(), 'end')
    assert.deepEqual(links(), made)
    node = await start()
    await reaches(node.socket, contract, up)
    const text = grid.signed(contract, [net('10.77.3.0/24', 1)], { version: 1 })
    const updated = await ask(node.socket, 'zos.deployment.update', text)
    assert.equal(updated.status, 202, updated.body)
    await reaches(node.socket, contract, { [name]: 'ok@1' })
    assert.match(inside('-4', 'addr'), /inet 10\.77\.3\.1\/24/)
    assert.doesNotMatch(inside('-4', 'addr'), /10\.77\.2\.1/)

    // Of a deployment that ended while there was no daemon nothing stays.
    await node.stop()
    grid.setState(contract, 'deleted')
    node = await start()
    await isErased(node.socket, contract)
    assert.deepEqual(links(), [])
    assert.ok(!succeeds('ip', '-n', names.namespace, 'link'))
    assert.ok(!(await ports()).includes(34_567))
    assert.ok(!node.output().includes(own.secret), 'the log has no keys')
  })
})
