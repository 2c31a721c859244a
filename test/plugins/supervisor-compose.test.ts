import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { canonicalJson } from '../../plugins/supervisor/compose/canonical.ts'
import {
  type ContainerSpec,
  type CreationFacts,
  containerSpec,
} from '../../plugins/supervisor/compose/container.ts'
import type { ComposeContext, ImageFacts } from '../../plugins/supervisor/compose/context.ts'
import { desiredApp } from '../../plugins/supervisor/compose/desired.ts'
import { changedFields, readFields } from '../../plugins/supervisor/compose/identity.ts'
import { imageKey } from '../../plugins/supervisor/compose/image-key.ts'
import { FIELDS, HASH } from '../../plugins/supervisor/compose/label-names.ts'
import {
  containerName,
  isOldName,
  oldName,
  readContainerName,
  withoutOld,
} from '../../plugins/supervisor/compose/names.ts'
import { networkSpecs, volumeSpecs } from '../../plugins/supervisor/compose/objects.ts'
import {
  isSupervisorNetwork,
  supervisorNetworkBody,
} from '../../plugins/supervisor/compose/supervisor-network.ts'
import type { TargetApp } from '../../plugins/supervisor/target/model.ts'
import { parseLocalTarget } from '../../plugins/supervisor/target/parse.ts'

const CONTEXT: ComposeContext = {
  device: {
    uuid: 'd0d0',
    name: 'bench',
    hostname: 'bench-host',
    type: 'genericx86-64-ext',
    arch: 'amd64',
    osVersion: 'Test OS 1',
  },
  api: { port: 48484, keyOf: (appId, serviceName) => `key-of-${appId}-${serviceName}` },
  gateway: '10.114.104.1',
  lockRoot: '/tmp/locks',
  engineSocket: '/var/run/docker.sock',
  allowEngineSocket: false,
  hostHas: () => true,
}

const IMAGE: ImageFacts = {
  id: 'sha256:1234',
  env: ['PATH=/bin'],
  cmd: ['serve'],
  entrypoint: ['/entry'],
  labels: {},
  stopSignal: undefined,
  healthcheck: undefined,
}

/** An app of one service `main`, and perhaps a second one `db`. */
function appOf(fields: object = {}, second?: object, objects: object = {}): TargetApp {
  const service = (serviceName: string, own: object) => ({
    serviceName,
    imageId: 7,
    image: 'registry.test/x:1',
    environment: {},
    labels: {},
    ...own,
  })
  const { target } = parseLocalTarget({
    local: {
      apps: {
        5: {
          name: 'shop',
          commit: 'abc',
          releaseId: 9,
          services: {
            11: service('main', fields),
            ...(second ? { 12: service('db', second) } : {}),
          },
          ...objects,
        },
      },
    },
  })
  return target.apps[0] as TargetApp
}

function specOf(
  app: TargetApp,
  context: Partial<ComposeContext> = {},
  facts: Partial<CreationFacts> = {},
): ContainerSpec {
  const [service] = app.services
  assert.ok(service)
  return containerSpec(service, app, { ...CONTEXT, ...context }, { image: IMAGE, ...facts })
}

/** The create body with loose types, for looking into it. */
// biome-ignore lint/suspicious/noExplicitAny: members are looked at one by one
const bodyOf = (...args: Parameters<typeof specOf>): any => specOf(...args).create

const environmentOf = (...args: Parameters<typeof specOf>) =>
  Object.fromEntries(
    (bodyOf(...args).Env as string[]).map((entry) => {
      const equals = entry.indexOf('=')
      return [entry.slice(0, equals), entry.slice(equals + 1)]
    }),
  )

