import assert from 'node:assert/strict'
import { readdirSync, rmSync } from 'node:fs'
import { describe, it } from 'node:test'
import { networkId } from '../plugins/zos/deployment/ids.ts'
import { createNetworkHostDriver } from '../plugins/zos/drivers/network-host/driver.ts'
import { networkNames } from '../plugins/zos/drivers/network-host/plan.ts'
import type { NetworkLight } from '../plugins/zos/model.ts'
import { afterTest, cleanAfterEach } from './helpers/after-test.ts'
import { lacks } from './helpers/counterpart.ts'
import { freshFolder } from './helpers/daemon.ts'
import {
  hasWireguard,
  hostNamespace,
  KEYS,
  machineIn,
  makesNetworks,
  neighbour,
  networkTask,
  peer,
  recorder,
  sh,
  succeeds,
  wire,
} from './helpers/zos-network-host.ts'

const namesOf = (task: { readonly deployment: { readonly twinId: number } }) =>
  networkNames(networkId(task.deployment.twinId, 'net'))

/** A folder for the test, removed after it. */
function folderOf(): string {
  const folder = freshFolder()
  afterTest(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

const namespaceExists = (name: string) => succeeds('ip', '-n', name, 'link', 'show', 'dev', 'lo')

describe('networks on the host', () => {
  cleanAfterEach()

  it('joins machines to each other and to their gateway, and leaves nothing behind', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const host = hostNamespace()
    const folder = folderOf()
    const driver = createNetworkHostDriver('network-light', { folder, prefix: host.prefix })
    assert.deepEqual(await driver.probe(new AbortController().signal), { able: true })
    const task = networkTask('network-light', '10.1.2.0/24')
    const { bridge, namespace, port } = namesOf(task)

    assert.equal(await driver.provision(task), undefined)
    assert.deepEqual(host.links(), [bridge, port].sort())
    const one = neighbour(host, bridge, '10.1.2.2/24')
    const two = neighbour(host, bridge, '10.1.2.3/24')
    await Promise.all([two.serve(), machineIn(namespace).serve()])
    assert.ok(one.reaches('10.1.2.3'), 'one machine reaches the other')
    assert.ok(one.reaches('10.1.2.1'), 'a machine reaches the gateway')
    // The host has no address in the network of a twin, IPv6 included.
    assert.equal(host.run('ip', '-j', 'addr', 'show', 'dev', bridge).includes('fe80'), false)
    assert.deepEqual(
      (await driver.health?.(task))?.map((check) => check.ok),
      [true, true, true],
    )

    // A daemon that starts again finds it as it is.
    const again = createNetworkHostDriver('network-light', { folder, prefix: host.prefix })
    const before = host.links()
    await again.provision(task)
    assert.deepEqual(host.links(), before)
    assert.ok(one.reaches('10.1.2.3'), 'connections go on over a restart')

    await again.deprovision(task)
    assert.equal(
      host.links().some((name) => name.startsWith('b-') || name.startsWith('v-')),
      false,
    )
    assert.equal(namespaceExists(namespace), false)
    assert.deepEqual(readdirSync(folder), [])
    assert.deepEqual(
      (await again.health?.(task))?.map((check) => check.ok),
      [false, false, false],
    )
    await again.deprovision(task)
  })

  it('moves a network to another subnet by an update', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const host = hostNamespace()
    const driver = createNetworkHostDriver('network-light', {
      folder: folderOf(),
      prefix: host.prefix,
    })
    const twin = 4_000_000_000
    const first = networkTask('network-light', '10.1.2.0/24', {}, { twin })
    const second = networkTask('network-light', '10.9.3.0/24', {}, { twin })
    const { bridge, namespace } = namesOf(first)
    await driver.provision(first)
    await driver.update?.({ ...second, previous: first.workload.data })
    const machine = neighbour(host, bridge, '10.9.3.7/24')
    await machineIn(namespace).serve()
    assert.ok(machine.reaches('10.9.3.1'))
    assert.doesNotMatch(sh('ip', '-n', namespace, 'addr'), /10\.1\.2\.1/)
    await driver.deprovision(second)
  })

  it('reaches machines on another node through WireGuard', async (t) => {
    if (lacks(t, 'netns', makesNetworks()) || lacks(t, 'wireguard', hasWireguard())) return
    const hosts = [hostNamespace(), hostNamespace()] as const
    const [one, two] = hosts
    wire(one, two)
    const [keyOne, keyTwo] = KEYS
    const tasks = [
      networkTask('network', '10.7.2.0/24', {
        wireguardPrivateKey: keyOne.secret,
        wireguardListenPort: 4101,
        peers: [peer(keyTwo.public, ['10.7.3.0/24', '100.64.7.3/32'], '192.0.2.2:4102')],
      }),
      networkTask('network', '10.7.3.0/24', {
        wireguardPrivateKey: keyTwo.secret,
        wireguardListenPort: 4102,
        peers: [peer(keyOne.public, ['10.7.2.0/24', '100.64.7.2/32'], '192.0.2.1:4101')],
      }),
    ] as const
    const sites = await Promise.all(
      hosts.map(async (host, index) => {
        const folder = folderOf()
        const record = recorder(folderOf(), host.prefix)
        const driver = createNetworkHostDriver('network', { folder, prefix: record.prefix })
        const task = tasks[index] ?? tasks[0]
        assert.deepEqual(await driver.probe(new AbortController().signal), { able: true })
        await driver.provision(task)
        return { driver, task, record, folder }
      }),
    )
    const a = neighbour(one, namesOf(tasks[0]).bridge, '10.7.2.5/24')
    const b = neighbour(two, namesOf(tasks[1]).bridge, '10.7.3.5/24')
    await Promise.all([a.serve(), b.serve()])
    assert.ok(a.reaches('10.7.3.5'), 'from one node to the other')
    assert.ok(b.reaches('10.7.2.5'), 'and back')

    // The peer that is gone is gone; what a restart applies again changes nothing.
    const [{ driver, task }] = sites as [(typeof sites)[0]]
    const alone = networkTask(
      'network',
      '10.7.2.0/24',
      {
        ...(task.workload.data as NetworkLight),
        peers: [],
      },
      { twin: task.deployment.twinId },
    )
    await driver.update?.({ ...alone, previous: task.workload.data })
    const { namespace, wireguard } = namesOf(task)
    assert.equal(sh('ip', 'netns', 'exec', namespace, 'wg', 'show', wireguard, 'peers'), '')
    await driver.provision(task)
    assert.ok(a.reaches('10.7.3.5'), 'with the peer back')

    for (const { driver, task, record, folder } of sites) {
      await driver.deprovision(task)
      assert.equal(namespaceExists(namesOf(task).namespace), false)
      assert.deepEqual(readdirSync(folder), [])
      for (const { secret } of KEYS) {
        assert.equal(
          record.commands().some((line) => line.includes(secret)),
          false,
        )
      }
    }
    assert.deepEqual(
      one.links().filter((name) => /^[bvwp]-/.test(name)),
      [],
    )
  })

  it('makes networks without peers where there is no WireGuard, and refuses the others', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const host = hostNamespace()
    const record = recorder(folderOf(), host.prefix)
    record.refuse('wireguard')
    const folder = folderOf()
    const driver = createNetworkHostDriver('network', { folder, prefix: record.prefix })
    const probe = await driver.probe(new AbortController().signal)
    assert.ok(probe.able)
    assert.match(probe.warning ?? '', /^only networks without peers: "wireguard-go" /)
    const alone = networkTask('network', '10.1.2.0/24')
    await driver.provision(alone)
    assert.ok((await driver.health?.(alone))?.every((check) => check.ok))
    const joined = networkTask('network', '10.2.2.0/24', {
      peers: [peer(KEYS[1].public, ['10.2.3.0/24'])],
    })
    await assert.rejects(Promise.resolve(driver.provision(joined)), {
      name: 'DriverError',
      kind: 'failed',
      message: /^Cannot reach the 1 peers of network: /,
    })
    const { bridge, port } = namesOf(alone)
    assert.deepEqual(host.links(), [bridge, port].sort(), 'what was refused leaves nothing')
    await driver.deprovision(alone)
  })

  it('ends in the same state wherever it was interrupted', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const host = hostNamespace()
    const record = recorder(folderOf(), host.prefix)
    const folder = folderOf()
    const driver = createNetworkHostDriver('network', { folder, prefix: record.prefix })
    const task = networkTask('network', '10.1.2.0/24')
    await driver.provision(task)
    const whole = host.links()
    const count = record.commands().length
    await driver.deprovision(task)
    for (let after = 1; after < count; after += 5) {
      record.failFrom(after)
      await Promise.resolve(driver.provision(task)).catch(() => {})
      record.failFrom(undefined)
      await driver.provision(task)
      assert.deepEqual(host.links(), whole, `interrupted after ${after} of ${count} commands`)
      assert.ok((await driver.health?.(task))?.every((check) => check.ok))
      record.failFrom(after)
      await driver.deprovision(task).catch(() => {})
      record.failFrom(undefined)
      await driver.deprovision(task)
      assert.deepEqual(host.links(), [])
    }
    assert.deepEqual(readdirSync(folder), [])
  })

  it('gives networks a way out, where they do not meet each other or the host', async (t) => {
    if (lacks(t, 'netns', makesNetworks()) || lacks(t, 'nft')) return
    const host = hostNamespace()
    const outside = hostNamespace()
    wire(host, outside)
    const driver = createNetworkHostDriver('network-light', {
      folder: folderOf(),
      prefix: host.prefix,
      uplinkRange: '100.127.0.0/16',
    })
    // Two twins with the same addresses.
    const tasks = [1, 2].map(() => networkTask('network-light', '10.1.2.0/24'))
    await Promise.all(tasks.map((task) => driver.provision(task)))
    const machines = tasks.map((task) => neighbour(host, namesOf(task).bridge, '10.1.2.2/24'))
    await Promise.all([
      machineIn(outside.name).serve(),
      machineIn(host.name).serve(),
      ...tasks.map((task) => machineIn(namesOf(task).namespace).serve()),
    ])
    const ways = tasks.map(({ deployment }) => {
      const { namespace } = namesOf({ deployment })
      return /inet (100\.127\.\d+\.\d+)/.exec(sh('ip', '-n', namespace, 'addr'))?.[1] ?? ''
    })
    assert.notEqual(ways[0], ways[1])
    for (const machine of machines) assert.ok(machine.reaches('192.0.2.2'), 'the world outside')
    const gateway = ways[0]?.replace(/\d+$/, (last) => String(Number(last) - 1)) ?? ''
    assert.equal(machines[0]?.reaches(gateway, 2000), false, 'the host')
    assert.equal(machines[0]?.reaches(ways[1] ?? '', 2000), false, 'the network of another twin')
    // Applied again it stays on its addresses.
    for (const task of tasks) await driver.provision(task)
    assert.ok(sh('ip', '-n', namesOf(tasks[0] as never).namespace, 'addr').includes(ways[0] ?? ''))
    for (const task of tasks) await driver.deprovision(task)
    assert.deepEqual(
      host.links().filter((name) => /^[bvwp]-/.test(name)),
      [],
    )
  })

  it('sweeps what it made itself, and nothing of others', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const host = hostNamespace()
    const [mine, others] = [folderOf(), folderOf()]
    const driver = createNetworkHostDriver('network-light', { folder: mine, prefix: host.prefix })
    const other = createNetworkHostDriver('network-light', { folder: others, prefix: host.prefix })
    const full = createNetworkHostDriver('network', { folder: mine, prefix: host.prefix })
    const [kept, left, foreign] = [1, 2, 3].map((n) =>
      networkTask('network-light', `10.${n}.2.0/24`),
    )
    assert.ok(kept && left && foreign)
    await driver.provision(kept)
    await driver.provision(left)
    await other.provision(foreign)
    await full.sweep?.(new Set(), kept.signal)
    await driver.sweep?.(new Set([kept.id]), kept.signal)
    const bridges = host.links().filter((name) => name.startsWith('b-'))
    assert.deepEqual(bridges, [namesOf(kept).bridge, namesOf(foreign).bridge].sort())
    await driver.deprovision(kept)
    await other.deprovision(foreign)
  })

  it('leaves the name of a network to who has it, until that is gone', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const host = hostNamespace()
    const folder = folderOf()
    const driver = createNetworkHostDriver('network-light', { folder, prefix: host.prefix })
    const first = networkTask('network-light', '10.1.2.0/24')
    const twin = first.deployment.twinId
    const running = () => [
      { id: first.id, twinId: twin, contractId: 1n, workload: first.workload, result: OK },
    ]
    const id = `${twin}-77-net`
    const second = networkTask('network-light', '10.1.9.0/24', {}, { twin, id, running })
    await driver.provision(first)
    await assert.rejects(Promise.resolve(driver.provision(second)), {
      kind: 'failed',
      message: `Cannot make network "net": workload ${first.id} has this name already`,
    })
    // The journal of the first may be behind: what is not running gives its name away.
    await driver.provision({ ...second, running: () => [] })
    await driver.deprovision(first)
    assert.ok((await driver.health?.(second))?.every((check) => check.ok))
    await driver.deprovision(second)
  })

  it('gives a WireGuard port to one network', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const host = hostNamespace()
    const { prefix } = host
    const driver = createNetworkHostDriver('network', { folder: folderOf(), prefix })
    const [first, second] = ['10.1.2.0/24', '10.2.2.0/24'].map((subnet) =>
      networkTask('network', subnet, { wireguardListenPort: 4100 }),
    )
    assert.ok(first && second)
    await driver.provision(first)
    await assert.rejects(Promise.resolve(driver.provision(second)), {
      kind: 'failed',
      message: 'Cannot listen on WireGuard port 4100: another network of this node has it',
    })
    await driver.deprovision(first)
    await driver.provision(second)
    await driver.deprovision(second)
  })

  it('says what is missing where it may not make networks', async (t) => {
    if (lacks(t, 'root', process.getuid?.() === 0) || lacks(t, 'setpriv') || lacks(t, 'ip')) return
    const driver = createNetworkHostDriver('network', {
      folder: folderOf(),
      prefix: ['setpriv', '--reuid', '65534', '--clear-groups', '--'],
    })
    const probe = await driver.probe(new AbortController().signal)
    assert.ok(!probe.able)
    assert.match(probe.reason, /needs CAP_NET_ADMIN and CAP_SYS_ADMIN: "ip" ended with/)
  })

  it('says that the tools are missing', async () => {
    const prefix = ['/nonexistent/ip-prefix']
    const driver = createNetworkHostDriver('network', { folder: folderOf(), prefix })
    assert.deepEqual(await driver.probe(new AbortController().signal), {
      able: false,
      reason:
        'network tools cannot be used: "/nonexistent/ip-prefix" is not installed; install iproute2',
    })
  })

  it('says that there is no way out without nftables', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const record = recorder(folderOf(), hostNamespace().prefix)
    record.refuse('nft')
    const driver = createNetworkHostDriver('network-light', {
      folder: folderOf(),
      prefix: record.prefix,
      uplinkRange: '100.127.0.0/16',
    })
    const probe = await driver.probe(new AbortController().signal)
    assert.ok(!probe.able)
    assert.match(probe.reason, /^networks get no way out: "nft" ended with exit status 2/)
  })

  it('does not touch the host for values that cannot be', async () => {
    const folder = folderOf()
    const record = recorder(folderOf(), [])
    const driver = createNetworkHostDriver('network', { folder, prefix: record.prefix })
    const good = ['10.2.3.0/24']
    const bad = [
      networkTask('network', 'fd00::/64'),
      networkTask('network', '10.1.2.0/31'),
      networkTask('network', '10.0.0.0/4'),
      networkTask('network', '10.1.2.0/24', { wireguardPrivateKey: `${KEYS[0].secret}\n[Peer]` }),
      networkTask('network', '10.1.2.0/24', { peers: [peer('short', good)] }),
      networkTask('network', '10.1.2.0/24', {
        peers: [peer(KEYS[1].public, good, 'a:1\nPostUp = x')],
      }),
      networkTask('network', '10.1.2.0/24', { peers: [peer(KEYS[1].public, good, 'a:70000')] }),
      networkTask('network', '10.1.2.0/24', { peers: [peer(KEYS[1].public, ['10.0.0.0/8\nx'])] }),
      networkTask('network', '10.1.2.0/24', {
        peers: Array.from({ length: 1001 }, () => peer(KEYS[1].public, good)),
      }),
    ]
    for (const task of bad) {
      await assert.rejects(Promise.resolve(driver.provision(task)), (error: Error) => {
        assert.equal(error.name, 'DriverError')
        assert.match(error.message, /^Cannot use /)
        assert.equal(error.message.includes(KEYS[0].secret), false)
        return true
      })
    }
    assert.deepEqual(record.commands(), [])
    assert.deepEqual(readdirSync(folder), [])
  })
})

const OK = { created: 1, state: 'ok', message: '', data: 'null' } as const
