import assert from 'node:assert/strict'
import { test } from 'node:test'
import { containerSpec } from '../../plugins/supervisor/compose/container.ts'
import type { ComposeContext, ImageFacts } from '../../plugins/supervisor/compose/context.ts'
import { networkSpecs, volumeSpecs } from '../../plugins/supervisor/compose/objects.ts'
import {
  isSupervisorNetwork,
  supervisorNetworkBody,
} from '../../plugins/supervisor/compose/supervisor-network.ts'
import type { TargetApp } from '../../plugins/supervisor/target/model.ts'
import { parseLocalTarget } from '../../plugins/supervisor/target/parse.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { TEST_IMAGE, useEngine } from '../helpers/engine.ts'

const engineOf = useEngine()

const contextIn = (folder: string): ComposeContext => ({
  device: { uuid: 'd0d0', name: 'bench', type: 'test', arch: 'amd64', osVersion: 'Test OS 1' },
  api: { port: 48484, keyOf: () => 'k3y' },
  gateway: '10.114.104.1',
  lockRoot: `${folder}/locks`,
  engineSocket: '/var/run/docker.sock',
  allowEngineSocket: false,
  hostHas: () => false,
})

function appOf(services: Readonly<Record<string, object>>, objects: object = {}): TargetApp {
  const named = Object.entries(services).map(([serviceName, fields], index) => {
    const common = { serviceName, imageId: 7, image: TEST_IMAGE, environment: {}, labels: {} }
    return [index + 1, { ...common, ...fields }] as const
  })
  const app = { name: 'shop', commit: 'abc', releaseId: 9, services: Object.fromEntries(named) }
  const { target, warnings } = parseLocalTarget({ local: { apps: { 5: { ...app, ...objects } } } })
  assert.deepEqual(warnings, [])
  return target.apps[0] as TargetApp
}

async function imageFacts(client: Engine): Promise<ImageFacts> {
  const { Id } = await client.images.inspect(TEST_IMAGE)
  const cmd = ['sleep', '1000']
  return {
    id: Id,
    env: [],
    cmd,
    entrypoint: [],
    labels: {},
    stopSignal: undefined,
    healthcheck: undefined,
  }
}

/** Makes and starts everything, in the order of the services; gives the containers' ids. */
async function bringUp(
  client: Engine,
  app: TargetApp,
  folder: string,
): Promise<Map<string, string>> {
  for (const { create } of networkSpecs(app)) await client.networks.create(create)
  for (const { create } of volumeSpecs(app)) await client.volumes.create(create)
  const image = await imageFacts(client)
  const ids = new Map<string, string>()
  for (const service of app.services) {
    const mode = service.composition.network_mode
    const owner = mode?.kind === 'service' ? ids.get(mode.serviceName) : undefined
    const facts = { image, ...(owner === undefined ? {} : { networkContainer: owner }) }
    const { name, create, connect } = containerSpec(service, app, contextIn(folder), facts)
    const { Id } = await client.containers.create(name, create)
    for (const one of connect) await client.networks.connect(one.name, Id, one.endpoint)
    await client.containers.start(Id)
    ids.set(service.serviceName, Id)
  }
  return ids
}

/** What a container wrote until it ended. */
async function outputOf(client: Engine, id: string): Promise<string[]> {
  const lines: string[] = []
  for await (const { text } of client.containers.logs(id, { follow: true })) lines.push(text)
  return lines
}

