import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { applyContracts, type ContractFacts } from '../../plugins/supervisor/target/contracts.ts'
import { TargetError } from '../../plugins/supervisor/target/error.ts'
import { localState } from '../../plugins/supervisor/target/local-state.ts'
import type { Target, TargetService } from '../../plugins/supervisor/target/model.ts'
import {
  type ParseOptions,
  parseCloudTarget,
  parseLocalTarget,
  parsePreloaded,
} from '../../plugins/supervisor/target/parse.ts'
import { effectiveConfig, readSettings } from '../../plugins/supervisor/target/settings.ts'

const UUID = 'a'.repeat(32)
const APP = 'b0b0'
const DIGEST = `registry.test/web@sha256:${'0'.repeat(64)}`

const cloudService = (changes: object = {}) => ({
  id: 11,
  image_id: 2001,
  image: DIGEST,
  environment: {},
  labels: {},
  ...changes,
})

const cloud = (release: object, appChanges: object = {}) => ({
  [UUID]: {
    name: 'device',
    config: {},
    apps: { [APP]: { id: 101, name: 'solo', releases: { c0ffee: release }, ...appChanges } },
  },
})

const localService = (changes: object = {}) => ({
  serviceName: 'main',
  serviceId: 1,
  imageId: 7,
  image: 'busybox',
  environment: {},
  labels: {},
  ...changes,
})

const local = (services: object, appChanges: object = {}) => ({
  local: {
    name: 'bench',
    config: {},
    apps: { 1: { name: 'app', commit: 'localrelease', releaseId: '1', services, ...appChanges } },
  },
})

const parsedService = (changes: object, options?: ParseOptions) =>
  parseLocalTarget(local({ 1: localService(changes) }), options).target.apps[0]
    ?.services[0] as TargetService

const warningsOf = (changes: object) =>
  parseLocalTarget(local({ 1: localService(changes) })).warnings.map(
    ({ path, message }) => `${path.replace('local.apps.1.services.1.', '')} ${message}`,
  )

function failure(work: () => unknown): TargetError {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof TargetError, String(error))
    assert.equal(error.code, 'TARGET_INVALID')
    return error
  }
  assert.fail('nothing was refused')
}

const paths = (work: () => unknown) => failure(work).issues.map(({ path }) => path)

test('a v3 target: the part of this device, its first release, in one form', () => {
  const release = {
    id: '1001',
    services: {
      main: cloudService({
        id: '11',
        running: false,
        environment: { A: 'b' },
        labels: { 'io.resin.features.dbus': '1', other: 'resin' },
        composition: { cap_add: ['NET_ADMIN'], depends_on: ['db'] },
      }),
      db: cloudService({ id: 12, image_id: 2002 }),
    },
    volumes: { data: {} },
    networks: { front: { driver: 'bridge' } },
  }
  const { target, warnings } = parseCloudTarget(cloud(release, { is_host: true }), UUID)
  assert.deepEqual(warnings, [])
  const expected: Target = {
    deviceName: 'device',
    config: {},
    apps: [
      {
        appId: 101,
        uuid: APP,
        name: 'solo',
        class: 'fleet',
        isHost: true,
        parentApp: undefined,
        commit: 'c0ffee',
        releaseId: 1001,
        services: [
          {
            serviceName: 'main',
            serviceId: 11,
            imageId: 2001,
            image: DIGEST,
            running: false,
            environment: { A: 'b' },
            labels: { 'io.balena.features.dbus': '1', other: 'resin' },
            composition: { cap_add: ['NET_ADMIN'] },
            dependsOn: [{ serviceName: 'db', condition: 'started' }],
            optional: false,
            contract: undefined,
          },
          {
            serviceName: 'db',
            serviceId: 12,
            imageId: 2002,
            image: DIGEST,
            running: true,
            environment: {},
            labels: {},
            composition: {},
            dependsOn: [],
            optional: false,
            contract: undefined,
          },
        ],
        networks: { front: { driver: 'bridge' } },
        volumes: { data: {} },
        rejected: undefined,
      },
    ],
  }
  assert.deepEqual(target, expected)
})