test('a service with nothing but an image gets every default of the specification', () => {
  const { name, create, connect, warnings, hash } = specOf(appOf())
  assert.equal(name, 'main_7_9_abc')
  assert.deepEqual([connect, warnings], [[], []])
  const { Labels, Env, ...rest } = create as Record<string, unknown>
  assert.deepEqual(rest, {
    Image: 'sha256:1234',
    Tty: true,
    Cmd: ['serve'],
    Entrypoint: ['/entry'],
    ExposedPorts: {},
    Volumes: {},
    StopTimeout: 10,
    Healthcheck: { Test: ['NONE'] },
    NetworkingConfig: { EndpointsConfig: { '5_default': { Aliases: ['main'] } } },
    HostConfig: {
      Binds: ['/tmp/locks/5/main:/tmp/balena', '/tmp/locks/5/main:/tmp/resin'],
      Mounts: [],
      NetworkMode: '5_default',
      PortBindings: {},
      RestartPolicy: { Name: 'always', MaximumRetryCount: 0 },
      IpcMode: 'shareable',
      ShmSize: 67_108_864,
    },
  })
  const labels = Labels as Record<string, string>
  assert.deepEqual(
    Object.entries(labels).filter(([label]) => label !== FIELDS),
    [
      ['io.balena.supervised', 'true'],
      ['io.balena.app-id', '5'],
      ['io.balena.app-uuid', '5'],
      ['io.balena.service-id', '11'],
      ['io.balena.service-name', 'main'],
      [HASH, hash],
      ['io.cvmd.supervisor.image', 'sha256:1234'],
    ],
  )
  assert.match(hash, /^[0-9a-f]{64}$/)
  const both = (pairs: Record<string, string>) =>
    Object.entries(pairs).flatMap(([key, value]) => [
      `BALENA_${key}=${value}`,
      `RESIN_${key}=${value}`,
    ])
  assert.deepEqual(
    Env,
    [
      'BALENA=1',
      'RESIN=1',
      'USER=root',
      'BALENA_SERVICE_HANDOVER_COMPLETE_PATH=/tmp/balena/handover-complete',
      'RESIN_SERVICE_KILL_ME_PATH=/tmp/balena/handover-complete',
      ...both({
        APP_ID: '5',
        APP_UUID: '5',
        APP_NAME: 'shop',
        SERVICE_NAME: 'main',
        DEVICE_UUID: 'd0d0',
        DEVICE_TYPE: 'genericx86-64-ext',
        DEVICE_ARCH: 'amd64',
        HOST_OS_VERSION: 'Test OS 1',
        APP_LOCK_PATH: '/tmp/balena/updates.lock',
        DEVICE_NAME_AT_INIT: 'bench',
      }),
    ].sort(),
  )
})