test('what is asked for has its effect in the container', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  t.after(() => engine.clear())
  const { client, folder } = engine
  await client.networks.create(supervisorNetworkBody())
  const [network] = await client.networks.list({ names: ['supervisor0'] })
  assert.ok(isSupervisorNetwork(network?.IPAM?.Config ?? []))
  const show = [
    'echo "$WHO $BALENA_SUPERVISOR_ADDRESS $BALENA_SUPERVISOR_API_KEY"',
    'hostname',
    'id -u',
    'pwd',
    'ulimit -n',
    'cat /proc/sys/net/core/somaxconn',
    'ls -d /tmp/balena /tmp/resin /d /t /run/x',
    'touch /no 2>/dev/null || echo read-only',
    'df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2',
    'ls /sys/class/net | sort | xargs',
    'grep -c "10.9.9.9.*friend" /etc/hosts',
  ].join('; ')
  const app = appOf(
    {
      main: {
        command: ['sh', '-c', show],
        environment: { WHO: 'it\'s "me" $HOME' },
        labels: { 'io.balena.features.supervisor-api': '1' },
        restart: 'no',
        tty: false,
        hostname: 'quiet',
        user: '65534',
        working_dir: '/tmp',
        ulimits: { nofile: 777 },
        sysctls: { 'net.core.somaxconn': 99 },
        volumes: ['data:/d', { type: 'tmpfs', target: '/t', tmpfs: { size: '1m' } }],
        tmpfs: '/run/x',
        read_only: true,
        shm_size: '2m',
        networks: { front: { aliases: ['www'], ipv4_address: '10.77.0.9' }, default: null },
        extra_hosts: ['friend=10.9.9.9'],
        mem_limit: '64m',
        cpus: 0.5,
        pids_limit: 50,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges'],
        ports: ['127.0.0.1:18080-18081:80-81'],
        healthcheck: { test: 'true', interval: '1s' },
        stop_grace_period: '1s',
      },
    },
    { networks: { front: { ipam: { config: [{ subnet: '10.77.0.0/24' }] } } } },
  )
  const ids = await bringUp(client, app, folder)
  const id = ids.get('main') ?? ''
  const { status } = await client.containers.wait(id)
  const details = await client.containers.inspect(id)
  assert.equal(status, 0, details.State.Error)
  assert.equal(details.Name.replace('/', ''), 'main_7_9_abc')
  assert.deepEqual(Object.keys(details.NetworkSettings.Networks).sort(), [
    '5_default',
    '5_front',
    'supervisor0',
  ])
  assert.deepEqual(
    details.Mounts.filter(({ Type }) => Type === 'volume').map(({ Name }) => Name),
    ['5_data'],
  )
  const lines = await outputOf(client, id)
  assert.deepEqual(lines.slice(0, 5), [
    'it\'s "me" $HOME http://10.114.104.1:48484 k3y',
    'quiet',
    '65534',
    '/tmp',
    '777',
  ])
  assert.deepEqual(lines.slice(5), [
    '99',
    '/d',
    '/run/x',
    '/t',
    '/tmp/balena',
    '/tmp/resin',
    'read-only',
    '2048',
    'eth0 eth1 eth2 lo',
    '1',
  ])
})

test('a network that is shared, and one that is only a configuration', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  t.after(() => engine.clear())
  const { client, folder } = engine
  const sharing = appOf({
    web: { hostname: 'own', stop_grace_period: '0s' },
    side: {
      network_mode: 'service:web',
      hostname: 'not-mine',
      dns: '10.1.1.1',
      ports: ['1:1'],
      command: 'hostname',
      restart: 'no',
      tty: false,
    },
  })
  const ids = await bringUp(client, sharing, folder)
  const side = ids.get('side') ?? ''
  assert.equal((await client.containers.wait(side)).status, 0)
  assert.deepEqual(await outputOf(client, side), ['own'])
  await engine.clear()
  const hosted = appOf({ main: { network_mode: 'host', stop_grace_period: '0s' } })
  const hostedIds = await bringUp(client, hosted, folder)
  const { State } = await client.containers.inspect(hostedIds.get('main') ?? '')
  assert.equal(State.Running, true)
  const networks = await client.networks.list({ labels: ['io.balena.supervised'] })
  assert.deepEqual(
    networks.map(({ Name, ConfigOnly }) => [Name, ConfigOnly]),
    [['5_default', true]],
  )
})