test('a v2 target: the UUID is the app id, other members of a service are its composition', () => {
  const { target } = parseLocalTarget({
    ...local({
      1: localService({ cap_add: ['SYS_TIME'], depends_on: { db: {} }, releaseId: 1, appId: 1 }),
      2: localService({ serviceName: 'db', serviceId: undefined }),
    }),
    force: true,
  })
  const [app] = target.apps
  assert.equal(target.deviceName, 'bench')
  assert.deepEqual([app?.appId, app?.uuid, app?.class], [1, '1', 'fleet'])
  assert.deepEqual([app?.commit, app?.releaseId], ['localrelease', 1])
  assert.deepEqual(
    app?.services.map(({ serviceName, serviceId }) => [serviceName, serviceId]),
    [
      ['main', 1],
      ['db', 2],
    ],
  )
  assert.deepEqual(app?.services[0]?.composition, { cap_add: ['SYS_TIME'] })
  assert.deepEqual(app?.services[0]?.dependsOn, [{ serviceName: 'db', condition: 'started' }])
})

test('a v2 target without name, configuration or release', () => {
  const { target } = parseLocalTarget({ local: { apps: { 5: { name: 'empty' } } } })
  assert.equal(target.deviceName, undefined)
  assert.deepEqual(target.config, {})
  assert.deepEqual(
    [target.apps[0]?.commit, target.apps[0]?.releaseId, target.apps[0]?.services],
    [undefined, undefined, []],
  )
})

test('every problem is named by its path, all of them together, and no value is quoted', () => {
  const secret = 'hunter2hunter2'
  const release = {
    id: -1,
    services: {
      'bad name': cloudService(),
      main: cloudService({
        id: '1.5',
        image: `${secret} !`,
        running: secret,
        environment: { '1X': 'a', OK: 5, NUL: `${secret}\0` },
        labels: { 'quo"te': 'x', fine: null },
      }),
      lost: { image: DIGEST },
      nothing: null,
    },
    volumes: { '-x': {} },
    networks: [],
  }
  const target = cloud(release, { name: 'two\nlines', class: 'beast' })
  const { issues, message } = failure(() => parseCloudTarget(target, UUID))
  const app = `${UUID}.apps.${APP}`
  const services = `${app}.releases.c0ffee.services`
  assert.deepEqual(
    issues.map(({ path }) => path).sort(),
    [
      `${app}.class`,
      `${app}.name`,
      `${app}.releases.c0ffee.id`,
      `${app}.releases.c0ffee.networks`,
      `${services}.bad name`,
      `${services}.lost.environment`,
      `${services}.lost.id`,
      `${services}.lost.image_id`,
      `${services}.lost.labels`,
      `${services}.main.environment.1X`,
      `${services}.main.environment.NUL`,
      `${services}.main.environment.OK`,
      `${services}.main.id`,
      `${services}.main.image`,
      `${services}.main.labels.fine`,
      `${services}.main.labels.quo"te`,
      `${services}.main.running`,
      `${services}.nothing`,
      `${app}.releases.c0ffee.volumes.-x`,
    ].sort(),
  )
  assert.ok(!JSON.stringify([issues, message]).includes(secret))
  assert.match(message, /and 14 more$/)
})

test('a target that is not for this device, or names an app twice', () => {
  assert.deepEqual(
    paths(() => parseCloudTarget(cloud({}), 'f'.repeat(32))),
    [''],
  )
  assert.deepEqual(
    paths(() => parseCloudTarget(cloud({}), '__proto__')),
    [''],
  )
  const device = (apps: object) => ({ [UUID]: { name: 'd', config: {}, apps } })
  const app = { id: 1, name: 'x', releases: {} }
  assert.deepEqual(
    paths(() => parseCloudTarget(device({ aa: app, bb: app }), UUID)),
    [`${UUID}.apps.bb`],
  )
  assert.deepEqual(
    paths(() => parseCloudTarget(device({ 'not-hex': app }), UUID)),
    [`${UUID}.apps.not-hex`],
  )
  assert.deepEqual(
    paths(() => parseLocalTarget({ local: { apps: { 1: null } } })),
    ['local.apps.1'],
  )
})

test('several releases: the first is used, and a warning says so', () => {
  const releases = { first: { id: 1, services: {} }, second: { id: 2 } }
  const { target, warnings } = parseCloudTarget(cloud({}, { releases }), UUID)
  assert.equal(target.apps[0]?.commit, 'first')
  assert.deepEqual(
    warnings.map(({ path }) => path),
    [`${UUID}.apps.${APP}.releases`],
  )
})