test('every field of a composition reaches its place in the create body', () => {
  const body = bodyOf(
    appOf(
      {
        command: 'a b',
        entrypoint: ['/e'],
        user: '1:1',
        working_dir: '/w',
        hostname: 'h',
        domainname: 'd.test',
        mac_address: '02:00:00:00:00:01',
        tty: false,
        init: true,
        privileged: true,
        read_only: true,
        restart: 'on-failure',
        stop_signal: 'SIGINT',
        stop_grace_period: '1m',
        cap_add: ['A'],
        cap_drop: ['B'],
        security_opt: ['no-new-privileges'],
        group_add: ['44'],
        devices: ['/dev/a:/dev/b:r'],
        dns: ['1.1.1.1'],
        dns_opt: ['ndots:1'],
        dns_search: ['test'],
        extra_hosts: ['a=10.0.0.1'],
        ports: ['127.0.0.1:8080:80', '9:9/udp', ':7'],
        volumes: ['data:/d:ro', '/anonymous', { type: 'tmpfs', target: '/t', tmpfs: { size: 1 } }],
        tmpfs: ['/run:size=1m'],
        sysctls: { a: 1 },
        ulimits: { nofile: { soft: 1, hard: 2 } },
        pid: 'host',
        ipc: 'private',
        userns_mode: 'host',
        cgroup_parent: 'x',
        pids_limit: 5,
        shm_size: '1m',
        mem_limit: '2m',
        mem_reservation: '1m',
        oom_kill_disable: true,
        oom_score_adj: 7,
        cpu_shares: 8,
        cpu_quota: 9,
        cpus: '1.5',
        cpuset: '0,1',
        networks: { front: { aliases: ['www'], ipv4_address: '10.1.0.2' }, back: null },
        labels: { 'io.balena.features.gpu': 'on' },
      },
      undefined,
      { networks: { front: {}, back: {} } },
    ),
  )
  const { HostConfig, NetworkingConfig, Labels: _, Env: __, ...rest } = body
  assert.deepEqual(rest, {
    Image: 'sha256:1234',
    Tty: false,
    Cmd: ['a', 'b'],
    Entrypoint: ['/e'],
    ExposedPorts: { '80/tcp': {}, '9/udp': {}, '7/tcp': {} },
    Volumes: { '/anonymous': {} },
    StopSignal: 'SIGINT',
    StopTimeout: 60,
    Hostname: 'h',
    Domainname: 'd.test',
    MacAddress: '02:00:00:00:00:01',
    User: '1:1',
    WorkingDir: '/w',
    Healthcheck: { Test: ['NONE'] },
  })
  assert.deepEqual(NetworkingConfig.EndpointsConfig, {
    '5_front': {
      Aliases: ['main', 'www'],
      IPAMConfig: { IPv4Address: '10.1.0.2' },
      MacAddress: '02:00:00:00:00:01',
    },
  })
  assert.deepEqual(HostConfig, {
    Binds: ['5_data:/d:ro', '/tmp/locks/5/main:/tmp/balena', '/tmp/locks/5/main:/tmp/resin'],
    Mounts: [{ Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 1 } }],
    NetworkMode: '5_front',
    PortBindings: {
      '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8080' }],
      '9/udp': [{ HostIp: '', HostPort: '9' }],
      '7/tcp': [{ HostIp: '', HostPort: '' }],
    },
    RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 0 },
    Tmpfs: { '/run': 'size=1m' },
    Devices: [{ PathOnHost: '/dev/a', PathInContainer: '/dev/b', CgroupPermissions: 'r' }],
    DeviceRequests: [{ Count: 1, Capabilities: [['gpu']] }],
    Privileged: true,
    ReadonlyRootfs: true,
    Init: true,
    CapAdd: ['A'],
    CapDrop: ['B'],
    SecurityOpt: ['no-new-privileges'],
    GroupAdd: ['44'],
    Dns: ['1.1.1.1'],
    DnsOptions: ['ndots:1'],
    DnsSearch: ['test'],
    ExtraHosts: ['a:10.0.0.1'],
    Sysctls: { a: '1' },
    Ulimits: [{ Name: 'nofile', Soft: 1, Hard: 2 }],
    PidMode: 'host',
    PidsLimit: 5,
    IpcMode: 'private',
    UsernsMode: 'host',
    CgroupParent: 'x',
    ShmSize: 1 << 20,
    Memory: 2 << 20,
    MemoryReservation: 1 << 20,
    OomKillDisable: true,
    OomScoreAdj: 7,
    CpuShares: 8,
    CpuQuota: 9,
    NanoCpus: 1_500_000_000,
    CpusetCpus: '0,1',
  })
})

test('further networks are connected after creation, the supervisor network last', () => {
  const app = appOf(
    { networks: ['front', 'back'], labels: { 'io.resin.features.supervisor-api': '1' } },
    undefined,
    { networks: { front: {}, back: {} } },
  )
  const { connect, create } = specOf(app)
  assert.deepEqual(connect, [
    { name: '5_back', endpoint: { Aliases: ['main'] } },
    { name: 'supervisor0', endpoint: {} },
  ])
  assert.deepEqual((create.HostConfig as Record<string, unknown>).NetworkMode, '5_front')
})

test('variables: the top counts before the composition, that before the supervisor, that before the image', () => {
  const app = appOf({
    environment: { A: 'top', BALENA_APP_NAME: 'mine' },
  })
  const [service] = app.services
  assert.ok(service)
  const composed = {
    ...app,
    services: [
      { ...service, composition: { environment: { A: 'composed', B: 'composed', USER: 'me' } } },
    ],
  }
  const { A, B, USER, BALENA_APP_NAME, RESIN_APP_NAME, PATH } = environmentOf(composed)
  assert.deepEqual(
    [A, B, USER, BALENA_APP_NAME, RESIN_APP_NAME, PATH],
    ['top', 'composed', 'me', 'mine', 'shop', undefined],
  )
})

