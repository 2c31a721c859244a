import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readComposition } from '../../plugins/supervisor/target/composition.ts'
import { mountPath } from '../../plugins/supervisor/target/mounts.ts'
import {
  isObject,
  type JsonObject,
  Place,
  Problems,
} from '../../plugins/supervisor/target/place.ts'
import { readBytes, readDuration } from '../../plugins/supervisor/target/units.ts'
import { inRange } from '../../plugins/supervisor/target/version-range.ts'
import { shellWords } from '../../src/shell-words.ts'

function read(fields: JsonObject) {
  const problems = new Problems()
  const composition = readComposition(fields, new Place(problems))
  return {
    composition,
    warned: problems.warnings.map(({ path }) => path),
    issues: problems.issues.map(({ path }) => path),
  }
}

/** What is read of one field, and the paths of the warnings. */
const field = (name: string, value: unknown) => {
  const { composition, warned, issues } = read({ [name]: value })
  return [(composition as JsonObject)[name], ...warned, ...issues]
}

test('every supported field in its plainest form is taken without a word', () => {
  const fields = {
    command: ['a'],
    entrypoint: ['b'],
    environment: { A: '1' },
    labels: { l: 'x' },
    user: '1000:1000',
    working_dir: '/w',
    hostname: 'h',
    domainname: 'd.test',
    mac_address: '02:00:00:00:00:01',
    tty: false,
    init: true,
    privileged: true,
    read_only: true,
    restart: 'unless-stopped',
    stop_signal: 'SIGINT',
    stop_grace_period: '1m30s',
    healthcheck: { test: ['CMD', 'x'], interval: '1s', timeout: '2s', retries: 3 },
    cap_add: ['NET_ADMIN'],
    cap_drop: ['ALL'],
    security_opt: ['no-new-privileges'],
    group_add: ['audio', 44],
    devices: ['/dev/a'],
    dns: '1.1.1.1',
    dns_opt: ['ndots:1'],
    dns_search: 'test',
    extra_hosts: ['a=10.0.0.1'],
    network_mode: 'host',
    ports: ['80:80'],
    volumes: ['data:/data'],
    tmpfs: '/tmp',
    sysctls: { 'net.core.somaxconn': 1024 },
    ulimits: { nofile: 1024 },
    pid: 'host',
    ipc: 'host',
    userns_mode: 'host',
    cgroup_parent: 'x',
    pids_limit: 100,
    shm_size: '128m',
    mem_limit: '1g',
    mem_reservation: 1048576,
    oom_kill_disable: true,
    oom_score_adj: -500,
    cpu_shares: 512,
    cpu_quota: 50000,
    cpus: 0.5,
    cpuset: '0-1',
    networks: ['default'],
  }
  const { composition, warned, issues } = read(fields)
  assert.deepEqual([warned, issues], [[], []])
  assert.deepEqual(Object.keys(composition).sort(), Object.keys(fields).sort())
  assert.equal(composition.stop_grace_period, 90)
  assert.deepEqual(composition.group_add, ['audio', '44'])
  assert.deepEqual(composition.extra_hosts, ['a:10.0.0.1'])
  assert.equal(composition.cpus, 500_000_000)
  assert.equal(composition.mem_limit, 1024 ** 3)
  assert.deepEqual(composition.tmpfs, { '/tmp': '' })
  assert.deepEqual(composition.sysctls, { 'net.core.somaxconn': '1024' })
  assert.deepEqual(composition.ulimits, { nofile: { soft: 1024, hard: 1024 } })
  assert.deepEqual(composition.devices, [
    { host: '/dev/a', container: '/dev/a', permissions: 'rwm' },
  ])
})

test('fields that are not supported are left out with a warning each', () => {
  const unsupported = {
    deploy: {},
    secrets: [],
    configs: [],
    logging: {},
    profiles: [],
    expose: [],
    links: [],
    volumes_from: [],
    runtime: 'x',
    env_file: 'x',
    device_cgroup_rules: [],
    uts: 'host',
    annotations: {},
    storage_opt: {},
    toString: 'x',
  }
  const { composition, warned } = read(unsupported)
  assert.deepEqual(composition, {})
  assert.deepEqual(warned, Object.keys(unsupported))
  assert.deepEqual(read({ image: 'x', running: true, depends_on: [], build: null }).warned, [])
})

