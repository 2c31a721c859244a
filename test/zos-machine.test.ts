/** A real daemon and a real engine: a machine with a disk, a volume and a network lives its life. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type TestEngine, useEngine } from './helpers/engine.ts'
import { ask, Grid, isErased, reaches, TWIN } from './helpers/zos-grid.ts'
import { folder, IP, startNode, UP, workloads } from './helpers/zos-machine.ts'

const engineOf = useEngine()

const CONTRACT = 8955

/** What the machine says on its private address. */
function hear(engine: TestEngine): string {
  const [program = '', ...args] = engine.inNetwork
  const command = `for i in 1 2 3 4 5 6 7 8 9 10; do nc -w 1 ${IP} 80 </dev/null && break; sleep 0.3; done`
  return execFileSync(program, [...args, 'busybox', 'sh', '-c', command], { encoding: 'utf8' })
}

async function deployed(t: TestContext, engine: TestEngine) {
  const grid = new Grid(join(engine.folder, 'registry.json'))
  const node = await startNode(engine.socketPath, engine.folder)
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
  const text = grid.signed(CONTRACT, workloads)
  const accepted = await ask(socket, 'zos.deployment.deploy', text)
  assert.equal(accepted.status, 202, accepted.body)
  assert.equal(accepted.body, 'null')
  const [vm, mount] = await reaches(socket, CONTRACT, UP)
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
  const again = await startNode(engine.socketPath, engine.folder)
  t.after(() => again.stop())
  socket = again.socket
  await reaches(socket, CONTRACT, UP)
  const [same] = await engine.client.containers.list()
  assert.equal(same?.Id, one?.Id)

  grid.setState(CONTRACT, 'grace_period')
  await reaches(socket, CONTRACT, { vm: 'paused', disk: 'paused', shared: 'paused', net: 'paused' })
  assert.equal((await engine.client.containers.list())[0]?.State, 'paused')
  grid.setState(CONTRACT, 'created')
  await reaches(socket, CONTRACT, UP)
  assert.equal((await engine.client.containers.list())[0]?.State, 'running')
  assert.equal(hear(engine), 'hello-canary\n')

  // A second volume, which nothing has mounted, grows.
  const more = { ...folder, name: 'more', version: 1 }
  const first = [...workloads, more]
  const updated = await ask(
    socket,
    'zos.deployment.update',
    grid.signed(CONTRACT, first, { version: 1 }),
  )
  assert.equal(updated.status, 202, updated.body)
  await reaches(socket, CONTRACT, { ...UP, more: 'ok' })
  const larger = { ...more, version: 2, data: { size: 96 * 1024 ** 2 } }
  const second = [...workloads, larger]
  const text2 = grid.signed(CONTRACT, second, { version: 2 })
  assert.equal((await ask(socket, 'zos.deployment.update', text2)).status, 202)
  await reaches(socket, CONTRACT, { ...UP, more: 'ok@2' })
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
