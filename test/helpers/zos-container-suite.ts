import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { WebSocketServer } from 'ws'
import { containerLogs } from '../../plugins/zos/drivers/container/container-logs.ts'
import {
  type ContainerMachineOptions,
  createContainerMachineDriver,
} from '../../plugins/zos/drivers/container/machine.ts'
import type { Crash } from '../../plugins/zos/drivers/driver.ts'
import { OWNER_LABEL, volumePath } from '../../plugins/zos/drivers/names.ts'
import { createEngineNetworkDriver } from '../../plugins/zos/drivers/network-engine/network.ts'
import { createZlogsDriver } from '../../plugins/zos/drivers/zlogs/driver.ts'
import { type EngineKind, imageFiles, TEST_IMAGE, type TestEngine, useEngine } from './engine.ts'
import { startRegistry } from './registry.ts'
import {
  driverError,
  eventually,
  machineData,
  networkData,
  tasksOf,
  workloadOf,
} from './zos-container.ts'

const full = (process.env.CVMD_TEST_RUNTIME ?? 'node') === 'node'

function drivers(
  engine: TestEngine,
  more: Partial<ContainerMachineOptions> = {},
  owner = 'node-1',
) {
  const dataDir = join(engine.folder, 'zos')
  const warnings: string[] = []
  const options = {
    engine: engine.client,
    owner,
    dataDir,
    stopSeconds: 2,
    warn: (message: string) => void warnings.push(message),
    ...more,
  }
  return {
    dataDir,
    warnings,
    network: createEngineNetworkDriver('network', options),
    machine: createContainerMachineDriver('zmachine', options),
    light: createContainerMachineDriver('zmachine-light', options),
  }
}

/** Follows crashes until the test ends. */
function crashesOf(t: TestContext, { machine }: ReturnType<typeof drivers>): Crash[] {
  const crashes: Crash[] = []
  const controller = new AbortController()
  const ended = machine.watch?.((crash) => void crashes.push(crash), controller.signal)
  t.after(async () => {
    controller.abort()
    await ended
  })
  return crashes
}

const NETWORK = workloadOf('network', 'net', networkData('10.44.2.0/24'))

/** What somebody in the engine's network hears at an address. */
function hear(engine: TestEngine, ip: string): string {
  const [command = '', ...args] = [...engine.inNetwork, 'busybox', 'nc', '-w', '1', ip, '80']
  return spawnSync(command, args, { encoding: 'utf8', timeout: 5000 }).stdout
}

const SERVE = 'sh -c "while :; do echo hello from $NAME | nc -l -p 80; done"'

async function clear({ client }: TestEngine): Promise<void> {
  for (const { Id } of await client.containers.list()) {
    await client.containers.remove(Id, { force: true, volumes: true })
  }
  for (const { Id } of await client.networks.list({ labels: [OWNER_LABEL] })) {
    await client.networks.remove(Id)
  }
}

/** Nothing of ours is in the engine. */
async function assertNothing({ client }: TestEngine): Promise<void> {
  assert.deepEqual(await client.containers.list(), [])
  assert.deepEqual(await client.networks.list({ labels: [OWNER_LABEL] }), [])
  assert.deepEqual(await client.volumes.list(), [])
}

/** Runs words of a shell among the processes of a container. */
async function inContainer({ client }: TestEngine, name: string, shell: string): Promise<void> {
  const details = await client.containers.inspect(name)
  const { Pid } = details.State as unknown as { readonly Pid: number }
  // Its number inside the engine's process namespace is not ours: the file system is found by it.
  const root = rootOf(details.Id)
  assert.ok(Pid > 0 && root, 'it runs')
  const done = spawnSync('chroot', [root, '/bin/sh', '-c', shell], { encoding: 'utf8' })
  assert.equal(done.status, 0, done.stderr)
}

/** `/proc/PID/root` of a process of a container, found by its control group. */
function rootOf(container: string): string | undefined {
  const script = `grep -l ${container} /proc/[0-9]*/cgroup 2>/dev/null | head -n 1`
  const path = spawnSync('sh', ['-c', script], { encoding: 'utf8' }).stdout.trim()
  return path === '' ? undefined : join(path, '..', 'root')
}