test('commands are split as a shell quotes, and nothing is expanded', () => {
  const split = [
    ['sh -c "echo $HOME; ls *"', ['sh', '-c', 'echo $HOME; ls *']],
    ["a 'b c'\\ d", ['a', 'b c d']],
    ['a "b\\"c" \'d\\e\'', ['a', 'b"c', 'd\\e']],
    ['  a\tb\n', ['a', 'b']],
    ['""', ['']],
    ['a\\\nb', ['ab']],
    ['$X $(Y)', ['$X', '$(Y)']],
  ] as const
  for (const [text, words] of split) assert.deepEqual(shellWords(text), words, text)
  for (const open of ['"', "a 'b", 'a\\']) assert.equal(shellWords(open), undefined)
  assert.deepEqual(field('command', 'a "b'), [undefined, 'command'])
  assert.deepEqual(field('command', ''), [undefined])
  fc.assert(
    fc.property(fc.array(fc.string()), (words) => {
      const quoted = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
      assert.deepEqual(shellWords(quoted), words)
    }),
  )
})

test('sizes and times', () => {
  const sizes = { '64m': 64 << 20, '1GB': 2 ** 30, '10b': 10, 7: 7, '5K': 5120 }
  for (const [text, bytes] of Object.entries(sizes)) assert.equal(readBytes(text), bytes)
  for (const bad of ['', '-1', '1.5g', '1t', '9'.repeat(20), {}, null, true, '1 m']) {
    assert.equal(readBytes(bad), undefined)
  }
  const times = { '1m30s': 90e9, '1.5h': 5400e9, '20ms': 20e6, '1d': 86400e9, '10us': 10_000 }
  for (const [text, time] of Object.entries(times)) assert.equal(readDuration(text), time)
  for (const bad of ['', '1', 's', '1m30', '-1s', '1e3s', 5, null, `${'9'.repeat(30)}h`]) {
    assert.equal(readDuration(bad), undefined)
  }
  assert.deepEqual(field('stop_grace_period', 5), [5])
  assert.deepEqual(field('stop_grace_period', '1500ms'), [2])
  assert.deepEqual(field('stop_grace_period', 'soon'), [undefined, 'stop_grace_period'])
  assert.deepEqual(field('shm_size', 'banana'), [undefined, 'shm_size'])
})

test('ports: single, ranges, addresses, protocols; what is wrong cannot be left out', () => {
  const port = (host: number, container = host, protocol = 'tcp', address = '') => {
    return { address, host, container, protocol }
  }
  const good = [
    ['80', [port(80)]],
    [80, [port(80)]],
    ['8080:80', [port(8080, 80)]],
    ['53:53/UDP', [port(53, 53, 'udp')]],
    ['127.0.0.1:1:2', [port(1, 2, 'tcp', '127.0.0.1')]],
    ['[::1]:1:2', [port(1, 2, 'tcp', '::1')]],
    ['10-11:20-21', [port(10, 20), port(11, 21)]],
    [':80', [port(0, 80)]],
    [{ target: 80, published: '8080', protocol: 'udp' }, [port(8080, 80, 'udp')]],
    [{ target: 80, published: 1, host_ip: '::1' }, [port(1, 80, 'tcp', '::1')]],
  ] as const
  for (const [text, ports] of good) assert.deepEqual(field('ports', [text]), [ports])
  assert.deepEqual(field('ports', ['80:80', '80:80/tcp']), [[port(80)]])
  for (const bad of [
    '10-12:20-21',
    '0:0',
    '1:70000',
    '80:81:82:83',
    'x',
    '',
    null,
    '12-10:12-10',
  ]) {
    assert.deepEqual(field('ports', [bad]), [undefined, 'ports.0'])
  }
  assert.deepEqual(field('ports', ['1-5000:1-5000']), [undefined, 'ports'])
  assert.deepEqual(field('ports', 'x'), [undefined, 'ports'])
})