test('the API label gives a key and an address, by the network the service is on', () => {
  const labels = { 'io.balena.features.supervisor-api': 'true' }
  const bridged = environmentOf(appOf({ labels }))
  assert.equal(bridged.BALENA_SUPERVISOR_API_KEY, 'key-of-5-main')
  assert.equal(bridged.RESIN_SUPERVISOR_API_KEY, 'key-of-5-main')
  assert.equal(bridged.BALENA_SUPERVISOR_ADDRESS, 'http://10.114.104.1:48484')
  assert.equal(bridged.BALENA_SUPERVISOR_HOST, '10.114.104.1')
  assert.equal(bridged.RESIN_SUPERVISOR_PORT, '48484')
  const hosted = environmentOf(appOf({ labels, network_mode: 'host' }))
  assert.equal(hosted.BALENA_SUPERVISOR_ADDRESS, 'http://127.0.0.1:48484')
  assert.deepEqual(specOf(appOf({ labels, network_mode: 'host' })).connect, [])
  assert.deepEqual(specOf(appOf({ labels, network_mode: 'none' })).connect, [])
  assert.equal(environmentOf(appOf()).BALENA_SUPERVISOR_API_KEY, undefined)
})

test('features that touch the host: given by label, and only what is there', () => {
  const labels = Object.fromEntries(
    ['dbus', 'journal-logs', 'kernel-modules', 'firmware', 'sysfs', 'procfs', 'extra-firmware'].map(
      (feature) => [`io.balena.features.${feature}`, '1'],
    ),
  )
  assert.deepEqual(bodyOf(appOf({ labels })).HostConfig.Binds.slice(0, -2), [
    '/run/dbus:/host/run/dbus',
    '/var/log/journal:/var/log/journal:ro',
    '/run/log/journal:/run/log/journal:ro',
    '/etc/machine-id:/etc/machine-id:ro',
    '/lib/modules:/lib/modules',
    '/lib/firmware:/lib/firmware',
    '/sys:/sys',
    '/proc:/proc',
    'extra-firmware:/extra-firmware',
  ])
  const bare = specOf(appOf({ labels }), { hostHas: (path) => path === '/sys' })
  assert.equal(bare.warnings.length, 7)
  const { Binds } = bare.create.HostConfig as { Binds: string[] }
  assert.deepEqual(Binds.slice(0, -2), ['/sys:/sys', 'extra-firmware:/extra-firmware'])
})

test("the engine's socket only where it is allowed, the device's key only where there is one", () => {
  const labels = { 'io.balena.features.balena-socket': '1', 'io.balena.features.balena-api': '1' }
  const refused = specOf(appOf({ labels }))
  assert.equal(refused.warnings.length, 2)
  assert.ok(!JSON.stringify(refused.create).includes('docker.sock'))
  assert.equal(environmentOf(appOf({ labels })).DOCKER_HOST, undefined)
  const given: Partial<ComposeContext> = {
    allowEngineSocket: true,
    balenaApi: { url: 'https://api.test', key: 'k3y' },
  }
  const environment = environmentOf(appOf({ labels }), given)
  assert.equal(environment.DOCKER_HOST, 'unix:///host/run/balena-engine.sock')
  assert.equal(environment.BALENA_API_KEY, 'k3y')
  assert.equal(environment.RESIN_API_URL, 'https://api.test')
  assert.deepEqual(bodyOf(appOf({ labels }), given).HostConfig.Binds.slice(0, 3), [
    '/var/run/docker.sock:/host/run/balena-engine.sock',
    '/var/run/docker.sock:/var/run/docker.sock',
    '/var/run/docker.sock:/var/run/balena.sock',
  ])
  const mine = environmentOf(appOf({ labels, environment: { DOCKER_HOST: 'mine' } }), given)
  assert.equal(mine.DOCKER_HOST, 'mine')
})

