/** A whole daemon whose machines are virtual, on networks and a public bridge of the host. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { deviceName, networkId } from '../plugins/zos/deployment/ids.ts'
import { networkNames } from '../plugins/zos/drivers/network-host/plan.ts'
import { within } from '../src/deadline.ts'
import { afterTest, cleanAfterEach } from './helpers/after-test.ts'
import { lacks } from './helpers/counterpart.ts'
import { freshFolder } from './helpers/daemon.ts'
import { deploy, features } from './helpers/zos-drivers.ts'
import { ask, Grid, isErased, reaches, TWIN } from './helpers/zos-grid.ts'
import { end, machineRoom, runs } from './helpers/zos-hypervisor.ts'
import { disk, folder as shared, startNode, workload } from './helpers/zos-machine.ts'
import { hostNamespace, makesNetworks, succeeds } from './helpers/zos-network-host.ts'
import { eventually } from './supervisor/eventually.ts'

const CONTRACT = 1201
const SECRET = 'canary-of-the-env'

describe('virtual machines of a whole daemon', () => {
  cleanAfterEach()

  it('come up with disks, networks and a public address, outlive it, and go', async (t) => {
    if (lacks(t, 'netns', makesNetworks()) || lacks(t, 'nft')) return
    if (lacks(t, 'kvm', existsSync('/dev/kvm') && existsSync('/dev/net/tun'))) return
    const host = hostNamespace()
    const room = machineRoom()
    const folder = freshFolder()
    afterTest(() => rmSync(folder, { recursive: true, force: true }))
    const grid = new Grid(join(folder, 'registry.json'))
    const start = () =>
      startNode(join(folder, 'no-engine.sock'), folder, {
        keys: 'public_bridge = "br-pub"\nprobe_interval_s = 1',
        tables: `[plugins.zos.public_config]
ipv6 = "2001:db8:7::1/64"
[plugins.zos.cloud_hypervisor]
program = ["${room.folder}/cloud-hypervisor"]
virtiofsd = ["${room.folder}/virtiofsd"]
firmware = "${room.folder}/firmware"
image_dir = "${room.imageDir}"
run_dir = "${folder}/vm"`,
        inside: host.prefix,
      })
    let node = await start()
    afterTest(() => node.stop())
    const types = ['zmount', 'volume', 'network', 'network-light', 'zmachine', 'zmachine-light']
    assert.deepEqual(await features(node.socket), [...types, 'zlogs'])
    // The bridge comes later, and with it public addresses.
    host.run('ip', 'link', 'add', 'br-pub', 'type', 'bridge')
    const wanted = ['zmount', 'volume', 'network', 'network-light', 'ipv4', 'ip']
    await eventually(
      'public addresses are offered',
      () => features(node.socket),
      (all) => `${all}` === `${[...wanted, 'zmachine', 'zmachine-light', 'zlogs']}`,
    )

    const net = `n${randomBytes(6).toString('hex')}`
    const names = networkNames(networkId(TWIN, net))
    afterTest(() => succeeds('ip', 'netns', 'del', names.namespace))
    grid.contracts.set(CONTRACT, {
      contract_id: CONTRACT,
      state: 'created',
      deployment_hash: '',
      public_ips: [{ ip: '185.1.2.10/24', gateway: '185.1.2.1' }],
    })
    const all = [
      workload('vm', 'zmachine', {
        flist: 'file:///disk.raw',
        network: {
          public_ip: 'pub',
          planetary: false,
          interfaces: [{ network: net, ip: '10.78.2.7' }],
        },
        size: 0,
        compute_capacity: { cpu: 2, memory: 512 * 1024 ** 2 },
        mounts: [
          { name: 'disk', mountpoint: '/disk' },
          { name: 'shared', mountpoint: '/shared' },
        ],
        entrypoint: '/bin/init',
        env: { SECRET },
        corex: false,
      }),
      workload('pub', 'ip', { v4: true, v6: true }),
      disk,
      shared,
      workload(net, 'network-light', {
        ip_range: '10.78.0.0/16',
        subnet: '10.78.2.0/24',
        wireguard_private_key: '',
        wireguard_listen_port: 0,
        peers: [],
        mycelium: { hex_key: '00'.repeat(32), peers: [] },
      }),
    ]
    await deploy(node.socket, grid, CONTRACT, all)
    const up = { vm: 'ok', pub: 'ok', disk: 'ok', shared: 'ok', [net]: 'ok' }
    const shown = await reaches(node.socket, CONTRACT, up)
    const dataOf = (name: string) => shown.find((one) => one.name === name)?.result.data
    const id = `${TWIN}-${CONTRACT}-vm`
    assert.equal(dataOf('vm')?.id, id)
    assert.equal(dataOf('vm')?.ip, '10.78.2.7')
    const pub = dataOf('pub')
    assert.deepEqual([pub?.ip, pub?.gateway], ['185.1.2.10/24', '185.1.2.1'])
    assert.match(pub?.ip6 ?? '', /^2001:db8:7:.*\/64$/)

    // What the hypervisor was asked for is of its API, and is what is there.
    const wrong = () => room.requests().filter((line) => line.startsWith('WRONG'))
    assert.deepEqual(wrong(), [])
    const created = room.created()
    const { cpus, memory } = created as { cpus: object; memory: object }
    assert.deepEqual(cpus, { boot_vcpus: 2, max_vcpus: 2 })
    assert.deepEqual(memory, { size: 512 * 1024 ** 2, shared: true })
    const disks = (created.disks as { path: string }[]).map(({ path }) => path)
    assert.equal(disks.length, 3)
    assert.ok(disks[1]?.endsWith(`/vdisks/${TWIN}-${CONTRACT}-disk`))
    assert.equal(room.shared().length, 1)
    const taps = () => {
      const text = host.run('ip', '-j', '-d', 'link', 'show', 'type', 'tun')
      const rows: { ifname?: string; master?: string }[] = JSON.parse(text)
      return rows.flatMap(({ ifname, master }) => (ifname ? [`${ifname} ${master}`] : [])).sort()
    }
    const outside = deviceName(`${TWIN}-${CONTRACT}-pub`, 'pub')
    const inside = deviceName(id, net)
    const cards = [`${inside} ${names.bridge}`, `${outside} br-pub`].sort()
    assert.deepEqual(taps(), cards)

    // The machine is kept to its public addresses.
    const rules = () => {
      const text = host.run('nft', 'list', 'ruleset')
      return text.includes(`r-${outside}`) ? text : ''
    }
    assert.match(rules(), /ip saddr != 185\.1\.2\.10 drop/)
    assert.ok(rules().includes(pub?.ip6?.split('/')[0] ?? 'none'))
    const ips = async () => (await ask(node.socket, 'zos.network.list_public_ips')).json<string[]>()
    assert.deepEqual(await ips(), ['185.1.2.10/24'])

    // It goes on without the daemon, and is taken over by the next one.
    const [pid = 0] = room.started()
    node.signal('SIGKILL')
    await within(10_000, node.exited(), 'end')
    assert.ok(runs(pid))
    node = await start()
    await reaches(node.socket, CONTRACT, up)
    assert.deepEqual(room.started(), [pid])
    assert.deepEqual(taps(), cards)

    // A grace period stops it; when that ends it goes on.
    const asked = (name: string) => room.requests().filter((line) => line.endsWith(name)).length
    grid.setState(CONTRACT, 'grace_period')
    const paused = Object.fromEntries(Object.keys(up).map((name) => [name, 'paused']))
    await reaches(node.socket, CONTRACT, paused)
    assert.deepEqual([asked('vm.pause'), asked('vm.resume')], [1, 0])
    grid.setState(CONTRACT, 'created')
    await reaches(node.socket, CONTRACT, up)
    assert.deepEqual([asked('vm.pause'), asked('vm.resume')], [1, 1])

    // One that ends by itself is started again, with the disk it had.
    end(pid)
    await eventually(
      'it runs again',
      () => room.started(),
      ({ length }) => length === 2,
    )
    await reaches(node.socket, CONTRACT, up)
    assert.deepEqual(taps(), cards)
    assert.deepEqual(wrong(), [])

    grid.setState(CONTRACT, 'deleted')
    await isErased(node.socket, CONTRACT)
    assert.deepEqual(room.started().filter(runs), [])
    assert.deepEqual(taps(), [])
    assert.equal(rules(), '')
    assert.deepEqual(host.links(), ['br-pub'])
    assert.ok(!succeeds('ip', '-n', names.namespace, 'link'))
    assert.deepEqual(await ips(), [])
    const state = join(folder, 'state/zos')
    for (const place of ['machines', 'data/vdisks', 'data/volumes', 'networks']) {
      assert.deepEqual(readdirSync(join(state, place)), [], place)
    }
    assert.deepEqual(readdirSync(join(folder, 'vm')), [])
    assert.ok(!node.output().includes(SECRET), 'the log has no secrets')
  })
})