test('volumes: named, anonymous and tmpfs; paths of the host are refused', () => {
  const named = { type: 'named', source: 'data', target: '/d', readOnly: false, noCopy: false }
  assert.deepEqual(field('volumes', ['data:/d']), [[named]])
  assert.deepEqual(field('volumes', ['data:/d/./:ro,nocopy']), [
    [{ ...named, readOnly: true, noCopy: true }],
  ])
  assert.deepEqual(field('volumes', ['/d']), [
    [{ type: 'anonymous', target: '/d', readOnly: false }],
  ])
  assert.deepEqual(
    field('volumes', [{ type: 'volume', source: 'data', target: '/d', read_only: true }]),
    [[{ ...named, readOnly: true }]],
  )
  assert.deepEqual(
    field('volumes', [{ type: 'tmpfs', target: '/d', tmpfs: { size: '1m', mode: 0o1777 } }]),
    [[{ type: 'tmpfs', target: '/d', size: 1 << 20, mode: 0o1777 }]],
  )
  for (const refused of [
    '/etc:/etc',
    './x:/y',
    '~/x:/y',
    '../x:/y',
    { type: 'bind', source: '/etc', target: '/etc' },
    { type: 'volume', source: '/etc', target: '/etc' },
    { type: 'npipe', source: 'a', target: '/b' },
    'data:/',
    'data:relative',
    'data:/a/../../etc',
    'data:/tmp/balena',
    'data:/tmp/./resin/',
    'a:/b:ro:x',
    'data:/a,b',
    5,
  ]) {
    assert.deepEqual(field('volumes', [refused]), [undefined, 'volumes.0'])
  }
  const twice = read({ volumes: ['a:/d', 'b:/d/'] })
  assert.deepEqual(twice.composition.volumes?.length, 1)
  assert.deepEqual(twice.warned, ['volumes'])
})

test('no mount leaves its place, whatever path is asked for', () => {
  const part = fc.oneof(fc.constantFrom('.', '..', '', 'a', '/', 'tmp', 'balena'), fc.string())
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      const path = mountPath(`/${parts.join('/')}`)
      if (path === undefined) return
      assert.match(path, /^\//)
      assert.ok(!path.split('/').includes('..'))
      assert.equal(mountPath(path), path)
    }),
  )
})

test('networks and network mode', () => {
  assert.deepEqual(field('network_mode', 'service:db'), [{ kind: 'service', serviceName: 'db' }])
  for (const bad of ['container:x', 'mynet', 'service:', 'service:../x', 5]) {
    assert.deepEqual(field('network_mode', bad), [undefined, 'network_mode'])
  }
  const front = { aliases: ['x', 'y'], ipv4_address: '10.0.0.2', ipv6_address: 'fd00::2' }
  assert.deepEqual(field('networks', { front, back: null }), [{ front, back: {} }])
  assert.deepEqual(field('networks', { front: { priority: 5, aliases: ['bad name'] } }), [
    { front: {} },
    'networks.front.priority',
    'networks.front.aliases.0',
  ])
  assert.deepEqual(field('networks', ['-x', 5]), [{ 5: {} }, 'networks.-x'])
})

test('health checks', () => {
  assert.deepEqual(field('healthcheck', { test: 'curl x', start_period: '5s' }), [
    { test: ['CMD-SHELL', 'curl x'], start_period: 5e9 },
  ])
  assert.deepEqual(field('healthcheck', { disable: true, test: 'x' }), [{ test: ['NONE'] }])
  assert.deepEqual(field('healthcheck', { test: ['curl'], interval: '1us', odd: 1 }), [
    undefined,
    'healthcheck.test',
    'healthcheck.interval',
    'healthcheck.odd',
  ])
})

test('variables and labels as lists or maps, with numbers, truth values and null', () => {
  const map = { A: '1', B: 'true', C: '', D: 'x=y' }
  assert.deepEqual(field('environment', { A: 1, B: true, C: null, D: 'x=y' }), [map])
  assert.deepEqual(field('environment', ['A=1', 'B=true', 'C=', 'D=x=y']), [map])
  assert.deepEqual(field('environment', ['A', 5, '=x']), [
    undefined,
    'environment.0',
    'environment.1',
    'environment.2',
  ])
  assert.deepEqual(field('labels', { a: {} }), [undefined, 'labels.a'])
})

