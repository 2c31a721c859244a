/** Every row of the API: statuses, bodies and types, on a job that only remembers. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LockError } from '../../plugins/supervisor/locks/lock-error.ts'
import { SupervisorError } from '../../plugins/supervisor/supervisor.ts'
import { TargetError } from '../../plugins/supervisor/target/error.ts'
import { EngineError } from '../../src/engine/error.ts'
import { type ApiHost, apiHost, app, service } from './supervisor-api-fixtures.ts'

const ID = 'c'.repeat(63)
const COMMIT = 'ab'.repeat(20)
const TEXT = 'text/plain; charset=utf-8'
const JSON_TYPE = 'application/json; charset=utf-8'

/** Method, path, body; status; body of the answer, an object for JSON; what was called. */
interface Row {
  readonly ask: readonly [method: string, path: string, body?: unknown]
  readonly key?: 'none' | 'wrong' | 'scoped'
  /** Thrown by what is called. */
  readonly failure?: Error
  readonly status: number
  readonly answer?: unknown
  readonly calls?: unknown[][]
  readonly given?: (host: ApiHost) => void
}

const LOCKED = () => LockError.byApp(101, 'main')
const lockedText = 'Lockfile exists for { appId: 101, service: main }'
const failed = (message: string, code: string) => ({ status: 'failed', message, code })
const unauthorized = failed('Unauthorized', 'SCOPE_MISSING')
const unnamed =
  'serviceName or imageId parameters were not provided or the app is multi-container. ' +
  'Use the v2 service action endpoints.'
const soloDevice = {
  name: 'solo',
  commit: COMMIT,
  update_status: 'done',
  services: { main: { status: 'Running', download_progress: null } },
}
const soloState = {
  appId: 101,
  appUuid: '101aa',
  commit: COMMIT,
  updateStatus: 'done',
  services: {
    main: {
      status: 'Running',
      image: 'registry.example/main:1',
      downloadProgress: null,
      releaseId: 1001,
    },
  },
}
const container = (serviceName: string, appId: number, imageId: number, digit: string) => ({
  status: 'Running',
  serviceName,
  appId,
  imageId,
  serviceId: imageId - 1990,
  containerId: ID + digit,
  createdAt: '2026-11-20T20:42:52.926Z',
})
const image = (serviceName: string, appId: number, imageId: number) => ({
  name: `registry.example/${serviceName}:1`,
  appId,
  serviceName,
  imageId,
  dockerImageId: 'sha256:1',
  status: 'Downloaded',
  downloadProgress: null,
})
const soloStatus = {
  containers: [container('main', 101, 2001, '1')],
  images: [image('main', 101, 2001)],
  release: COMMIT,
}