/** Proves the drivers on an engine of this kind; to be called at the top of a test file. */
export function containerSuite(kind: EngineKind): void {
  const shared = useEngine(kind)
  const engineOf = async (t: TestContext) => {
    const engine = await shared(t)
    if (!engine) return undefined
    // What a test leaves when it fails says nothing about the next; networks of Podman's outlive it.
    await clear(engine)
    t.after(() => clear(engine).catch(() => {}))
    return engine
  }

  test('a machine with a network and a volume lives its whole life', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const all = drivers(engine)
    const { machine, network, dataDir } = all
    const id = '7-40-vm'
    const volume = volumePath(dataDir, '7-40-vol')
    mkdirSync(volume, { recursive: true })
    const { of, told } = tasksOf({
      workloads: [
        NETWORK,
        workloadOf('volume', 'vol', { size: 1n }),
        workloadOf(
          'zmachine',
          'vm',
          machineData('10.44.2.9', {
            entrypoint: `sh -c 'echo "$SECRET" > /data/secret; hostname > /data/host; ${SERVE}'`,
            env: new Map([
              ['NAME', 'vm'],
              ['SECRET', 'canary value'],
            ]),
            mounts: [{ name: 'vol', mountpoint: '/data/' }],
          }),
        ),
      ],
    })
    assert.deepEqual(await machine.probe(AbortSignal.timeout(5000)), { able: true })
    assert.equal(await network.provision(of('network', 'net')), undefined)
    const task = of('zmachine', 'vm')
    const result = await machine.provision(task)
    const rest = { planetary_ip: '', mycelium_ip: '', console_url: '' }
    assert.deepEqual(result, { id, ip: '10.44.2.9', ...rest })
    await eventually('its greeting', () => hear(engine, '10.44.2.9') === 'hello from vm\n')
    assert.equal(readFileSync(join(volume, 'secret'), 'utf8'), 'canary value\n')
    assert.equal(readFileSync(join(volume, 'host'), 'utf8'), 'vm\n')
    assert.deepEqual(told, [])
    const made = await engine.client.containers.inspect(id)
    assert.equal(made.HostConfig.RestartPolicy?.Name, 'no')
    assert.doesNotMatch(JSON.stringify(made.Config.Labels), /canary/)

    // Another instance of the daemon takes it over as it is.
    const again = drivers(engine).machine
    assert.deepEqual(await again.provision(task), result)
    assert.equal((await engine.client.containers.inspect(id)).Id, made.Id)
    for (const check of (await again.health?.(task)) ?? []) assert.ok(check.ok, check.message)

    await machine.pause?.(task)
    await machine.pause?.(task)
    assert.equal((await engine.client.containers.inspect(id)).State.Status, 'paused')
    assert.equal(hear(engine, '10.44.2.9'), '')
    assert.ok((await machine.health?.(task))?.some(({ ok }) => !ok))
    await machine.resume?.(task)
    await machine.resume?.(task)
    await eventually('its greeting', () => hear(engine, '10.44.2.9') === 'hello from vm\n')
    assert.equal((await engine.client.containers.inspect(id)).Id, made.Id)

    // While it is there its network stays.
    const net = of('network', 'net')
    await assert.rejects(
      network.deprovision(net),
      driverError('failed', /^network 'net' cannot be deleted: machines are on it \(7-40-vm\)/),
    )
    await machine.deprovision(task)
    await machine.deprovision(task)
    await network.deprovision(net)
    await network.deprovision(net)
    await assertNothing(engine)
  })

  test('a crash shows its end and the last lines, and none of the environment', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const all = drivers(engine)
    const crashes = crashesOf(t, all)
    const { machine, network } = all
    const shell =
      'echo begins; until [ -e /end ]; do sleep 0.05; done; echo "password $SECRET"; exit 3'
    const { of } = tasksOf({
      workloads: [
        NETWORK,
        workloadOf(
          'zmachine',
          'vm',
          machineData('10.44.2.9', {
            entrypoint: `sh -c '${shell}'`,
            env: new Map([['SECRET', 'canary value']]),
          }),
        ),
        workloadOf('zmachine', 'bad', machineData('10.44.2.10', { entrypoint: 'no-such-program' })),
      ],
    })
    await network.provision(of('network', 'net'))
    const task = of('zmachine', 'vm')
    await machine.provision(task)
    await eventually('its first line', async () => (await machine.logs?.(task, 5)) === 'begins')
    await inContainer(engine, '7-40-vm', 'touch /end')
    const [crash] = await eventually('the crash', () => crashes.length > 0 && crashes)
    assert.deepEqual(crash, {
      id: '7-40-vm',
      reason: 'machine ended with exit code 3; last lines of its log:\nbegins\npassword [masked]',
    })
    assert.equal(await machine.logs?.(task, 1), 'password [masked]')
    assert.ok((await machine.health?.(task))?.some(({ ok }) => !ok))

    // Tried again: the same machine, with its files, so it ends at once.
    await machine.provision(task).catch(driverError('failed', /^machine ended with exit code 3/))
    await assert.rejects(
      machine.provision(of('zmachine', 'bad')),
      driverError('failed', /no-such-program/),
    )
    assert.deepEqual(
      (await engine.client.containers.list()).map(({ Names }) => Names),
      [['/7-40-vm']],
      'what could not be started is gone',
    )

    // What ends on request is no crash.
    const before = crashes.length
    await machine.deprovision(task)
    await network.deprovision(of('network', 'net'))
    await new Promise((tick) => setTimeout(tick, 200))
    assert.equal(crashes.filter(({ id }) => id === '7-40-bad').length, 0)
    assert.ok(crashes.length <= before + 1)
    await assertNothing(engine)
  })

  test('machines come back after the engine was killed', { skip: !full }, async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const all = drivers(engine)
    const crashes = crashesOf(t, all)
    const { machine, network } = all
    const serve = { entrypoint: SERVE, env: new Map([['NAME', 'vm']]) }
    const { of } = tasksOf({
      workloads: [
        NETWORK,
        workloadOf('zmachine', 'vm', machineData('10.44.2.9', serve)),
        workloadOf('zmachine', 'still', machineData('10.44.2.10', serve)),
      ],
    })
    await network.provision(of('network', 'net'))
    const [vm, still] = [of('zmachine', 'vm'), of('zmachine', 'still')]
    await machine.provision(vm)
    await machine.provision(still)
    await machine.pause?.(still)
    const { Id } = await engine.client.containers.inspect('7-40-vm')
    await engine.kill()
    await assert.rejects(machine.provision(vm), driverError('transient', /^Cannot /))
    await assert.rejects(machine.deprovision(still), driverError('transient', /^Cannot /))
    assert.ok((await machine.health?.(vm))?.some(({ ok }) => !ok))
    await engine.start()
    assert.equal((await machine.provision(vm)) !== undefined, true)
    await eventually('its greeting', () => hear(engine, '10.44.2.9') === 'hello from vm\n')
    assert.equal((await engine.client.containers.inspect('7-40-vm')).Id, Id, 'the same machine')

    // What was not asked for meanwhile comes back by the watch; what is paused stays so.
    await engine.end()
    await engine.start()
    await eventually('its greeting', () => hear(engine, '10.44.2.9') === 'hello from vm\n')
    assert.equal(hear(engine, '10.44.2.10'), '')
    await machine.resume?.(still)
    await eventually('the other', () => hear(engine, '10.44.2.10') === 'hello from vm\n')
    assert.deepEqual(crashes, [])
    await machine.deprovision(vm)
    await machine.deprovision(still)
    await network.deprovision(of('network', 'net'))
    await assertNothing(engine)
  })

  test('what is not ours is neither taken nor touched', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const { client } = engine
    const ours = drivers(engine)
    const theirs = drivers(engine, {}, 'node-2')
    const workloads = [NETWORK, workloadOf('zmachine', 'vm', machineData('10.44.2.9'))]
    const { of } = tasksOf({ workloads })
    const net = of('network', 'net')
    await theirs.network.provision(net)
    const [name] = (await client.networks.list({ labels: [`${OWNER_LABEL}=node-2`] })).map(
      ({ Name }) => Name,
    )
    await assert.rejects(
      ours.network.provision(net),
      driverError('failed', new RegExp(`has a network "${name}" that is not this node's`)),
    )
    await ours.network.deprovision(net)
    const vm = of('zmachine', 'vm')
    await client.containers.create('7-40-vm', { Image: TEST_IMAGE })
    await assert.rejects(
      theirs.machine.provision(vm),
      driverError(
        'failed',
        /has a container "7-40-vm" that is not this node's: remove or rename it/,
      ),
    )
    await theirs.machine.deprovision(vm)
    await ours.machine.sweep?.(new Set(), vm.signal)
    await ours.network.sweep?.(new Set(), vm.signal)
    assert.equal((await client.networks.list()).filter((one) => one.Name === name).length, 1)
    assert.equal((await client.containers.list()).length, 1)
    await client.containers.remove('7-40-vm')

    // The sweep takes what is of no workload any more, and its machines.
    await theirs.machine.provision(vm)
    await theirs.network.sweep?.(new Set(['7-40-vm', '7-40-net']), vm.signal)
    await theirs.machine.sweep?.(new Set(['7-40-vm']), vm.signal)
    assert.equal((await client.containers.inspect('7-40-vm')).State.Running, true)
    await theirs.network.sweep?.(new Set(), vm.signal)
    await assertNothing(engine)
  })

  test('a network is made, kept and changed', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const { network, machine, warnings } = drivers(engine)
    const peer = {
      subnet: '10.44.3.0/24',
      wireguardPublicKey: 'canary-peer',
      allowedIps: [],
      endpoint: '',
    }
    const first = networkData('10.44.2.7/24', { peers: [peer] })
    const tasks = (data: typeof first) =>
      tasksOf({
        workloads: [
          workloadOf('network', 'net', data),
          workloadOf('zmachine', 'vm', machineData('10.44.2.9')),
        ],
      })
    const before = tasks(first)
    await network.provision(before.of('network', 'net'))
    const [made] = await engine.client.networks.list({ labels: [OWNER_LABEL] })
    assert.deepEqual(
      made?.IPAM?.Config.map(({ Subnet, Gateway }) => [Subnet, Gateway]),
      [['10.44.2.0/24', '10.44.2.1']],
    )
    const lack = '1 WireGuard peers are not reached: the network is on this node only'
    assert.deepEqual([before.told, warnings], [[lack], [`network 7-40-net: ${lack}`]])
    await network.provision(before.of('network', 'net'))
    const [same] = await engine.client.networks.list({ labels: [OWNER_LABEL] })
    assert.equal(same?.Id, made?.Id)

    const other = tasks(networkData('10.44.5.0/24'))
    const update = { ...other.of('network', 'net'), previous: first }
    const vm = before.of('zmachine', 'vm')
    await machine.provision(vm)
    const words = /^network 'net' cannot change from subnet 10\.44\.2\.0\/24: machines are on it/
    await assert.rejects(async () => network.update?.(update), driverError('failed', words))
    await engine.client.containers.stop('7-40-vm', { seconds: 1 })
    await assert.rejects(async () => network.update?.(update), driverError('failed', words))
    await machine.deprovision(vm)
    await network.update?.(update)
    assert.ok((await network.health?.(update))?.every(({ ok }) => ok))
    assert.ok((await network.health?.(before.of('network', 'net')))?.some(({ ok }) => !ok))

    const second = tasksOf({
      contractId: 41n,
      workloads: [workloadOf('network', 'b', update.workload.data)],
    })
    await assert.rejects(
      network.provision(second.of('network', 'b')),
      driverError('failed', /^subnet 10\.44\.5\.0\/24 is in use on this node/),
    )
    for (const subnet of ['fd00::/64', '10.0.0.0/30', '']) {
      const bad = tasksOf({ workloads: [workloadOf('network', 'b', networkData(subnet))] })
      await assert.rejects(
        network.provision(bad.of('network', 'b')),
        driverError('failed', /must be an IPv4 network, \/8 to \/29$/),
      )
    }
    const outside = tasksOf({ workloads: [workloadOf('network', 'b', networkData('8.8.8.0/24'))] })
    await assert.rejects(
      network.provision(outside.of('network', 'b')),
      driverError('failed', /^subnet 8\.8\.8\.0\/24 is not private/),
    )
    await network.deprovision(update)
    await assertNothing(engine)
  })

  test('a machine that may not have its GPUs any more does not go on with them', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const taken = new Set<string>()
    let away = false
    const gpus = {
      claim: async (id: string, _contract: bigint, workload: string) => {
        if (away) throw new Error(`GPU '${id}' is used by contract 9`)
        taken.add(workload)
      },
      release: (workload: string) => void taken.delete(workload),
      // Of no driver of the engine.
      deviceRequests: () => undefined,
    }
    const { network, machine } = drivers(engine, { gpus })
    let rent: Promise<bigint | undefined> = Promise.resolve(9n)
    const gpu = ['0000:28:00.0/10de/2330']
    const data = machineData('10.44.2.9', { gpu, entrypoint: `sh -c '${SERVE}'` })
    const { of } = tasksOf({ workloads: [NETWORK, workloadOf('zmachine', 'vm', data)] })
    const task = { ...of('zmachine', 'vm'), rentContract: () => rent }
    const states = async () =>
      (await engine.client.containers.list()).map(({ State }) => State).join()
    await network.provision(of('network', 'net'))
    await machine.provision(task)
    assert.equal(await states(), 'running')

    // A registry that cannot be asked takes nothing away from what was up.
    rent = Promise.reject(new Error('canary of the registry'))
    rent.catch(() => {})
    await machine.provision(task)
    assert.deepEqual([await states(), ...taken], ['running', '7-40-vm'])

    rent = Promise.resolve(9n)
    away = true
    await assert.rejects(
      machine.provision(task),
      driverError('failed', /^GPU '.*' is used by contract 9$/),
    )
    assert.match(await states(), /^(?:exited|stopped)$/)
    assert.equal(taken.size, 0)
    await machine.deprovision(task)
    await network.deprovision(of('network', 'net'))
    await assertNothing(engine)
  })

  test('an image is pulled with its progress, once, by who may have it', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const registry = await startRegistry(t, {
      address: engine.hostAddress,
      runnable: { files: imageFiles(), command: ['sh', '-c', 'echo from the image; sleep 1000'] },
    })
    registry.credentials = { username: 'user', password: 'canary-password' }
    const asked: string[] = []
    const credentials = (host: string) => {
      asked.push(host)
      return registry.credentials
    }
    const { machine: nobody, network } = drivers(engine)
    const { light } = drivers(engine, { credentials })
    const data = machineData('10.44.2.9')
    const vm = (image: string) =>
      tasksOf({
        workloads: [
          NETWORK,
          workloadOf('zmachine', 'vm', { ...data, flist: `docker://${image}` }),
          workloadOf('zmachine-light', 'small', { ...data, flist: `docker://${image}` }),
        ],
      })
    const image = `${registry.host}/team/app:1`
    const { of, told } = vm(image)
    await network.provision(of('network', 'net'))
    await assert.rejects(nobody.provision(of('zmachine', 'vm')), (error) => {
      assert.doesNotMatch(String(error), /canary/)
      return driverError('failed', /^Cannot pull image /)(error)
    })
    assert.deepEqual(told.splice(0), ['downloading 0 %'])
    const small = of('zmachine-light', 'small')
    const result = { id: '7-40-small', ip: '10.44.2.9', mycelium_ip: '', console_url: '' }
    assert.deepEqual(await light.provision(small), result)
    assert.deepEqual(asked, [registry.host])
    assert.equal(told[0], 'downloading 0 %')
    for (const text of told) assert.match(text, /^downloading \d+ %$/)
    const pulls = registry.pulls()
    await eventually('its line', async () => (await light.logs?.(small, 5)) === 'from the image')
    await light.deprovision(small)
    // It is here now, for everybody on this node.
    told.splice(0)
    await nobody.provision(of('zmachine', 'vm'))
    assert.deepEqual([registry.pulls(), told], [pulls, []])
    await nobody.deprovision(of('zmachine', 'vm'))

    const missing = vm(`${registry.host}/team/app:missing`).of('zmachine-light', 'small')
    await assert.rejects(light.provision(missing), driverError('failed', /^Cannot pull image /))
    const gone = vm('127.0.0.1:1/app').of('zmachine-light', 'small')
    await assert.rejects(light.provision(gone), driverError('transient', /^Cannot pull image /))
    await network.deprovision(of('network', 'net'))
    await engine.client.images.remove(image)
    await assertNothing(engine)
  })

  test('half-made, changed and doubled machines end as one that is asked for', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const { client } = engine
    const { machine, network } = drivers(engine)
    const tasks = (cpu: number) =>
      tasksOf({
        workloads: [
          NETWORK,
          workloadOf('zmachine', 'vm', machineData('10.44.2.9', { cpu })),
          workloadOf('zmachine', 'other', machineData('10.44.2.9')),
        ],
      })
    const { of } = tasks(1)
    const vm = of('zmachine', 'vm')
    await network.provision(of('network', 'net'))
    const Labels = { [OWNER_LABEL]: 'node-1', 'org.cvmd.zos.workload': '7-40-vm' }
    await client.containers.create('7-40-vm', { Image: TEST_IMAGE, Labels })
    await client.containers.create('renamed', { Image: TEST_IMAGE, Labels })
    await machine.provision(vm)
    const [made, ...others] = await client.containers.list()
    assert.deepEqual([made?.Names, made?.State, others], [['/7-40-vm'], 'running', []])
    await assert.rejects(
      machine.provision(of('zmachine', 'other')),
      driverError('failed', /^ip 10\.44\.2\.9 is in use by another machine$/),
    )
    assert.equal((await client.containers.list()).length, 1)

    // After a restart of the host it is started again, with its files.
    await client.containers.stop('7-40-vm', { seconds: 1 })
    await machine.provision(vm)
    assert.equal((await client.containers.inspect('7-40-vm')).Id, made?.Id)
    await machine.provision(tasks(2).of('zmachine', 'vm'))
    const changed = await client.containers.inspect('7-40-vm')
    assert.notEqual(changed.Id, made?.Id)
    const { CpuQuota, Memory } = changed.HostConfig as unknown as Record<string, number>
    assert.deepEqual([CpuQuota, Memory], [200_000, 268_435_456])
    await client.containers.remove('7-40-vm', { force: true })
    await assert.rejects(async () => machine.pause?.(vm), driverError('failed', /does not run$/))
    await machine.resume?.(vm)
    await machine.deprovision(vm)
    await network.deprovision(of('network', 'net'))
    await assertNothing(engine)
  })

  test('a machine gets its public address on the network that was made for them', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const { machine, network } = drivers(engine, { publicNetwork: 'public' })
    await engine.client.networks.create({
      Name: 'public',
      Labels: { [OWNER_LABEL]: 'nobody' },
      IPAM: { Config: [{ Subnet: '10.45.0.0/24' }] },
    })
    const data = machineData('10.44.2.9', { entrypoint: SERVE, env: new Map([['NAME', 'vm']]) })
    const { of } = tasksOf({
      workloads: [
        NETWORK,
        workloadOf('ip', 'pub', { v4: true, v6: false }),
        workloadOf('zmachine', 'vm', { ...data, network: { ...data.network, publicIp: 'pub' } }),
      ],
      results: { pub: { data: '{"ip":"10.45.0.7/24","ip6":"","gateway":"10.45.0.1"}' } },
    })
    await network.provision(of('network', 'net'))
    const vm = of('zmachine', 'vm')
    await machine.provision(vm)
    for (const ip of ['10.44.2.9', '10.45.0.7']) {
      await eventually('its greeting', () => hear(engine, ip) === 'hello from vm\n')
    }
    await machine.deprovision(vm)
    await network.deprovision(of('network', 'net'))
    await engine.client.networks.remove('public')
    await assertNothing(engine)
  })

  test('what a machine writes is carried, each line once, over its restarts', async (t) => {
    const engine = await engineOf(t)
    if (!engine) return
    const { machine, network } = drivers(engine)
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
    await once(server, 'listening')
    let text = ''
    server.on('connection', (socket) => {
      socket.on('message', (data) => {
        text += String(data)
      })
    })
    const logs = containerLogs(engine.client, 'node-1')
    const quick = { retryMs: 50, maxRetryMs: 200, allowLocal: true, compression: 'none' } as const
    const zlogs = createZlogsDriver({ logs, ...quick })
    t.after(async () => {
      await zlogs.stop?.()
      for (const socket of server.clients) socket.terminate()
      await new Promise((closed) => server.close(closed))
    })
    const shell =
      'n=$(cat /count 2>/dev/null || echo 0); while [ $n -lt 40 ]; do n=$((n + 1)); ' +
      'echo line $n; echo $n > /count; [ $((n % 10)) = 0 ] && exit 0; sleep 0.02; done; sleep 1000'
    const { of } = tasksOf({
      workloads: [
        NETWORK,
        workloadOf('zmachine', 'vm', machineData('10.44.2.9', { entrypoint: `sh -c '${shell}'` })),
        workloadOf('zlogs', 'logs', {
          zmachine: 'vm',
          output: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/`,
        }),
      ],
    })
    await network.provision(of('network', 'net'))
    await zlogs.provision(of('zlogs', 'logs'))
    const vm = of('zmachine', 'vm')
    for (const last of [10, 20, 30, 40]) {
      await machine.provision(vm)
      await eventually(`line ${last}`, () => text.endsWith(`line ${last}\n`))
      await eventually('its end', async () => {
        return !(await engine.client.containers.inspect('7-40-vm')).State.Running
      })
    }
    const all = Array.from({ length: 40 }, (_, index) => `line ${index + 1}\n`)
    assert.equal(text, all.join(''))
    await zlogs.deprovision(of('zlogs', 'logs'))
    await machine.deprovision(vm)
    await network.deprovision(of('network', 'net'))
    await assertNothing(engine)
  })
}