test('network modes', () => {
  const host = bodyOf(appOf({ network_mode: 'host' }))
  assert.deepEqual([host.HostConfig.NetworkMode, host.Hostname], ['host', 'bench-host'])
  assert.equal(bodyOf(appOf({ network_mode: 'host', hostname: 'x' })).Hostname, 'x')
  const nameless = { ...CONTEXT, device: { ...CONTEXT.device, hostname: '' } }
  assert.equal(bodyOf(appOf({ network_mode: 'host' }), nameless).Hostname, undefined)
  assert.equal(bodyOf(appOf({ network_mode: 'none' })).HostConfig.NetworkMode, 'none')
  assert.deepEqual(bodyOf(appOf({ network_mode: 'bridge' })).NetworkingConfig, {
    EndpointsConfig: {},
  })
  const sharing = appOf(
    { network_mode: 'service:db', hostname: 'h', ports: ['1:1'], dns: '::1' },
    {},
  )
  assert.throws(() => specOf(sharing), TypeError)
  const shared = bodyOf(sharing, {}, { networkContainer: 'c0de' })
  assert.equal(shared.HostConfig.NetworkMode, 'container:c0de')
  assert.equal(shared.Labels['io.cvmd.supervisor.network-of'], 'c0de')
  // The engine refuses these together with the network of another container.
  assert.deepEqual([shared.Hostname, shared.HostConfig.Dns], [undefined, undefined])
  assert.deepEqual(shared.HostConfig.PortBindings, {})
})

test("health checks: the image's, overlaid; an image's command and entrypoint are written out", () => {
  const healthcheck = { Test: ['CMD', 'x'], Interval: 5e9, Retries: 2 }
  const image = { ...IMAGE, healthcheck }
  assert.deepEqual(bodyOf(appOf(), {}, { image }).Healthcheck, healthcheck)
  const overlaid = appOf({ healthcheck: { interval: '1s', timeout: '2s' } })
  assert.deepEqual(bodyOf(overlaid, {}, { image }).Healthcheck, {
    ...healthcheck,
    Interval: 1e9,
    Timeout: 2e9,
  })
  assert.deepEqual(bodyOf(overlaid).Healthcheck, { Test: ['NONE'] })
  const empty = { ...IMAGE, cmd: [], entrypoint: [] }
  const { Cmd, Entrypoint } = bodyOf(appOf({ command: 'x' }), {}, { image: empty })
  assert.deepEqual([Cmd, Entrypoint], [['x'], undefined])
})

const hashOf = (app: TargetApp, context: Partial<ComposeContext> = {}) => specOf(app, context).hash

test('what is no part of the identity: release, commit, running, device name, image facts', () => {
  const app = appOf()
  const [service] = app.services
  assert.ok(service)
  const hash = hashOf(app)
  assert.equal(hashOf({ ...app, commit: 'other', releaseId: 99 }), hash)
  assert.equal(hashOf({ ...app, services: [{ ...service, running: false, imageId: 8 }] }), hash)
  assert.equal(hashOf(app, { device: { ...CONTEXT.device, name: 'renamed' } }), hash)
  assert.equal(specOf(app, {}, { image: { ...IMAGE, id: 'sha256:x', cmd: ['y'] } }).hash, hash)
  assert.equal(specOf(app, { maskKey: new Uint8Array(32).fill(1) }).hash, hash)
  const [desired] = desiredApp(app, CONTEXT).services
  assert.deepEqual([desired?.hash, desired?.name], [hash, 'main_7_9_abc'])
})

const labelFields = (app: TargetApp, context: Partial<ComposeContext> = {}) =>
  readFields(bodyOf(app, context).Labels[FIELDS])