const rows: Row[] = [
  // §4.1, §4.2
  { ask: ['GET', '/ping'], key: 'none', status: 200, answer: 'OK' },
  { ask: ['GET', '/ping'], key: 'wrong', status: 200, answer: 'OK' },
  { ask: ['GET', '/v1/healthy'], key: 'none', status: 200, answer: '' },
  {
    ask: ['GET', '/v1/healthy'],
    key: 'none',
    given: ({ fake }) => {
      fake.healthy = false
    },
    status: 500,
    answer: 'Unhealthy',
  },
  // §1: unknown paths and methods
  { ask: ['GET', '/nothing'], key: 'none', status: 401, answer: 'Unauthorized' },
  { ask: ['GET', '/v1/blink'], key: 'wrong', status: 401, answer: 'Unauthorized' },
  // §4.3
  { ask: ['POST', '/v1/blink'], status: 200, answer: '' },
  { ask: ['POST', '/v1/blink'], key: 'none', status: 401, answer: 'Unauthorized' },
  // §4.5
  {
    ask: ['POST', '/v1/update'],
    status: 204,
    answer: '',
    calls: [['update', { force: false, cancel: false }]],
  },
  {
    ask: ['POST', '/v1/update', { force: 'on', cancel: 1 }],
    status: 204,
    answer: '',
    calls: [['update', { force: true, cancel: true }]],
  },
  {
    ask: ['POST', '/v1/update', { force: 'banana' }],
    given: ({ fake }) => {
      fake.triggered = false
    },
    status: 202,
    answer: 'Accepted',
    calls: [['update', { force: false, cancel: false }]],
  },
  { ask: ['POST', '/v1/update'], key: 'scoped', status: 204, answer: '' },
  // §4.6
  {
    ask: ['POST', '/v1/reboot'],
    status: 202,
    answer: { Data: 'OK', Error: '' },
    calls: [['withLocks', 'all', { force: false }]],
  },
  {
    ask: ['POST', '/v1/shutdown', { force: true }],
    status: 202,
    answer: { Data: 'OK', Error: '' },
    calls: [['withLocks', 'all', { force: true }]],
  },
  {
    ask: ['POST', '/v1/shutdown'],
    given: ({ fake }) => {
      fake.config = { SUPERVISOR_OVERRIDE_LOCK: '1' }
    },
    status: 202,
    calls: [['withLocks', 'all', { force: true }]],
  },
  {
    ask: ['POST', '/v1/reboot'],
    failure: LOCKED(),
    status: 423,
    answer: { Data: '', Error: lockedText, code: 'UPDATES_LOCKED' },
  },
  {
    ask: ['POST', '/v1/reboot'],
    failure: new SupervisorError('SUSPENDED', 'It stops'),
    status: 500,
    answer: { Data: '', Error: 'It stops', code: 'SUSPENDED' },
  },
  { ask: ['POST', '/v1/reboot'], key: 'none', status: 401, answer: 'Unauthorized' },
  // §4.7
  {
    ask: ['POST', '/v1/purge', { appId: 101 }],
    status: 200,
    answer: { Data: 'OK', Error: '' },
    calls: [['purgeApp', 101, { force: false }]],
  },
  {
    ask: ['POST', '/v1/purge', { appId: '101.0', force: 'TRUE' }],
    key: 'scoped',
    status: 200,
    calls: [['purgeApp', 101, { force: true }]],
  },
  { ask: ['POST', '/v1/purge'], status: 400, answer: 'Invalid or missing appId', calls: [] },
  ...['0x65', '50.55', '', '45x', null, {}, [101], true].map(
    (appId): Row => ({
      ask: ['POST', '/v1/purge', { appId }],
      status: 400,
      answer: 'Invalid or missing appId',
      calls: [],
    }),
  ),
  { ask: ['POST', '/v1/purge', { appId: 202 }], key: 'scoped', status: 401, answer: unauthorized },
  {
    ask: ['POST', '/v1/purge', { appId: 101 }],
    failure: LOCKED(),
    status: 423,
    answer: failed(lockedText, 'UPDATES_LOCKED'),
  },
  {
    ask: ['POST', '/v1/purge', { appId: 999 }],
    failure: SupervisorError.notInstalled(999),
    status: 503,
    answer: failed('Application with ID 999 is not in the current state', 'APP_NOT_INSTALLED'),
  },
  {
    ask: ['POST', '/v1/purge', { appId: 101 }],
    failure: new EngineError('ENGINE_CONFLICT', 'remove it', 'in use', { status: 409 }),
    status: 503,
    answer: failed('Cannot remove it: in use', 'ENGINE_CONFLICT'),
  },
  // §4.8
  {
    ask: ['POST', '/v1/restart', { appId: 101 }],
    status: 200,
    answer: 'OK',
    calls: [['restartApp', 101, { force: false }]],
  },
  { ask: ['POST', '/v1/restart', {}], status: 400, answer: 'Missing app id' },
  {
    ask: ['POST', '/v1/restart', { appId: 202 }],
    key: 'scoped',
    status: 401,
    answer: unauthorized,
    calls: [],
  },
  {
    ask: ['POST', '/v1/restart', { appId: 101 }],
    failure: LockError.bySupervisor(101),
    status: 423,
    answer: failed(
      'Locks for app 101 are being held by another supervisor operation',
      'LOCKS_BUSY',
    ),
  },
  // §4.10
  {
    ask: ['GET', '/v1/apps/101'],
    key: 'scoped',
    status: 200,
    answer: {
      appId: 101,
      commit: COMMIT,
      containerId: `${ID}1`,
      env: { PATH: '/bin', LEVEL: 'low' },
      imageId: 'sha256:1',
      image: 'registry.example/main:1',
      releaseId: 1001,
    },
  },
  { ask: ['GET', '/v1/apps/zz'], status: 400, answer: 'Missing app id' },
  { ask: ['GET', '/v1/apps/999'], status: 400, answer: 'App not found' },
  {
    ask: ['GET', '/v1/apps/202'],
    status: 400,
    answer: 'Some v1 endpoints are only allowed on single-container apps',
  },
  {
    ask: ['GET', '/v1/apps/202'],
    key: 'scoped',
    status: 401,
    answer: failed('Application is not available', 'SCOPE_MISSING'),
  },
  {
    ask: ['GET', '/v1/apps/101'],
    given: ({ fake }) => {
      fake.views = [app(101, 'solo', [{ ...service('main', 1, '1'), container: undefined }])]
    },
    status: 400,
    answer: 'App not found',
  },
  // §4.11
  {
    ask: ['POST', '/v1/apps/101/stop', { force: true }],
    status: 200,
    answer: { containerId: `${ID}1` },
    calls: [['stopService', { appId: 101, serviceName: 'main' }, { force: true }]],
  },
  {
    ask: ['POST', '/v1/apps/101/start'],
    status: 200,
    answer: { containerId: `${ID}1` },
    calls: [['startService', { appId: 101, serviceName: 'main' }, { force: false }]],
  },
  { ask: ['POST', '/v1/apps/x/stop'], status: 400, answer: 'Invalid app id' },
  { ask: ['POST', '/v1/apps/202/stop'], status: 400, answer: unnamed },
  { ask: ['POST', '/v1/apps/202/start'], key: 'scoped', status: 401, answer: 'Unauthorized' },
  {
    ask: ['POST', '/v1/apps/999/start'],
    status: 400,
    answer:
      'App not found: an app needs to be installed for this endpoint to work.\n' +
      'Set a target that has it and wait until it is installed.',
  },
  {
    ask: ['POST', '/v1/apps/101/stop'],
    failure: SupervisorError.notInTarget(),
    status: 404,
    answer: 'Service does not exist in target release',
  },
  {
    ask: ['POST', '/v1/apps/101/stop'],
    failure: LOCKED(),
    status: 423,
    answer: failed(lockedText, 'UPDATES_LOCKED'),
  },
  {
    ask: ['POST', '/v1/apps/101/stop'],
    failure: new SupervisorError('ENGINE_AWAY', 'No engine'),
    status: 503,
    answer: failed('No engine', 'ENGINE_AWAY'),
  },
  // §4.12, §4.13
  {
    ask: ['GET', '/v1/device/host-config'],
    status: 200,
    answer: { network: { hostname: 'box' } },
  },
  {
    ask: ['PATCH', '/v1/device/host-config', {}],
    status: 400,
    answer: 'Could not parse host config input to a valid format: network is missing',
  },
  {
    ask: ['PATCH', '/v1/device/host-config', { network: {} }],
    status: 200,
    answer: 'OK',
    calls: [],
  },
  // §5.1
  {
    ask: ['GET', '/v2/applications/state'],
    key: 'scoped',
    status: 200,
    answer: { solo: soloState },
  },
  // §5.2
  {
    ask: ['GET', '/v2/applications/101/state'],
    status: 200,
    answer: {
      commit: COMMIT,
      local: {
        101: {
          services: { 2001: { status: 'Running', releaseId: 1001, download_progress: null } },
        },
      },
    },
  },
  {
    ask: ['GET', '/v2/applications/zz/state'],
    status: 400,
    answer: failed('Invalid application ID: zz', 'APP_ID_INVALID'),
  },
  {
    ask: ['GET', '/v2/applications/999/state'],
    status: 409,
    answer: failed('Application ID does not exist: 999', 'APP_NOT_FOUND'),
  },
  {
    ask: ['GET', '/v2/applications/202/state'],
    key: 'scoped',
    status: 409,
    answer: failed('Application ID does not exist: 202', 'APP_NOT_FOUND'),
  },
  // §5.3
  ...(['restart', 'purge'] as const).flatMap((action): Row[] => [
    {
      ask: ['POST', `/v2/applications/101/${action}`, { force: '1' }],
      status: 200,
      answer: 'OK',
      calls: [[`${action}App`, 101, { force: true }]],
    },
    {
      ask: ['POST', `/v2/applications/zz/${action}`],
      status: 400,
      answer: failed('Missing app id', 'APP_ID_INVALID'),
    },
    {
      ask: ['POST', `/v2/applications/0/${action}`],
      status: 400,
      answer: failed('Missing app id', 'APP_ID_INVALID'),
    },
    {
      ask: ['POST', `/v2/applications/202/${action}`],
      key: 'scoped',
      status: 401,
      answer: unauthorized,
      calls: [],
    },
    {
      ask: ['POST', `/v2/applications/101/${action}`],
      failure: LOCKED(),
      status: 423,
      answer: failed(lockedText, 'UPDATES_LOCKED'),
    },
  ]),
  // §5.4
  ...(['restart', 'stop', 'start'] as const).flatMap((action): Row[] => {
    const path = `/v2/applications/202/${action}-service`
    const call = (serviceName: string) => [
      [`${action}Service`, { appId: 202, serviceName }, { force: false }],
    ]
    return [
      { ask: ['POST', path, { serviceName: 'db' }], status: 200, answer: 'OK', calls: call('db') },
      { ask: ['POST', path, { imageId: '2002' }], status: 200, answer: 'OK', calls: call('web') },
      {
        ask: ['POST', path, { imageId: 2003, serviceName: 'other' }],
        status: 200,
        calls: call('db'),
      },
      { ask: ['POST', path, {}], status: 400, answer: unnamed },
      { ask: ['POST', path, { serviceName: 'null' }], status: 400, answer: unnamed },
      {
        ask: ['POST', path, { serviceName: 'other' }],
        status: 404,
        answer: 'Service not found, a container must exist for this endpoint to work',
        calls: [],
      },
      {
        ask: ['POST', path, { serviceName: 'db' }],
        failure: SupervisorError.notInTarget(),
        status: 404,
        answer: 'Service does not exist in target release',
      },
      {
        ask: ['POST', path.replace('202', 'x'), { serviceName: 'db' }],
        status: 400,
        answer: failed('Invalid app id', 'APP_ID_INVALID'),
      },
      {
        ask: ['POST', path, { serviceName: 'db' }],
        key: 'scoped',
        status: 401,
        answer: unauthorized,
      },
      {
        ask: ['POST', path.replace('202', '999'), { serviceName: 'db' }],
        status: 404,
        answer:
          'App not found: an app needs to be installed for this endpoint to work.\n' +
          'Set a target that has it and wait until it is installed.',
      },
    ]
  }),
  // A wrong name in an app of one service is wrong too (§24.14).
  {
    ask: ['POST', '/v2/applications/101/stop-service', { serviceName: 'wrong' }],
    status: 404,
    calls: [],
  },
  // §5.5
  {
    ask: ['GET', '/v2/state/status'],
    status: 200,
    answer: {
      status: 'success',
      appState: 'applied',
      overallDownloadProgress: null,
      ...soloStatus,
      apps: {
        101: soloStatus,
        202: {
          containers: [container('web', 202, 2002, '2'), container('db', 202, 2003, '3')],
          images: [image('web', 202, 2002), image('db', 202, 2003)],
          release: COMMIT,
        },
      },
    },
  },
  {
    ask: ['GET', '/v2/state/status'],
    given: ({ fake }) => {
      fake.views = []
    },
    status: 200,
    answer: {
      status: 'success',
      appState: 'applied',
      overallDownloadProgress: null,
      containers: [],
      images: [],
      apps: {},
    },
  },
  // §5.6
  {
    ask: ['GET', '/v2/containerId'],
    status: 200,
    answer: { status: 'success', services: { main: `${ID}1`, web: `${ID}2`, db: `${ID}3` } },
  },
  {
    ask: ['GET', '/v2/containerId'],
    key: 'scoped',
    status: 200,
    answer: { status: 'success', services: { main: `${ID}1` } },
  },
  {
    ask: ['GET', '/v2/containerId?service=db'],
    status: 200,
    answer: { status: 'success', containerId: `${ID}3` },
  },
  {
    ask: ['GET', '/v2/containerId?serviceName=db'],
    key: 'scoped',
    status: 404,
    answer: failed('Could not find service with that name', 'CONTAINER_NOT_FOUND'),
  },
  // §5.7 to §5.11
  { ask: ['GET', '/v2/version'], status: 200, answer: { status: 'success', version: '19.0.5' } },
  {
    ask: ['GET', '/v2/device/name'],
    status: 200,
    answer: { status: 'success', deviceName: 'box one' },
  },
  { ask: ['GET', '/v2/device/tags'], status: 200, answer: { status: 'success', tags: [] } },
  ...[{ a: 1 }, { a: null }, ['x', 1]].map(
    (body): Row => ({
      ask: ['PATCH', '/v2/device/tags', body],
      status: 400,
      answer: failed(
        'Invalid tags body, must be an object like `{[tagKey: string]: string}`',
        'TAGS_INVALID',
      ),
    }),
  ),
  {
    ask: ['PATCH', '/v2/device/tags', { 'a b': 'x' }],
    status: 400,
    answer: failed('Tag keys cannot contain whitespace', 'TAGS_INVALID'),
  },
  { ask: ['PATCH', '/v2/device/tags', []], status: 202, answer: { status: 'success' } },
  {
    ask: ['GET', '/v2/device/vpn'],
    status: 200,
    answer: { status: 'success', vpn: { enabled: false, connected: false } },
  },
  // §5.12
  {
    ask: ['GET', '/v2/cleanup-volumes'],
    status: 200,
    answer: { status: 'success', volumes: ['101_data'] },
    calls: [['cleanupVolumes', false]],
  },
  {
    ask: ['POST', '/v2/cleanup-volumes', { dryRun: true }],
    status: 200,
    calls: [['cleanupVolumes', true]],
  },
  {
    ask: ['GET', '/v2/cleanup-volumes?dryRun=1'],
    given: ({ fake }) => {
      fake.volumes = ['202_data']
    },
    key: 'scoped',
    status: 200,
    answer: { status: 'success', volumes: [] },
  },
  // §5.13
  {
    ask: ['POST', '/v2/journal-logs', { format: 'yaml' }],
    status: 400,
  },
  // §6
  {
    ask: ['GET', '/v2/local/device-info'],
    status: 200,
    answer: { status: 'success', info: { arch: archName(), deviceType: 'generic' } },
  },
  {
    ask: ['POST', '/v2/local/target-state', { local: {}, force: 'on' }],
    status: 200,
    answer: { status: 'success', message: 'OK' },
    calls: [['setTarget', { local: {}, force: 'on' }, { force: true }]],
  },
  {
    ask: ['POST', '/v2/local/target-state', {}],
    failure: new SupervisorError(
      'NOT_LOCAL',
      'Target state can only set when device is in local mode',
    ),
    status: 400,
    answer: failed('Target state can only set when device is in local mode', 'NOT_LOCAL'),
  },
  {
    ask: ['POST', '/v2/local/target-state', { local: { apps: { 1: null } } }],
    failure: new TargetError([{ path: 'local.apps.1', message: 'must be an object' }]),
    status: 400,
    answer: failed(
      'Invalid target state. Cannot use the target state: local.apps.1 must be an object',
      'TARGET_INVALID',
    ),
  },
  // What nobody foresaw
  {
    ask: ['POST', '/v1/restart', { appId: 101 }],
    failure: new Error('a secret'),
    status: 503,
    answer: failed('Internal error, see the daemon log', 'INTERNAL_ERROR'),
  },
  // Malformed bodies (§3.2, §24.13)
  ...['{', '"text"', '1', 'null', '{"a":1} x'].map(
    (body): Row => ({ ask: ['POST', '/v1/restart', body], status: 400, calls: [] }),
  ),
  { ask: ['POST', '/v1/reboot', '{'], status: 400, calls: [] },
  {
    ask: ['PATCH', '/v1/device/host-config', '{'],
    status: 400,
    answer: 'Cannot read the body: it is no JSON',
  },
]

