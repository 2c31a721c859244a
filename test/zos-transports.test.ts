/** A whole daemon on the message bus and on a relay: what comes there, and what a fault costs. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createIdentity } from '../plugins/zos/rmb/identity.ts'
import { within } from '../src/deadline.ts'
import { freshFolder, startDaemon, unixRequest } from './helpers/daemon.ts'
import { ask, Grid, NODE, TWIN } from './helpers/zos-grid.ts'
import { testRedis } from './helpers/zos-redis.ts'
import { testRelay } from './helpers/zos-relay.ts'
import { requester } from './helpers/zos-requester.ts'
import { eventually } from './supervisor/eventually.ts'

async function node(t: TestContext, folder: string, keys: string, more = '') {
  const daemon = await startDaemon({
    folder,
    config: `state_dir = "{folder}/state"
run_dir = "{folder}/run"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[plugins.supervisor]
enabled = false
[plugins.zos]
registry = "{folder}/registry.json"
${keys}
[plugins.zos.drivers]
zmachine = "off"
network = "off"
${more}`,
  })
  t.after(() => daemon.stop())
  return daemon
}

test('Redis down, there, killed and back: replies come when it is there, HTTP always', async (t) => {
  const redis = await testRedis(t, { running: false, password: 'canary-of-redis' })
  if (!redis) return
  const folder = freshFolder()
  new Grid(join(folder, 'registry.json'))
  writeFileSync(join(folder, 'password'), 'canary-of-redis\n')
  const daemon = await node(
    t,
    folder,
    `bus = "redis://127.0.0.1:${redis.port}"\nbus_password = { file = "${folder}/password" }`,
  )
  const ready = async () => (await unixRequest(daemon.socket, '/cvmd/ready')).status
  const unharmed = async () => {
    assert.equal((await unixRequest(daemon.socket, '/livez')).status, 200)
    assert.equal((await ask(daemon.socket, 'zos.system.version')).status, 200)
  }
  const answered = async (ref: string) => {
    const request = {
      ver: 1,
      ref,
      src: `${TWIN}:session`,
      cmd: 'zos.deployment.list',
      exp: 60,
      dat: '',
      tag: null,
      ret: 'msgbus.system.reply',
      shm: 'application/json',
      now: Math.floor(Date.now() / 1000),
    }
    await redis.ask('LPUSH', `msgbus.${request.cmd}`, JSON.stringify(request))
    const popped = await within(30_000, redis.ask('BRPOP', request.ret, '25'), 'answer on the bus')
    const [, text = ''] = popped as string[]
    const { dat, ...reply } = JSON.parse(text)
    assert.equal(Buffer.from(dat, 'base64').toString(), '[]')
    assert.deepEqual([reply.ref, reply.dst, reply.err], [ref, `${TWIN}:session`, undefined])
  }
  await eventually('the daemon says that the bus is away', ready, (status) => status === 503)
  await unharmed()
  await redis.start()
  await answered('first')
  await eventually('it is ready', ready, (status) => status === 200)
  const metrics = (await unixRequest(daemon.socket, '/cvmd/metrics')).body
  assert.match(metrics, /cvmd_zos_commands_total\{[^}]*"zos.deployment.list"[^}]*\} 1\n/)
  assert.match(metrics, /cvmd_zos_bus_connected(\{[^}]*\})? 1\n/)
  await redis.kill()
  await eventually('the daemon says so again', ready, (status) => status === 503)
  await unharmed()
  await redis.start()
  await answered('second')
  assert.ok(!daemon.output().includes('canary-of-redis'))
})

test('a twin asks over a relay, encrypted and signed, and gets what HTTP gives', async (t) => {
  const folder = freshFolder()
  const own = createIdentity('11'.repeat(32), 'sr25519')
  const caller = createIdentity('22'.repeat(32), 'ed25519')
  const self = 17
  const twins = new Map([
    [self, own],
    [TWIN, caller],
  ])
  const relay = await testRelay(t, (twin) => twins.get(twin)?.publicKey)
  const shown = [...twins].map(([id, { publicKey, keyType, pk }]) => ({
    id,
    key_type: keyType,
    public_key: Buffer.from(publicKey).toString('hex'),
    relay: relay.host,
    pk: Buffer.from(pk).toString('hex'),
  }))
  writeFileSync(
    join(folder, 'registry.json'),
    JSON.stringify({
      node: { id: NODE, twin_id: self, farm_id: 1 },
      farm: { id: 1, twin_id: TWIN },
      twins: shown,
      contracts: [],
      rent_contract: null,
      admin_twins: [],
    }),
  )
  writeFileSync(join(folder, 'identity'), `${'11'.repeat(32)}\n`)
  const daemon = await node(
    t,
    folder,
    '',
    `[plugins.zos.relay]\nurls = ["${relay.url}"]\nidentity = { file = "${folder}/identity" }`,
  )
  await eventually(
    'the node is connected',
    async () => relay.connected(),
    (names) => names.includes(`${self}`),
  )
  const other = {
    id: self,
    keyType: 'sr25519',
    publicKey: own.publicKey,
    relays: [relay.host],
    pk: own.pk,
  } as const
  const twin = await requester(t, { url: relay.url, identity: caller, twinId: TWIN, other })
  for (const command of ['zos.system.version', 'zos.admin.get_public_nic']) {
    const answer = await twin.ask(twin.envelope(command, 'null'))
    const overHttp = await ask(daemon.socket, command)
    assert.equal(await twin.read(answer), overHttp.body)
    assert.equal(overHttp.status, 200)
  }
  assert.ok(!daemon.output().includes('11'.repeat(32)))
})