test('what changed is named by field, and no value is in the label', () => {
  const secret = 'hunter2hunter2'
  const before = appOf({ environment: { LOG_LEVEL: 'info', GONE: '1', SECRET: secret } })
  const after = appOf({
    environment: { LOG_LEVEL: 'debug', NEW: '1', SECRET: secret },
    image: 'registry.test/x:2',
    labels: { mine: '1' },
    cap_add: ['NET_ADMIN'],
  })
  assert.notEqual(hashOf(before), hashOf(after))
  assert.deepEqual(changedFields(labelFields(before), labelFields(after)), [
    'cap_add',
    'environment.GONE',
    'environment.LOG_LEVEL',
    'environment.NEW',
    'image',
    'labels.mine',
  ])
  assert.ok(!JSON.stringify(bodyOf(before).Labels).includes(secret))
  assert.deepEqual(changedFields(undefined, labelFields(after)), ['configuration'])
  for (const bad of [undefined, '', '5', 'null', '[]', '{']) {
    assert.equal(readFields(bad), undefined)
  }
  assert.deepEqual(readFields('{"a":1,"b":"c"}'), { b: 'c' })
})

test('equal values are masked differently by field and by key', () => {
  const fields = labelFields(appOf({ environment: { A: 'same', B: 'same' } })) ?? {}
  assert.notEqual(fields['environment.A'], fields['environment.B'])
  const keyed = labelFields(appOf({ environment: { A: 'same' } }), {
    maskKey: new Uint8Array(32).fill(7),
  })
  assert.notEqual(keyed?.['environment.A'], fields['environment.A'])
  assert.match(fields['environment.A'] ?? '', /^[0-9a-f]{16}$/)
})

test('any change of what is asked for changes the hash, and names its field', () => {
  const fields = {
    command: 'x',
    user: 'u',
    tty: false,
    restart: 'no',
    ports: ['1:1'],
    volumes: ['data:/d'],
    network_mode: 'host',
    shm_size: '1m',
    healthcheck: { interval: '1s' },
    ulimits: { core: 1 },
    cpus: 1,
  }
  const base = appOf()
  for (const [name, value] of Object.entries(fields)) {
    const changed = appOf({ [name]: value })
    assert.notEqual(hashOf(changed), hashOf(base), name)
    assert.ok(changedFields(labelFields(base), labelFields(changed)).includes(name), name)
  }
  const defaults = { tty: true, restart: 'always', shm_size: '64m', stop_grace_period: '10s' }
  assert.equal(hashOf(appOf(defaults)), hashOf(base), 'a default that is written out is none')
  const keys = { keyOf: () => 'new', port: 48484 }
  const labels = { 'io.balena.features.supervisor-api': '1' }
  assert.notEqual(hashOf(appOf({ labels }), { api: keys }), hashOf(appOf({ labels })))
  assert.equal(hashOf(base, { api: keys }), hashOf(base))
})

test('the hash does not depend on the order of members', () => {
  const shuffle = (object: unknown, order: readonly number[]): unknown => {
    if (Array.isArray(object)) return object.map((one) => shuffle(one, order))
    if (typeof object !== 'object' || object === null) return object
    const entries = Object.entries(object).map(([key, value]) => [key, shuffle(value, order)])
    const ranked = entries.map((entry, index) => [order[index % order.length] ?? 0, entry] as const)
    return Object.fromEntries(ranked.sort((a, b) => a[0] - b[0]).map(([, entry]) => entry))
  }
  fc.assert(
    fc.property(fc.jsonValue(), fc.array(fc.nat(), { minLength: 1 }), (value, order) => {
      assert.equal(canonicalJson(shuffle(value, order)), canonicalJson(value))
      assert.deepEqual(JSON.parse(canonicalJson(value)), JSON.parse(JSON.stringify(value)))
    }),
  )
})