function archName(): string {
  const names: Record<string, string> = { x64: 'amd64', arm64: 'aarch64', arm: 'armv7hf' }
  return names[process.arch] ?? process.arch
}

for (const [index, row] of rows.entries()) {
  const [method, path, body] = row.ask
  const shown = body === undefined ? '' : ` ${JSON.stringify(body)}`
  test(`${index + 1}. ${method} ${path}${shown} with key ${row.key ?? 'global'}: ${row.status}`, async () => {
    const host = await apiHost()
    try {
      row.given?.(host)
      host.fake.failure = row.failure
      const keys = { none: '', wrong: 'f'.repeat(64), scoped: host.scoped }
      const key = row.key === undefined ? host.key : keys[row.key]
      const answer = await host.call(method, path, body, key)
      const text = await answer.text()
      assert.equal(answer.status, row.status, text)
      if (typeof row.answer === 'object') {
        assert.equal(answer.headers.get('content-type'), JSON_TYPE)
        assert.deepEqual(JSON.parse(text), row.answer)
      } else if (row.answer !== undefined) {
        assert.equal(text, row.answer)
        if (text !== '') assert.equal(answer.headers.get('content-type'), TEXT)
      }
      if (row.calls) assert.deepEqual(host.fake.calls, row.calls)
      assert.doesNotMatch(text, /secret|hidden/)
    } finally {
      await host.stop()
    }
  })
}

