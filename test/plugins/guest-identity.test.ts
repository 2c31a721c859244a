import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import * as v from 'valibot'
import type { Identity } from '../../plugins/guest/identity.ts'
import guest from '../../plugins/guest/index.ts'
import { measureIdentity } from '../../plugins/guest/system-events.ts'
import { appInfo } from '../../src/attest/identity.ts'
import { simulatedMachine } from '../helpers/simulated-machine.ts'
import { vectors } from '../helpers/vectors.ts'
import { clearUp, filesWith, guestOn, hexOf } from './guest-host.ts'

after(clearUp)

const sha256 = (...parts: (string | Uint8Array)[]) => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

const APP_ID = 'ab'.repeat(20)
const IMAGE = 'cd'.repeat(32)

test('what is configured comes before what follows from the files', async () => {
  const folder = filesWith({
    'app.json': '{"name":"app","no_instance_id":true}',
    'sys.json': JSON.stringify({ vm_config: JSON.stringify({ os_image_hash: '11'.repeat(32) }) }),
  })
  const files = { app_compose: join(folder, 'app.json'), sys_config: join(folder, 'sys.json') }
  const [, plain] = await (await guestOn('tdx', files)).json('/Info')
  assert.equal(plain.app_id, sha256('{"name":"app","no_instance_id":true}').slice(0, 40))
  assert.deepEqual([plain.instance_id, plain.os_image_hash], ['', '11'.repeat(32)])
  const ids = { app_id: APP_ID, os_image_hash: IMAGE, no_instance_id: false }
  const config = { ...files, ...ids, measure_identity: false }
  const host = await guestOn('tdx', config)
  const [, set] = await host.json('/Info')
  assert.deepEqual([set.app_id, set.os_image_hash], [APP_ID, IMAGE])
  const seed = readFileSync(join(host.stateDir, 'instance-seed'))
  assert.equal(seed.length, 20)
  assert.equal(statSync(join(host.stateDir, 'instance-seed')).mode & 0o777, 0o600)
  const expected = sha256(seed, Buffer.from(APP_ID, 'hex')).slice(0, 40)
  assert.equal(set.instance_id, expected)
  // The seed stays, and the id with it.
  await host.start()
  assert.equal((await host.json('/Info'))[1].instance_id, expected)
})

test('without any file the application has no name, and the ids of an empty description', async () => {
  const [, info] = await (await guestOn('tdx')).json('/Info')
  assert.equal(info.app_name, '')
  assert.equal(info.compose_hash, sha256(''))
  assert.equal(info.app_id, sha256('').slice(0, 40))
  assert.deepEqual([info.vm_config, info.os_image_hash, info.key_provider_info], ['', '', ''])
})

test('files that are not what they should be stop the start, and are named', async () => {
  const folder = filesWith({
    text: 'no JSON',
    list: '[]',
    latin1: new Uint8Array([0x7b, 0xff, 0x7d]),
    long: `{"x":"${' '.repeat(1024 * 1024)}"}`,
    number: '{"vm_config":1}',
    inner: '{"vm_config":"no JSON"}',
    image: JSON.stringify({ vm_config: '{"os_image_hash":"xyz"}' }),
  })
  mkdirSync(join(folder, 'folder'))
  const both = ['app_compose', 'sys_config'] as const
  for (const [keys, name, complaint] of [
    [both, 'missing', /^Error: Cannot read ".*\/missing": ENOENT/],
    [both, 'folder', /^Error: Cannot read ".*\/folder": /],
    [both, 'text', /^Error: Cannot use ".*\/text": /],
    [both, 'list', /^Error: Cannot use ".*\/list": expected a JSON object$/],
    [both, 'latin1', /^Error: Cannot read ".*\/latin1": it is no UTF-8 text$/],
    [both, 'long', /^Error: Cannot read ".*\/long": it has more than 1048576 bytes$/],
    [['sys_config'], 'number', /^Error: Cannot use ".*\/number": vm_config is not JSON text/],
    [['sys_config'], 'inner', /^Error: Cannot use vm_config of ".*\/inner": /],
    [['sys_config'], 'image', /^Error: Cannot use vm_config of ".*image": os_image_hash is not/],
  ] as const) {
    for (const key of keys) {
      await assert.rejects(guestOn('tdx', { [key]: join(folder, name) }), complaint)
    }
  }
})