test('container names are written and read back; old ones are known by their service', () => {
  fc.assert(
    fc.property(
      fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}$/),
      fc.nat(),
      fc.nat(),
      fc.stringMatching(/^[a-f0-9]{1,40}$/),
      (serviceName, imageId, releaseId, commit) => {
        const name = containerName({ serviceName, imageId }, { releaseId, commit })
        // A commit of digits alone can be read in two ways (spec §13.1).
        if (!/^\d+$/.test(commit)) {
          assert.deepEqual(readContainerName(name), { imageId, releaseId, commit })
        }
        assert.ok(isOldName(oldName(name), serviceName))
        assert.ok(!isOldName(name, serviceName) || serviceName.startsWith('old_'))
        assert.equal(withoutOld(oldName(name)), name)
      },
    ),
  )
  assert.equal(readContainerName('main'), undefined)
  assert.deepEqual(readContainerName('a_1_2'), { imageId: 1, releaseId: 2, commit: undefined })
  assert.ok(!isOldName('old_main_1_2_c', 'old_main'))
})

test('references to one image have one key', () => {
  const digest = `sha256:${'0'.repeat(64)}`
  const same = [
    ['busybox', 'docker.io/library/busybox:latest'],
    ['team/x:1', 'docker.io/team/x:1'],
    ['localhost/mine:1', 'mine:1'],
    [`registry.test:5000/x:1@${digest}`, `registry.test:5000/x@${digest}`],
  ] as const
  for (const [one, other] of same) assert.equal(imageKey(one), imageKey(other))
  assert.equal(imageKey('registry.test:5000/x'), 'registry.test:5000/x:latest')
  assert.notEqual(imageKey('a:1'), imageKey('a:2'))
})

test('networks: a default one always, names by UUID, hashes by what is asked for', () => {
  const [only, ...none] = networkSpecs(appOf())
  assert.deepEqual(none, [])
  assert.equal(only?.name, '5_default')
  assert.deepEqual(only?.create, {
    Name: '5_default',
    CheckDuplicate: true,
    Driver: 'bridge',
    Internal: false,
    EnableIPv6: false,
    IPAM: { Driver: 'default', Config: [] },
    Options: {},
    Labels: {
      'io.balena.supervised': 'true',
      'io.balena.app-id': '5',
      'io.balena.app-uuid': '5',
      [HASH]: only?.hash,
    },
  })
  const front = {
    driver_opts: { a: 1 },
    internal: true,
    enable_ipv6: true,
    labels: { mine: 'x' },
    ipam: {
      driver: 'default',
      config: [
        { subnet: '10.1.0.0/16', gateway: '10.1.0.1', ip_range: '10.1.2.0/24' },
        { aux_addresses: { a: '10.1.0.9' } },
      ],
    },
  }
  const specs = networkSpecs(appOf({}, undefined, { networks: { front } }))
  assert.deepEqual(
    specs.map(({ name, shortName }) => [name, shortName]),
    [
      ['5_default', 'default'],
      ['5_front', 'front'],
    ],
  )
  const create = specs[1]?.create as Record<string, Record<string, unknown>>
  assert.deepEqual(create.IPAM, {
    Driver: 'default',
    Config: [
      { Subnet: '10.1.0.0/16', Gateway: '10.1.0.1', IPRange: '10.1.2.0/24' },
      { AuxiliaryAddresses: { a: '10.1.0.9' } },
    ],
  })
  assert.equal(create.Labels?.['io.balena.private.ipam.config'], 'true')
  assert.deepEqual([create.Options, create.Internal], [{ a: '1' }, true])
  const changed = networkSpecs(appOf({}, undefined, { networks: { front: { internal: true } } }))
  assert.notEqual(changed[1]?.hash, specs[1]?.hash)
  const written = networkSpecs(
    appOf({}, undefined, { networks: { default: { driver: 'bridge' } } }),
  )
  assert.equal(written[0]?.hash, only?.hash)
})

test('where every service is on the network of the host, the default one is a configuration', () => {
  const create = (app: TargetApp) => networkSpecs(app)[0]?.create
  assert.equal(create(appOf({ network_mode: 'host' }, { network_mode: 'host' }))?.ConfigOnly, true)
  assert.equal(create(appOf({ network_mode: 'host' }, {}))?.ConfigOnly, undefined)
})