test('GET /v1/device: all fields, what a key does not open left out', async () => {
  const host = await apiHost()
  try {
    const device = async (key?: string) =>
      (await (await host.call('GET', '/v1/device', undefined, key)).json()) as Record<
        string,
        unknown
      >
    const { ip_address, mac_address, apps, ...rest } = await device()
    assert.deepEqual(rest, {
      api_port: 48484,
      os_version: 'testOS 1',
      supervisor_version: '19.0.5',
      update_pending: false,
      update_failed: false,
      update_downloaded: false,
      commit: COMMIT,
      status: 'Idle',
      download_progress: null,
    })
    if (ip_address !== undefined) assert.match(String(ip_address), /^[0-9a-f.:]+( [0-9a-f.:]+)*$/)
    if (mac_address !== undefined) assert.match(String(mac_address), /^[0-9A-F:]{17}( |$)/)
    assert.deepEqual(Object.keys(apps as object), ['101', '202'])
    assert.deepEqual((await device(host.scoped)).apps, { 101: soloDevice })
    host.fake.state = { ...host.fake.state, appState: 'applying', updatePending: true }
    host.fake.views = [
      app(101, 'solo', [
        { ...service('main', 1, '1'), status: 'Downloading', downloadProgress: 7 },
      ]),
    ]
    assert.equal((await device()).status, 'Idle', 'kept until something changed')
    host.fake.changed()
    const busy = await device()
    assert.equal('commit' in busy, false)
    assert.deepEqual(
      [busy.status, busy.download_progress, busy.update_pending],
      ['Downloading', 7, true],
    )
  } finally {
    await host.stop()
  }
})