test('a damaged seed is not replaced: the instance would become another one', async () => {
  const host = await guestOn('tdx', { measure_identity: false })
  const file = join(host.stateDir, 'instance-seed')
  writeFileSync(file, 'short')
  await assert.rejects(host.start(), /^Error: Cannot use the seed .*instance-seed": it has 5 bytes/)
  assert.equal(readFileSync(file, 'utf8'), 'short')
})

test('the configuration takes lower-case hex of the right length', () => {
  const good = { app_id: APP_ID, os_image_hash: IMAGE, key_provider: { name: 'none' } }
  assert.ok(v.safeParse(guest.config, good).success)
  for (const wrong of [
    { app_id: 'AB'.repeat(20) },
    { app_id: 'ab'.repeat(19) },
    { os_image_hash: '' },
    { key_provider: { name: 'vault' } },
    { key_provider: { name: 'kms', id: 'abc' } },
    { app_compose: 'relative.json' },
    { attestations_per_minute: 0 },
    { unknown: 1 },
  ]) {
    assert.ok(!v.safeParse(guest.config, wrong).success, JSON.stringify(wrong))
  }
})

test("a simulated machine measures who the application is, in the order of dstack's boot", async () => {
  const host = await guestOn('tdx', { app_id: APP_ID, os_image_hash: IMAGE })
  const { attester } = host.machine
  const log = await attester.runtimeEvents.list()
  assert.deepEqual(
    log.map(({ event }) => event),
    [
      ...['system-preparing', 'app-id', 'compose-hash', 'instance-id', 'boot-mr-done'],
      ...['os-image-hash', 'key-provider', 'system-ready'],
    ],
  )
  const registers = await attester.tdx?.registers()
  assert.ok(registers)
  const measured = appInfo(await attester.eventLog(), registers)
  const [, info] = await host.json('/Info')
  assert.equal(hexOf(measured.appId ?? new Uint8Array()), info.app_id)
  assert.equal(hexOf(measured.composeHash ?? new Uint8Array()), info.compose_hash)
  assert.equal(hexOf(measured.instanceId ?? new Uint8Array()), info.instance_id)
  assert.equal(hexOf(measured.osImageHash ?? new Uint8Array()), info.os_image_hash)
  assert.equal(hexOf(measured.mrAggregated), info.mr_aggregated)
  assert.equal(measured.keyProvider, '{"name":"none","id":""}')
  // A second start has nothing to add.
  await host.start()
  assert.equal((await attester.runtimeEvents.list()).length, log.length)
  const without = await guestOn('tdx', { measure_identity: false })
  assert.deepEqual(await without.machine.attester.runtimeEvents.list(), [])
})

test('a measurement of the identity that was interrupted goes on, another log is left alone', async () => {
  const machine = await simulatedMachine('tdx')
  const identity = {
    appId: APP_ID,
    composeHash: IMAGE,
    instanceId: '',
    osImageHash: '',
  } as Identity
  let extended = 0
  machine.fault = ({ operation, path }) =>
    operation === 'write' && path.endsWith('/rtmr3:sha384') && ++extended > 2 ? 'EIO' : undefined
  await assert.rejects(measureIdentity(machine.attester, identity), { code: 'DEVICE_FAILED' })
  machine.fault = () => undefined
  const names = async () => (await machine.attester.runtimeEvents.list()).map(({ event }) => event)
  assert.deepEqual(await names(), ['system-preparing', 'app-id'])
  await measureIdentity(machine.attester, { ...identity, appId: '00'.repeat(20) })
  assert.equal((await names()).length, 2, 'that is another application')
  await measureIdentity(machine.attester, identity)
  assert.deepEqual((await names()).slice(-2), ['key-provider', 'system-ready'])
})

test('what the boot measured goes before what follows from files, and a contradiction is told', async () => {
  const machine = await simulatedMachine('tdx')
  const boot = {
    'app-id': APP_ID,
    'compose-hash': 'ef'.repeat(32),
    'instance-id': '12'.repeat(20),
    'os-image-hash': IMAGE,
    'system-ready': '',
    // Only what comes before is of the system.
    'os-image-hash ': '00',
  }
  for (const [name, payload] of Object.entries(boot)) {
    await machine.attester.runtimeEvents.emit(name, Buffer.from(payload, 'hex'))
  }
  const folder = filesWith({
    'app.json': '{}',
    'sys.json': JSON.stringify({ vm_config: JSON.stringify({ os_image_hash: '11'.repeat(32) }) }),
  })
  const files = { app_compose: join(folder, 'app.json'), sys_config: join(folder, 'sys.json') }
  const host = await guestOn('tdx', files, { machine })
  const [, info] = await host.json('/Info')
  assert.deepEqual(
    [info.app_id, info.instance_id, info.os_image_hash, info.compose_hash],
    [APP_ID, '12'.repeat(20), IMAGE, sha256('{}')],
  )
  assert.deepEqual(host.messages(), ['the boot measured another compose-hash than is configured'])
  const other = await guestOn('tdx', { ...files, app_id: '00'.repeat(20) }, { machine })
  assert.equal((await other.json('/Info'))[1].app_id, '00'.repeat(20))
  assert.match(other.messages()[0] ?? '', /another app-id than is configured/)
  // The boot's log is left as it is.
  assert.equal((await machine.attester.runtimeEvents.list()).length, Object.keys(boot).length)
})

test("the files of dstack's simulator give the ids that its own agent says", async (t) => {
  const folder = vectors('dstack')
  if (folder === undefined) return t.skip('needs the shared vectors')
  const file = (name: string) => join(folder, 'simulator', name)
  const config = { app_compose: file('app-compose.json'), sys_config: file('sys-config.json') }
  const [, info] = await (await guestOn('tdx', config)).json('/Info')
  assert.equal(info.app_name, 'guest-agent')
  assert.equal(info.compose_hash, sha256(readFileSync(file('app-compose.json'))))
  assert.match(info.os_image_hash ?? '', /^64f0d154/)
  assert.equal(JSON.parse(info.vm_config ?? '').cpu_count, 1)
})