test('volumes: names by app id; labels are no change', () => {
  const volumes = { data: { driver_opts: { type: 'tmpfs' }, labels: { mine: '1' } } }
  const [spec] = volumeSpecs(appOf({}, undefined, { volumes }))
  assert.deepEqual(spec?.create, {
    Name: '5_data',
    Driver: 'local',
    DriverOpts: { type: 'tmpfs' },
    Labels: {
      mine: '1',
      'io.balena.supervised': 'true',
      'io.balena.app-id': '5',
      'io.balena.app-uuid': '5',
      [HASH]: spec?.hash,
    },
  })
  const unlabelled = { data: { driver_opts: { type: 'tmpfs' } } }
  assert.equal(volumeSpecs(appOf({}, undefined, { volumes: unlabelled }))[0]?.hash, spec?.hash)
  assert.notEqual(volumeSpecs(appOf({}, undefined, { volumes: { data: {} } }))[0]?.hash, spec?.hash)
})

test('labels of a user cannot take the place of ours', () => {
  const labels = {
    [HASH]: 'x',
    [FIELDS]: '{}',
    'io.balena.app-id': '99',
    'io.resin.supervised': '',
  }
  const { Labels } = bodyOf(appOf({ labels }))
  assert.match(Labels[HASH], /^[0-9a-f]{64}$/)
  assert.notEqual(Labels[FIELDS], '{}')
  assert.deepEqual([Labels['io.balena.app-id'], Labels['io.balena.supervised']], ['5', 'true'])
})

test('the supervisor network, and how it is known', () => {
  const { IPAM, Options } = supervisorNetworkBody() as Record<string, Record<string, unknown>>
  assert.deepEqual(IPAM?.Config, [{ Subnet: '10.114.104.0/25', Gateway: '10.114.104.1' }])
  assert.deepEqual(Options, { 'com.docker.network.bridge.name': 'supervisor0' })
  assert.ok(isSupervisorNetwork([{ Subnet: '10.114.104.0/25', Gateway: '10.114.104.1' }]))
  assert.ok(!isSupervisorNetwork([{ Subnet: '10.114.104.0/24', Gateway: '10.114.104.1' }]))
  assert.ok(!isSupervisorNetwork([]))
})

test('the desired state: strategies, time-outs, relations', () => {
  const labels = {
    'io.balena.update.strategy': 'hand-over',
    'io.resin.update.handover-timeout': '5000',
    'io.balena.update.requires-reboot': '1',
    'io.balena.features.supervisor-api': '1',
  }
  const app = appOf({ labels, volumes: ['data:/a', 'data:/b'], network_mode: 'service:db' }, {})
  const { services, networks, volumes, commit } = desiredApp(app, CONTEXT)
  const [main, db] = services
  assert.deepEqual(
    [main?.strategy, main?.handoverTimeoutMs, main?.requiresReboot, main?.networkOf],
    ['hand-over', 5000, true, 'db'],
  )
  assert.deepEqual([main?.volumes, main?.networks], [['5_data'], []])
  assert.equal(main?.usesSupervisorNetwork, false)
  assert.deepEqual(
    [db?.strategy, db?.handoverTimeoutMs, db?.networks],
    ['download-then-kill', 60_000, ['5_default']],
  )
  assert.deepEqual([networks.length, volumes.length, commit], [1, 1, 'abc'])
  const odd = { 'io.balena.update.strategy': 'x', 'io.balena.update.handover-timeout': '-1' }
  const [plain] = desiredApp(appOf({ labels: odd }), CONTEXT).services
  assert.deepEqual([plain?.strategy, plain?.handoverTimeoutMs], ['download-then-kill', 60_000])
})

test('a host app: only what is meant for containers', () => {
  const overlay = { labels: { 'io.balena.image.class': 'overlay' } }
  const app = { ...appOf(overlay, {}), isHost: true }
  assert.deepEqual(
    desiredApp(app, CONTEXT).services.map(({ serviceName }) => serviceName),
    ['db'],
  )
  assert.equal(desiredApp({ ...app, isHost: false }, CONTEXT).services.length, 2)
})