test('an unknown path or method with a key is a page, without one it is refused', async () => {
  const host = await apiHost()
  try {
    for (const [method, path] of [
      ['GET', '/nothing'],
      ['PUT', '/v1/device'],
      ['GET', '/v1/restart'],
      ['DELETE', '/'],
    ] as const) {
      const answer = await host.call(method, path)
      assert.equal(answer.status, 404)
      assert.equal(answer.headers.get('content-type'), 'text/html; charset=utf-8')
      assert.match(await answer.text(), new RegExp(`<pre>Cannot ${method} ${path}</pre>`))
      assert.equal((await host.call(method, path, undefined, '')).status, 401)
    }
    const evil = await (await host.call('GET', '/%3Cscript%3E<b>')).text()
    assert.doesNotMatch(evil, /<script>|<b>/)
  } finally {
    await host.stop()
  }
})

test('HEAD is GET without a body, but where GET changes something', async () => {
  const host = await apiHost()
  try {
    const head = await host.call('HEAD', '/v1/device')
    assert.deepEqual([head.status, await head.text()], [200, ''])
    assert.equal((await host.call('HEAD', '/v2/cleanup-volumes')).status, 405)
    assert.deepEqual(host.fake.calls, [])
  } finally {
    await host.stop()
  }
})

test('a form is as good as JSON, any other type is no body', async () => {
  const host = await apiHost()
  try {
    const send = (type: string, body: string) =>
      host.host.request('/v1/restart', {
        method: 'POST',
        headers: { authorization: `ApiKey ${host.key}`, 'content-type': type },
        body,
      })
    const form = 'Application/X-WWW-Form-UrlEncoded; charset=utf-8'
    assert.equal((await send(form, 'appId=101&force=on')).status, 200)
    assert.deepEqual(host.fake.calls, [['restartApp', 101, { force: true }]])
    assert.equal((await send('text/json', '{"appId":101}')).status, 400)
    assert.equal((await send('application/json', '')).status, 400)
    const many = Array.from({ length: 1001 }, (_, i) => `a${i}=1`).join('&')
    assert.match(await (await send(form, many)).text(), /more than 1000 fields/)
    const proxy = await host.host.request(`/v1/device/host-config?apikey=${host.key}`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: 'network[hostname]=other',
    })
    assert.deepEqual([proxy.status, await proxy.text()], [200, 'OK'])
  } finally {
    await host.stop()
  }
})

