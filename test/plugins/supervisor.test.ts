/** The plugin as the core sees it: contract, listeners, identity and permissions. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import * as v from 'valibot'
import { Config } from '../../plugins/supervisor/config.ts'
import { readIdentity } from '../../plugins/supervisor/identity.ts'
import supervisor from '../../plugins/supervisor/index.ts'
import { applyEnv } from '../../src/config/env.ts'
import { testPlugin } from '../../src/conformance/suite.ts'
import { needsOf } from '../../src/needs.ts'

test('it keeps the contract of plugins', async () => {
  const folder = resolve('plugins/supervisor')
  const results = await testPlugin(supervisor, { folder, builtin: true })
  assert.deepEqual(
    results.filter(({ ok }) => !ok),
    [],
  )
})

test('it needs the socket of the configuration, and registers where targets are measured', () => {
  const needs = (config: unknown) => needsOf(supervisor, v.parse(Config, config))
  assert.deepEqual(needs({}), { requires: 'path:/var/run/docker.sock', uses: [] })
  assert.deepEqual(needs({ engine_socket: '/run/e.sock', measure_target: true }), {
    requires: { all: ['path:/run/e.sock', { any: ['tdx', 'nsm'] }] },
    uses: ['attestation'],
  })
})

test('it listens on its own address, and later on that of the network of containers', () => {
  const addresses = (config: unknown) => {
    const { addresses } = supervisor
    assert.equal(typeof addresses, 'function')
    return (addresses as (config: unknown) => unknown)(v.parse(Config, config))
  }
  assert.deepEqual(addresses({}), [
    { address: '127.0.0.1:48484' },
    { address: '10.114.104.1:48484', late: true },
  ])
  assert.deepEqual(addresses({ host: '::1', port: 1, network: { listen: false } }), [
    { address: '[::1]:1' },
  ])
  assert.deepEqual(addresses({ host: '0.0.0.0' }), [{ address: '0.0.0.0:48484' }])
})

test('BALENA_SUPERVISOR_PORT counts where nothing else gives a port', () => {
  const env = { BALENA_SUPERVISOR_PORT: '1234' }
  const port = (table: object, more = {}) => {
    const { plugins } = applyEnv(table as never, { ...env, ...more }) as {
      plugins: { supervisor: { port: unknown } }
    }
    return plugins.supervisor.port
  }
  assert.equal(port({}), 1234)
  assert.equal(port({ plugins: { supervisor: { strict: true } } }), 1234)
  assert.equal(port({ plugins: { supervisor: { port: 5 } } }), 5)
  assert.equal(port({}, { CVMD_PLUGINS__SUPERVISOR__PORT: '6' }), 6)
  assert.deepEqual(applyEnv({}, { BALENA_SUPERVISOR_PORT: '' }), {})
})

test('a configuration that cannot be meant is refused with its place', () => {
  const refused = (config: unknown, path: string) => {
    const result = v.safeParse(Config, config)
    const places = result.issues?.map((issue) => v.getDotPath(issue))
    assert.ok(places?.includes(path), `${JSON.stringify(config)}: ${places}`)
  }
  refused({ port: 0 }, 'port')
  refused({ engine_socket: 'docker.sock' }, 'engine_socket')
  refused({ network: { gateway: '10.0.0.1' } }, 'network')
  refused({ network: { gateway: '10.114.104.0' } }, 'network')
  refused({ target_file: '/a', target_url: { url: 'http://b/' } }, 'target_url')
  refused({ target_url: { url: 'https://user:password@b/' } }, 'target_url.url')
  refused({ report: { url: 'ftp://b/' } }, 'report.url')
  refused({ rollback: { stable_s: 20, timeout_s: 10 } }, 'rollback')
  refused({ peers: { ZZ: { url: 'http://b', key: { file: '/k' } } } }, 'peers.ZZ')
  refused({ capabilities: { all: ['everything'] } }, 'capabilities.all.0')
  refused({ machine: { reboot: [] } }, 'machine.reboot')
})

test('permissions name the files, hosts and programs of the configuration', () => {
  const config = v.parse(Config, {
    engine_socket: '/run/e.sock',
    target_url: { url: 'https://api.example/state', token: { file: '/run/token' } },
    peers: { aa: { url: 'http://10.0.0.2:48484', key: { file: '/run/key' } } },
    machine: { root: '/host', reboot: ['/sbin/reboot'] },
  })
  const found = supervisor.permissions?.(config)
  assert.deepEqual(found?.net, ['unix:/run/e.sock', 'api.example:443', '10.0.0.2:48484'])
  assert.deepEqual(found?.run, ['/sbin/reboot', 'systemctl', 'journalctl', '/bin/kill'])
  for (const path of ['/run/token', '/run/key', '/host/etc/hostname']) {
    assert.ok(found?.read?.includes(path), path)
  }
  assert.ok(found?.write?.includes('/host/mnt/boot/system-proxy'))
  const dry = supervisor.permissions?.(v.parse(Config, { machine: { dry_run: true } }))
  assert.equal(dry?.write?.includes('/etc/hostname'), false)
})

test('the UUID of the device is made once, and a damaged file is no reason for another', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  try {
    const first = await readIdentity(folder, {})
    assert.match(first.uuid, /^[0-9a-f]{32}$/)
    assert.deepEqual(await readIdentity(folder, {}), first)
    assert.equal(readFileSync(join(folder, 'device-uuid'), 'utf8'), `${first.uuid}\n`)
    assert.equal((await readIdentity(folder, { uuid: 'ab', name: 'n', id: 3 })).uuid, 'ab')
    writeFileSync(join(folder, 'device-uuid'), 'nonsense')
    await assert.rejects(readIdentity(folder, {}), /restore the file, or set device.uuid/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