test('restart policies: anything unknown is always', () => {
  assert.deepEqual(field('restart', 'on-failure'), ['on-failure'])
  assert.deepEqual(field('restart', false), ['no'])
  assert.deepEqual(field('restart', 'on-failure:3'), ['always', 'restart'])
})

test('what belongs to other containers or to the engine is left out', () => {
  assert.deepEqual(field('security_opt', ['label=disable', 'label:x', 'apparmor=y']), [
    ['apparmor=y'],
    'security_opt.0',
    'security_opt.1',
  ])
  for (const [name, value] of Object.entries({
    pid: 'container:x',
    ipc: 'container:x',
    userns_mode: 'x',
    user: 'a b',
    hostname: '-x',
    mac_address: 'x',
    cpuset: 'all',
    oom_score_adj: 2000,
    tty: 'yes',
  })) {
    assert.deepEqual(field(name, value), [undefined, name])
  }
  assert.deepEqual(field('devices', ['dev/x', '/dev/x:/y:z', '/dev/x:/y:rw:q']), [
    undefined,
    'devices.0',
    'devices.1',
    'devices.2',
  ])
})

test('what a list of networks holds that is no name is left out', () => {
  const { composition, warned } = read({ networks: ['a', { toString: [] }, null, 1] })
  assert.deepEqual(Object.keys(composition.networks ?? {}), ['1', 'a'])
  assert.equal(warned.length, 2)
})

test('any JSON in any field: read, or left out with a warning or an issue', () => {
  const names = ['command', 'environment', 'ports', 'volumes', 'networks', 'healthcheck', 'ulimits']
  const others = ['devices', 'tmpfs', 'extra_hosts', 'cpus', 'restart', 'security_opt', 'x']
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...names, ...others), fc.jsonValue({ maxDepth: 4 })),
      (fields) => {
        const { composition, warned, issues } = read(fields)
        for (const [name, value] of Object.entries(fields)) {
          if (value === null || Object.hasOwn(composition, name)) continue
          const empty = value === '' || (isObject(value) && Object.keys(value).length === 0)
          const listless = Array.isArray(value) && value.length === 0
          const blank = typeof value === 'string' && value.trim() === ''
          const told = [...warned, ...issues].some((path) => path.split('.')[0] === name)
          const quiet = isObject(value) && Object.values(value).every((one) => one === null)
          assert.ok(told || empty || listless || blank || quiet, `${name} went without a word`)
        }
      },
    ),
    { numRuns: 3000, includeErrorInReport: true },
  )
})

test('version ranges', () => {
  const yes = [
    ['19.0.5', '>=10'],
    ['19.0.5', '^19.0.0'],
    ['19.0.5', '19.x'],
    ['19.0.5', '1 - 20'],
    ['19.0.5', '<1 || >= 19 <20'],
    ['19.0.5', '*'],
    ['v19.0.5', ''],
    ['5.10.104-tegra', '5.10.104'],
    ['0.2.9', '^0.2.3'],
    ['2.98.33+rev1', '~2.98'],
    ['1.2.3', '<=1.2'],
  ] as const
  for (const [version, range] of yes) assert.ok(inRange(version, range), `${version} ${range}`)
  const no = [
    ['19.0.5', '>=19.1'],
    ['19.0.5', '>19'],
    ['0.3.0', '^0.2.3'],
    ['1.3.0', '~1.2.3'],
    ['19.0.5', '18.x'],
    ['', '*'],
    ['x', '*'],
    ['1.2.3', 'banana'],
    ['1.2.3', '>='],
  ] as const
  for (const [version, range] of no) assert.ok(!inRange(version, range), `${version} ${range}`)
  fc.assert(fc.property(fc.string(), fc.string(), (a, b) => typeof inRange(a, b) === 'boolean'))
})