test('PATCH of host-config writes files under the locks of all apps', async () => {
  const host = await apiHost({ machine: { dry_run: false, systemctl: ['true'] } })
  try {
    const proxy = { type: 'socks5', ip: '10.0.0.9', port: 8123, noProxy: ['10.0.0.0/8'] }
    const body = { network: { proxy, hostname: 'renamed', force: 'on' } }
    const answer = await host.call('PATCH', '/v1/device/host-config', body)
    assert.deepEqual([answer.status, await answer.text()], [200, 'OK'])
    assert.deepEqual(host.fake.calls, [['withLocks', 'all', { force: true }], ['contextChanged']])
    assert.equal(readFileSync(join(host.root, 'etc/hostname'), 'utf8'), 'renamed\n')
    const read = await (await host.call('GET', '/v1/device/host-config')).json()
    assert.deepEqual(read, { network: { hostname: 'renamed', proxy } })
    host.fake.failure = LOCKED()
    const locked = await host.call('PATCH', '/v1/device/host-config', {
      network: { hostname: 'third' },
    })
    assert.deepEqual([locked.status, await locked.text()], [423, lockedText])
    assert.ok(host.host.messages().some((text) => text.includes('proxy, no_proxy, hostname')))
  } finally {
    await host.stop()
  }
})

