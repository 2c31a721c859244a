/** A real daemon and a real engine: a machine with a disk, a volume and a network lives its life. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { startDaemon } from './helpers/daemon.ts'
import { type TestEngine, useEngine } from './helpers/engine.ts'
import type { WireWorkload } from './helpers/zos-deployment.ts'
import { ask, Grid, isErased, reaches, TWIN } from './helpers/zos-grid.ts'

const engineOf = useEngine()

const CONTRACT = 8955
const IP = '10.1.2.7'

const network: WireWorkload = {
  version: 0,
  name: 'net',
  type: 'network',
  metadata: '',
  description: '',
  data: {
    ip_range: '10.1.0.0/16',
    subnet: '10.1.2.0/24',
    wireguard_private_key: 'canary-of-a-key',
    wireguard_listen_port: 3333,
    peers: [],
  },
}
const disk = { ...network, name: 'disk', type: 'zmount', data: { size: 64 * 1024 ** 2 } }
const folder = { ...network, name: 'shared', type: 'volume', data: { size: 64 * 1024 ** 2 } }
const machine = {
  ...network,
  name: 'vm',
  type: 'zmachine',
  data: {
    flist: 'docker://cvmd-test:latest',
    network: {
      public_ip: '',
      planetary: false,
      interfaces: [{ network: 'net', ip: IP }],
    },
    size: 0,
    compute_capacity: { cpu: 1, memory: 256 * 1024 ** 2 },
    mounts: [
      { name: 'disk', mountpoint: '/disk' },
      { name: 'shared', mountpoint: '/shared' },
    ],
    entrypoint:
      '/bin/sh -c "trap \'exit 0\' TERM; echo $WORD >/disk/word; echo $WORD >/shared/word; while :; do echo $WORD | nc -l -p 80 & wait; done"',
    env: { WORD: 'hello-canary' },
    corex: false,
    gpu: [],
  },
}

async function startNode(engine: TestEngine, at?: string) {
  return await startDaemon({
    config: `state_dir = "{folder}/state"
run_dir = "{folder}/run"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[plugins.zos]
registry = "{folder}/registry.json"
engine_socket = "${engine.socketPath}"
mount_disks = "folder"
[plugins.supervisor]
enabled = false
`,
    ...(at !== undefined && { folder: at }),
  })
}

/** What the machine says on its private address. */
function hear(engine: TestEngine): string {
  const [program = '', ...args] = engine.inNetwork
  const command = `for i in 1 2 3 4 5 6 7 8 9 10; do nc -w 1 ${IP} 80 </dev/null && break; sleep 0.3; done`
  return execFileSync(program, [...args, 'busybox', 'sh', '-c', command], { encoding: 'utf8' })
}

async function deployed(t: TestContext, engine: TestEngine) {
  const grid = new Grid(join(engine.folder, 'registry.json'))
  const node = await startNode(engine, engine.folder)
  t.after(() => node.stop())
  return { grid, node }
}

test('a machine with a disk, a volume and a network: from its deployment to its end', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const { grid, node } = await deployed(t, engine)
  let { socket } = node
  const before = {
    networks: (await engine.client.networks.list()).length,
    volumes: (await engine.client.volumes.list()).length,
  }
  const text = grid.signed(CONTRACT, [machine, disk, folder, network])
  const accepted = await ask(socket, 'zos.deployment.deploy', text)
  assert.equal(accepted.status, 202, accepted.body)
  assert.equal(accepted.body, 'null')
  const up = { vm: 'ok', disk: 'ok', shared: 'ok', net: 'ok' }
  const [vm, mount] = await reaches(socket, CONTRACT, up)
  const id = `${TWIN}-${CONTRACT}`
  assert.deepEqual(vm?.result.data, {
    id: `${id}-vm`,
    ip: IP,
    planetary_ip: '',
    mycelium_ip: '',
    console_url: '',
  })
  assert.deepEqual(mount?.result.data, { volume_id: `${id}-disk` })
  assert.equal(hear(engine), 'hello-canary\n')

  const features = (await ask(socket, 'zos.system.node_features_get')).json<string[]>()
  for (const one of ['zmount', 'volume', 'network', 'zmachine', 'zlogs']) {
    assert.ok(features.includes(one), `${one} in ${features}`)
  }
  const statistics = (await ask(socket, 'zos.statistics.get')).json<{
    used: { cru: number; mru: number; sru: number }
    system: { mru: number }
    users: { deployments: number; workloads: number }
  }>()
  assert.equal(statistics.used.cru, 1)
  assert.equal(statistics.used.mru - statistics.system.mru, 256 * 1024 ** 2)
  assert.deepEqual([statistics.users.deployments, statistics.users.workloads], [1, 4])
  const ips = await ask(socket, 'zos.network.list_private_ips', { network_name: 'net' })
  assert.deepEqual(ips.json(), [IP])

  // The daemon ends, the machine does not, and the next daemon takes it over as it is.
  const [one] = await engine.client.containers.list()
  await node.stop()
  assert.equal(hear(engine), 'hello-canary\n')
  const again = await startNode(engine, engine.folder)
  t.after(() => again.stop())
  socket = again.socket
  await reaches(socket, CONTRACT, up)
  const [same] = await engine.client.containers.list()
  assert.equal(same?.Id, one?.Id)

  grid.setState(CONTRACT, 'grace_period')
  await reaches(socket, CONTRACT, { vm: 'paused', disk: 'paused', shared: 'paused', net: 'paused' })
  assert.equal((await engine.client.containers.list())[0]?.State, 'paused')
  grid.setState(CONTRACT, 'created')
  await reaches(socket, CONTRACT, up)
  assert.equal((await engine.client.containers.list())[0]?.State, 'running')
  assert.equal(hear(engine), 'hello-canary\n')

  // A second volume, which nothing has mounted, grows.
  const more = { ...folder, name: 'more', version: 1 }
  const first = [machine, disk, folder, network, more]
  const updated = await ask(
    socket,
    'zos.deployment.update',
    grid.signed(CONTRACT, first, { version: 1 }),
  )
  assert.equal(updated.status, 202, updated.body)
  await reaches(socket, CONTRACT, { ...up, more: 'ok' })
  const larger = { ...more, version: 2, data: { size: 96 * 1024 ** 2 } }
  const second = [machine, disk, folder, network, larger]
  const text2 = grid.signed(CONTRACT, second, { version: 2 })
  assert.equal((await ask(socket, 'zos.deployment.update', text2)).status, 202)
  await reaches(socket, CONTRACT, { ...up, more: 'ok@2' })
  assert.equal(
    (await engine.client.containers.list())[0]?.Id,
    one?.Id,
    'the machine was left alone',
  )

  grid.setState(CONTRACT, 'deleted')
  await isErased(socket, CONTRACT)
  assert.deepEqual(await engine.client.containers.list(), [])
  assert.equal((await engine.client.networks.list()).length, before.networks)
  assert.equal((await engine.client.volumes.list()).length, before.volumes)
  const data = join(engine.folder, 'state/zos/data')
  for (const kind of ['vdisks', 'mounts', 'volumes']) {
    const path = join(data, kind)
    assert.deepEqual(existsSync(path) ? readdirSync(path) : [], [], kind)
  }
  for (const canary of ['hello-canary', 'canary-of-a-key']) {
    assert.ok(!node.output().includes(canary), 'the log has no secrets')
    assert.ok(!again.output().includes(canary), 'the log has no secrets')
  }
})