test('strict mode refuses what would be left out, by name', () => {
  const target = local({ 1: localService({ secrets: ['x'], volumes: ['/etc:/etc'] }) })
  const { warnings } = parseLocalTarget(target)
  const error = failure(() => parseLocalTarget(target, { strict: true }))
  assert.deepEqual(error.issues, [])
  assert.deepEqual(error.dropped, warnings)
  assert.deepEqual(
    error.dropped.map(({ path }) => path),
    ['local.apps.1.services.1.secrets', 'local.apps.1.services.1.volumes.0'],
  )
})

test('images by digest only', () => {
  const options = { requireDigest: true }
  const target = local({
    1: localService(),
    2: localService({ serviceName: 'b', image: 'b:1' }),
    3: localService({ serviceName: 'c', image: DIGEST }),
  })
  assert.deepEqual(
    paths(() => parseLocalTarget(target, options)),
    ['local.apps.1.services.1.image', 'local.apps.1.services.2.image'],
  )
})

test('dependencies: circles are refused, unknown services forgotten', () => {
  const circle = local({
    1: localService({ depends_on: ['b'] }),
    2: localService({ serviceName: 'b', network_mode: 'service:c' }),
    3: localService({ serviceName: 'c', depends_on: { main: { condition: 'service_healthy' } } }),
  })
  const [issue] = failure(() => parseLocalTarget(circle)).issues
  assert.equal(issue?.path, 'local.apps.1.services.1.depends_on')
  assert.match(issue?.message ?? '', /main -> b -> c -> main/)
  const self = local({ 1: localService({ depends_on: ['main'] }) })
  assert.deepEqual(
    paths(() => parseLocalTarget(self)),
    ['local.apps.1.services.1.depends_on'],
  )
  for (const name of ['x', { toString: [] }]) {
    const unknown = parseLocalTarget(local({ 1: localService({ depends_on: [name] }) }))
    assert.deepEqual(unknown.target.apps[0]?.services[0]?.dependsOn, [])
    assert.equal(unknown.warnings.length, 1)
  }
  const lost = local({ 1: localService({ network_mode: 'service:x' }) })
  assert.deepEqual(
    paths(() => parseLocalTarget(lost)),
    ['local.apps.1.services.1.network_mode'],
  )
})

test('a long chain of dependencies is walked without a deep stack', () => {
  const services = Array.from({ length: 512 }, (_, index) =>
    localService({
      serviceName: `s${index}`,
      depends_on: index === 511 ? [] : [`s${index + 1}`],
    }),
  )
  const { target } = parseLocalTarget(local({ ...services }))
  assert.equal(target.apps[0]?.services.length, 512)
  assert.deepEqual(
    paths(() => parseLocalTarget(local({ ...services, 600: localService() }))),
    ['local.apps.1.services'],
  )
})

test('two services of one name', () => {
  assert.deepEqual(
    paths(() => parseLocalTarget(local({ 1: localService(), 2: localService() }))),
    ['local.apps.1.services.2'],
  )
})

test('a volume that only a service names is one of the app; such a network is left out', () => {
  const { target, warnings } = parseLocalTarget(
    local(
      { 1: localService({ volumes: ['data:/data'], networks: ['front', 'default', 'no'] }) },
      { networks: { front: null }, volumes: null },
    ),
  )
  assert.deepEqual(target.apps[0]?.volumes, { data: {} })
  assert.deepEqual(target.apps[0]?.services[0]?.composition.networks, { front: {}, default: {} })
  assert.deepEqual(
    warnings.map(({ path }) => path),
    ['local.apps.1.services.1.networks.no'],
  )
})

const FACTS: ContractFacts = {
  'sw.supervisor': { version: '19.0.5' },
  'sw.kernel': { version: '5.10.104-tegra' },
  'hw.device-type': { slug: 'genericx86-64-ext' },
  'arch.sw': { slug: 'amd64' },
}

const withContract = (requires: unknown, changes: object = {}) =>
  parseLocalTarget(
    local({
      1: localService({ contract: { requires }, ...changes }),
      2: localService({ serviceName: 'b', depends_on: ['main'] }),
      3: localService({ serviceName: 'c' }),
    }),
  ).target