test('a dry run reboots nothing, and lets everything go on', async () => {
  const host = await apiHost()
  try {
    const first = await host.call('POST', '/v1/reboot')
    const again = await host.call('POST', '/v1/reboot')
    assert.deepEqual([first.status, again.status], [202, 202])
    assert.equal(host.fake.calls.length, 1, 'asked for twice, done once')
    const other = await host.call('POST', '/v1/shutdown')
    assert.equal(other.status, 500)
    assert.match(await other.text(), /a reboot is under way/)
    assert.equal(host.fake.suspended, 1)
  } finally {
    await host.stop()
  }
  assert.equal(host.fake.suspended, 0, 'called off with the stop')
})

test('the journal comes as journalctl prints it, without a type', async () => {
  const host = await apiHost()
  try {
    const answer = await host.call('POST', '/v2/journal-logs', { all: true, count: 3, unit: 'x' })
    assert.equal(answer.status, 200)
    assert.equal(answer.headers.get('content-type'), null)
    assert.equal(await answer.text(), '-a\n-u\nx\n-n\n3\n-o\nshort\n')
  } finally {
    await host.stop()
  }
})

test('logs are lines of JSON of the apps a key opens, until the reader goes', async () => {
  const host = await apiHost()
  try {
    host.fake.records = [
      { message: 'one', timestamp: 1, appId: 101, serviceName: 'main' },
      { message: 'two', timestamp: 2, appId: 202, serviceName: 'db' },
      { message: 'said', timestamp: 3, isSystem: true },
    ]
    const answer = await host.call('GET', '/v2/local/logs', undefined, host.scoped)
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    while (text.split('\n').length < 4) text += (await reader?.read())?.value ?? ''
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    assert.deepEqual(lines, [
      { message: 'Streaming logs', isSystem: true },
      { message: 'one', timestamp: 1, appId: 101, serviceName: 'main' },
      { message: 'said', timestamp: 3, isSystem: true },
    ])
    await reader?.cancel()
    host.fake.failure = new SupervisorError('TOO_MANY_FOLLOWERS', 'Too many')
    const refused = await host.call('GET', '/v2/local/logs')
    assert.equal(refused.status, 503)
  } finally {
    await host.stop()
  }
})

test('the local target shows a key its own apps, and no keys', async () => {
  const host = await apiHost()
  try {
    const empty = await (await host.call('GET', '/v2/local/target-state')).json()
    const { state } = empty as { state: { local: { name: string; apps: object } } }
    assert.deepEqual([state.local.name, state.local.apps], ['box one', {}])
    const one = (appId: number) => ({
      appId,
      uuid: `${appId}aa`,
      name: `app${appId}`,
      class: 'fleet' as const,
      isHost: false,
      parentApp: undefined,
      commit: COMMIT,
      releaseId: 1,
      services: [
        {
          serviceName: 'main',
          serviceId: 1,
          imageId: 1,
          image: 'x',
          running: true,
          environment: { LEVEL: 'low', BALENA_API_KEY: 'hidden' },
          labels: {},
          composition: {},
          dependsOn: [],
          optional: false,
          contract: undefined,
        },
      ],
      networks: {},
      volumes: {},
      rejected: undefined,
    })
    host.fake.current = { deviceName: 'named', config: {}, apps: [one(101), one(202)] }
    const all = await (await host.call('GET', '/v2/local/target-state')).text()
    assert.deepEqual(Object.keys(JSON.parse(all).state.local.apps), ['101', '202'])
    assert.doesNotMatch(all, /hidden/)
    const own = await host.call('GET', '/v2/local/target-state', undefined, host.scoped)
    const shown = (await own.json()) as { state: { local: { name: string; apps: object } } }
    assert.deepEqual(Object.keys(shown.state.local.apps), ['101'])
    assert.equal(shown.state.local.name, 'named')
  } finally {
    await host.stop()
  }
})