test('contracts: an unmet one rejects the app, or leaves out a service that is optional', () => {
  const met = [
    { type: 'sw.supervisor', version: '>=10 <20' },
    { type: 'sw.kernel', version: '~5.10.0' },
    {
      or: [
        { type: 'arch.sw', slug: 'aarch64' },
        { type: 'arch.sw', slug: 'amd64' },
      ],
    },
  ]
  const fine = withContract(met)
  assert.deepEqual(applyContracts(fine, FACTS), fine)
  for (const unmet of [
    { type: 'sw.supervisor', version: '>=20' },
    { type: 'sw.l4t', version: '*' },
    { type: 'sw.made-up' },
    { type: 'toString' },
    { type: 'hw.device-type', slug: 'raspberrypi' },
    { or: [] },
  ]) {
    const [app] = applyContracts(withContract([...met, unmet]), FACTS).apps
    assert.match(app?.rejected ?? '', /service main requires/)
    assert.equal(app?.services.length, 3)
    const labels = { 'io.resin.features.optional': 'True' }
    const [partly] = applyContracts(withContract([unmet], { labels }), FACTS).apps
    assert.equal(partly?.rejected, undefined)
    assert.deepEqual(
      partly?.services.map(({ serviceName, dependsOn }) => [serviceName, dependsOn]),
      [
        ['b', []],
        ['c', []],
      ],
    )
  }
  assert.deepEqual(
    paths(() => withContract('x')),
    ['local.apps.1.services.1.contract.requires'],
  )
  assert.deepEqual(
    paths(() => withContract([{ type: 5 }, { type: 'x', version: 1 }])),
    [
      'local.apps.1.services.1.contract.requires.0.type',
      'local.apps.1.services.1.contract.requires.1.version',
    ],
  )
})

test('apps.json: by UUID, by number, and the oldest list', () => {
  const app = { id: 101, name: 'a', releases: { c1: { id: 1, services: { m: cloudService() } } } }
  const newest = parsePreloaded({ config: { A: 'b' }, apps: { [APP]: app }, pinDevice: true })
  assert.equal(newest.pinDevice, true)
  assert.deepEqual(newest.target.config, { A: 'b' })
  assert.equal(newest.target.apps[0]?.uuid, APP)
  const numbered = parsePreloaded({
    apps: { 7: { name: 'a', commit: 'c', releaseId: 3, services: { 1: localService() } } },
  })
  assert.deepEqual([numbered.pinDevice, numbered.target.apps[0]?.appId], [false, 7])
  const oldest = parsePreloaded([
    { appId: 9, commit: 'c', imageId: 'registry.test/x', env: { K: 'v' }, config: { A: 'b' } },
  ])
  const service = oldest.target.apps[0]?.services[0]
  assert.deepEqual(oldest.target.config, { A: 'b' })
  assert.deepEqual(
    [service?.image, service?.environment, service?.composition.privileged],
    ['registry.test/x', { K: 'v' }, true],
  )
  assert.deepEqual(
    paths(() => parsePreloaded({ apps: { 1: { name: 'x' } } })),
    ['apps.1'],
  )
  assert.deepEqual(
    paths(() => parsePreloaded([null])),
    ['apps'],
  )
})

test('configuration variables: prefixes go, defaults come, what is not valid is not used', () => {
  const settings = readSettings({
    RESIN_SUPERVISOR_LOCAL_MODE: 'on',
    BALENA_SUPERVISOR_POLL_INTERVAL: '60000',
    SUPERVISOR_API_REQUEST_TIMEOUT: '-4',
    OVERRIDE_LOCK: '1',
    SUPERVISOR_INSTANT_UPDATE_TRIGGER: 'banana',
  })
  assert.deepEqual(settings, {
    pollIntervalMs: 60_000,
    instantUpdates: true,
    localMode: true,
    connectivityCheck: true,
    logControl: true,
    apiRequestTimeoutMs: 59_000,
    overrideLock: true,
    persistentLogging: false,
    vpnControl: true,
    hardwareMetrics: true,
  })
  const effective = effectiveConfig({ HOST_FIREWALL_MODE: 'auto', MINE: 'x' })
  assert.equal(effective.HOST_FIREWALL_MODE, 'auto')
  assert.equal(effective.MINE, 'x')
  assert.equal(effective.SUPERVISOR_DELTA, 'false')
  assert.equal(Object.keys(effective).length, 19)
})

test('the target as it is shown: internal objects, and only the apps that may be seen', () => {
  const { target } = parseLocalTarget({
    local: {
      apps: {
        1: { name: 'a', commit: 'c', releaseId: 5, services: { 1: localService() } },
        2: { name: 'b' },
      },
    },
  })
  const shown = localState(target, {
    deviceName: 'here',
    sourceOf: () => 'local',
    visible: ({ appId }) => appId === 1,
  })
  assert.equal(shown.local.name, 'here')
  assert.equal(shown.local.config.SUPERVISOR_LOCAL_MODE, 'false')
  assert.deepEqual(shown.local.apps, {
    1: {
      appId: 1,
      appUuid: '1',
      appName: 'a',
      commit: 'c',
      source: 'local',
      isHost: false,
      isRejected: false,
      volumes: [],
      networks: [],
      services: [
        {
          appId: 1,
          appUuid: '1',
          serviceName: 'main',
          serviceId: 1,
          imageId: 7,
          imageName: 'busybox',
          releaseId: 5,
          commit: 'c',
          dependsOn: [],
          config: { image: 'busybox', running: true, environment: {}, labels: {} },
        },
      ],
    },
  })
})

test('what is counted has a limit, and what is reported too', () => {
  const many = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`V${index}`, 'x']))
  assert.deepEqual(
    paths(() => parsedService({ environment: many })),
    ['local.apps.1.services.1.environment'],
  )
  const bad = Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`V${index}`, 1]))
  assert.equal(failure(() => parsedService({ environment: bad })).issues.length, 100)
  const apps = Object.fromEntries(Array.from({ length: 65 }, (_, id) => [id, { name: 'x' }]))
  assert.deepEqual(
    paths(() => parseLocalTarget({ local: { apps } })),
    ['local.apps'],
  )
  const odd = Object.fromEntries(Array.from({ length: 900 }, (_, index) => [`odd${index}`, 1]))
  assert.equal(warningsOf(odd).length, 100)
})

/** Replaces one place of a good target by anything. */
const spoiled = fc
  .tuple(
    fc.constantFrom<object>(
      local({
        1: localService({
          volumes: ['data:/data', { type: 'tmpfs', target: '/t', tmpfs: { size: '1m' } }],
          ports: ['80-81:90-91/udp'],
          healthcheck: { test: 'true', interval: '1s' },
          networks: { front: { aliases: ['x'] } },
          ulimits: { nofile: { soft: 1, hard: 2 } },
          depends_on: { main: {} },
          contract: { requires: [{ or: [{ type: 'x' }] }] },
          devices: ['/dev/x:/dev/y:r'],
          command: 'a b',
        }),
      }),
      cloud({ id: 1, services: { a: cloudService({ composition: { command: 'x' } }) } }),
    ),
    fc.array(fc.nat(30), { maxLength: 8 }),
    fc.oneof(
      fc.jsonValue({ maxDepth: 4 }),
      fc.constantFrom(null, [], {}, '', 0, '__proto__', { __proto__: null }, [null], [[]]),
    ),
    fc.constantFrom('__proto__', 'constructor', 'toString', 'x', ''),
  )
  .map(([base, steps, value, key]) => {
    const copy = structuredClone(base) as Record<string, unknown>
    let here = copy
    for (const step of steps) {
      const keys = Object.keys(here)
      const next = here[keys[step % keys.length] ?? '']
      if (typeof next !== 'object' || next === null || Object.keys(next).length === 0) break
      here = next as Record<string, unknown>
    }
    const keys = Object.keys(here)
    const last = keys[(steps.at(-1) ?? 0) % keys.length] ?? 'x'
    here[last] = value
    Object.defineProperty(here, key, { value, enumerable: true, configurable: true })
    return JSON.parse(JSON.stringify(copy)) as unknown
  })

test('any JSON whatever is a target or a target error', () => {
  const options = fc.record({ strict: fc.boolean(), requireDigest: fc.boolean() })
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue({ maxDepth: 6 }), spoiled), options, (json, chosen) => {
      for (const parse of [
        () => parseCloudTarget(json, UUID, chosen),
        () => parseLocalTarget(json, chosen),
        () => parsePreloaded(json, chosen),
      ]) {
        try {
          const { target } = parse()
          applyContracts(target, FACTS)
          readSettings(target.config)
        } catch (error) {
          assert.ok(error instanceof TargetError, String(error))
          assert.ok(error.issues.length + error.dropped.length > 0)
        }
      }
    }),
    { numRuns: 3000, includeErrorInReport: true },
  )
})
