import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { configIdV1, configIdV2 } from '../../src/attest/config-id.ts'
import { readContainer } from '../../src/attest/container.ts'
import { type EventLogEntry, parseEventLog } from '../../src/attest/event-log.ts'
import {
  type AppInfo,
  appInfo,
  defaultAppId,
  deviceId,
  instanceId,
  mrAggregated,
  mrSystem,
  nitroDeviceId,
  nitroImageHash,
  tdPolicyFacts,
} from '../../src/attest/identity.ts'
import { replay } from '../../src/attest/replay.ts'
import { runtimeEntry } from '../../src/attest/runtime-event.ts'
import type { TdxRegisters } from '../../src/device/devices.ts'
import { hex, read, readJson, registersOf, sharedVectors, unhex } from './vectors.ts'

const value = (byte: number) => new Uint8Array(48).fill(byte)

const PLAIN: TdxRegisters = {
  mrtd: value(1),
  mrConfigId: value(0),
  mrOwner: value(0),
  mrOwnerConfig: value(0),
  rtmr: [value(2), value(3), value(4), value(5)],
}

const sha256 = (...parts: Uint8Array[]) =>
  createHash('sha256').update(Buffer.concat(parts)).digest('hex')

const entry = (name: string, payload: string) =>
  runtimeEntry({ name, payload: unhex(payload), version: 1 })

const BOOT = [
  entry('app-id', 'aa'.repeat(20)),
  entry('instance-id', ''),
  entry('boot-mr-done', ''),
  entry('key-provider', hex(Buffer.from('{"name":"kms","id":""}'))),
  entry('system-ready', ''),
]

test('the aggregate takes the configuration registers only when one of them is set', () => {
  const five = [1, 2, 3, 4, 5].map(value)
  assert.equal(hex(mrAggregated(PLAIN)), sha256(...five))
  const owned = { ...PLAIN, mrOwner: value(9) }
  assert.equal(hex(mrAggregated(owned)), sha256(...five, value(0), value(9), value(0)))
  assert.equal(hex(mrAggregated(PLAIN, value(7))), sha256(...[1, 2, 3, 4, 7].map(value)))
})

test('the system measurement ends in the key provider, or zeros', () => {
  const four = [1, 2, 3, 4].map(value)
  assert.equal(hex(mrSystem(PLAIN)), sha256(...four, new Uint8Array(32)))
  const provider = Buffer.from('{}')
  assert.equal(hex(mrSystem(PLAIN, provider)), sha256(...four, unhex(sha256(provider))))
})

test('what an application says after system-ready is not the system speaking', () => {
  const late = entry('app-id', 'bb'.repeat(20))
  const info = appInfo([...BOOT, late], PLAIN)
  assert.equal(hex(info.appId), 'aa'.repeat(20))
  assert.equal(
    appInfo([...BOOT, entry('compose-hash', 'cc'.repeat(32))], PLAIN).composeHash,
    undefined,
  )
  // It is in RTMR3 all the same.
  assert.notDeepEqual(info.rtmr3, appInfo(BOOT, PLAIN).rtmr3)
  assert.equal(info.instanceId?.length, 0)
  assert.equal(info.keyProvider, '{"name":"kms","id":""}')
})

test('the boot-time variant ends at boot-mr-done', () => {
  const boot = appInfo(BOOT, PLAIN, 'boot-time')
  assert.equal(boot.keyProvider, undefined)
  assert.deepEqual(boot.rtmr3, appInfo(BOOT.slice(0, 3), PLAIN).rtmr3)
  assert.deepEqual(boot.mrSystem, mrSystem(PLAIN))
})

test('a boot entry that calls itself app-id is not a runtime event', () => {
  const posing: EventLogEntry = { ...entry('app-id', 'bb'.repeat(20)), imr: 0, event_type: 6 }
  assert.equal(hex(appInfo([posing, ...BOOT], PLAIN).appId), 'aa'.repeat(20))
  assert.equal(appInfo([posing], PLAIN).appId, undefined)
})

test('two answers to one question, or one of a wrong length, are refused', () => {
  const [first] = BOOT as [EventLogEntry]
  assert.equal(hex(appInfo([first, first], PLAIN).appId), 'aa'.repeat(20))
  assert.throws(() => appInfo([first, entry('app-id', 'bb'.repeat(20))], PLAIN), {
    code: 'EVENT_CONFLICT',
  })
  assert.throws(() => appInfo([entry('app-id', 'aa')], PLAIN), { code: 'EVENT_LOG_INVALID' })
})

test('a longer name cannot hide what the system said', () => {
  // Both have the digest of the boot's own event, and so replay to the same register.
  const provider = entry('key-provider', hex(Buffer.from('{"name":"kms"}')))
  const hiding = entry('key-provider:{"name"', hex(Buffer.from('"kms"}')))
  assert.equal(hiding.digest, provider.digest)
  assert.throws(() => appInfo([hiding], PLAIN), { code: 'EVENT_AMBIGUOUS' })
  const late = [...BOOT, entry('key-provider:x', ''), entry('other:x', '')]
  assert.equal(appInfo(late, PLAIN).keyProvider, '{"name":"kms","id":""}')
})

test('a digest without its name cannot hide what the system said', () => {
  const nameless = (shown: EventLogEntry): EventLogEntry => {
    return { ...shown, event_type: 6, event: '', event_payload: '' }
  }
  const hidden = BOOT.map(nameless)
  // Measured by an application once it ran, and shown as if it were the boot.
  const late = [entry('app-id', 'bb'.repeat(20)), entry('system-ready', '')]
  assert.deepEqual(replay([...hidden, ...late]), replay([...BOOT, ...late]))
  for (const variant of ['full', 'boot-time'] as const) {
    const log = [...hidden, ...late]
    assert.throws(() => appInfo(log, PLAIN, variant), { code: 'EVENT_AMBIGUOUS' })
  }
  const shifted = [...BOOT.slice(0, 4), ...hidden.slice(4), entry('os-image-hash', 'cc'.repeat(32))]
  assert.throws(() => appInfo(shifted, PLAIN), { code: 'EVENT_AMBIGUOUS' })
  const longer = [...BOOT.slice(0, 4), entry('system-ready:', '')]
  assert.throws(() => appInfo(longer, PLAIN), { code: 'EVENT_AMBIGUOUS' })
  // After the boot, and in a guest whose system says nothing, other software may measure.
  assert.equal(hex(appInfo([...BOOT, ...hidden], PLAIN).appId), 'aa'.repeat(20))
  assert.equal(appInfo(hidden, PLAIN).appId, undefined)
})

test('a key provider that is no text is refused, not repaired', () => {
  const provider = (payload: string) => appInfo([entry('key-provider', payload)], PLAIN).keyProvider
  assert.equal(provider(hex(Buffer.from('{"id":"é"}'))), '{"id":"é"}')
  assert.throws(() => provider('7b22ff227d'), { code: 'EVENT_LOG_INVALID' })
})

test('ids are cut hashes', () => {
  assert.equal(hex(defaultAppId(unhex('ab'.repeat(32)))), 'ab'.repeat(20))
  const [seed, appId, binding] = [unhex('01'), unhex('02'), unhex('03')]
  assert.equal(hex(instanceId(seed, appId)), sha256(seed, appId).slice(0, 40))
  assert.equal(hex(instanceId(seed, appId, binding)), sha256(seed, appId, binding).slice(0, 40))
  assert.equal(hex(deviceId(seed)), sha256(seed))
})

test('the configuration id has a version, a hash and zeros', () => {
  const composeHash = unhex('ab'.repeat(32))
  assert.equal(hex(configIdV1(composeHash)), `01${'ab'.repeat(32)}${'00'.repeat(15)}`)
  const empty = new Uint8Array(0)
  const id = { composeHash: empty, appId: empty, kind: 'none', providerId: empty } as const
  // Keccak-256 of one zero byte, as Ethereum has it.
  const zeroByte = 'bc36789e7a1e281436464229828f817d6612f7b477d66591ff96a9e064bcc98a'
  assert.equal(hex(configIdV2(id)), `02${zeroByte}${'00'.repeat(15)}`)
  assert.notDeepEqual(configIdV2({ ...id, kind: 'kms' }), configIdV2(id))
})

test('a policy sees debugging, foreign modules and service TDs', () => {
  const td = { tdAttributes: unhex('0000001000000000'), mrSignerSeam: value(0) }
  const none = { debug: false, underDebug: false, foreignModule: false, serviceTd: false }
  assert.deepEqual(tdPolicyFacts(td), none)
  assert.deepEqual(tdPolicyFacts({ ...td, tdAttributes: unhex('0100000000000000') }), {
    ...none,
    debug: true,
    underDebug: true,
  })
  assert.equal(tdPolicyFacts({ ...td, tdAttributes: unhex('8000000000000000') }).underDebug, true)
  assert.equal(tdPolicyFacts({ ...td, mrSignerSeam: value(1) }).foreignModule, true)
  assert.equal(tdPolicyFacts({ ...td, mrServiceTd: value(1) }).serviceTd, true)
  assert.equal(tdPolicyFacts({ ...td, mrServiceTd: value(0) }).serviceTd, false)
})

test('on Nitro the image and the parent instance give the ids', () => {
  const pcrs = new Map([0, 1, 2, 4].map((index) => [index, value(index)]))
  assert.equal(hex(nitroImageHash(pcrs)), sha256(value(0), value(1), value(2)))
  assert.equal(hex(nitroDeviceId(pcrs)), sha256(value(4)))
  pcrs.delete(1)
  assert.throws(() => nitroImageHash(pcrs), { code: 'PCR_MISSING' })
})

test('real machines give the identities known of them', (t) => {
  const dir = sharedVectors(t, 'dstack')
  if (dir === undefined) return
  const expected = readJson(dir, 'expected.json')
  for (const file of ['tdx/quote-report.json', 'tdx/tdx-lite-getquote.json']) {
    const log = parseEventLog(readJson(dir, file).event_log)
    checkInfo(log, registersOf(expected.quotes[file]), expected.event_logs[file])
  }
  const files = {
    'simulator/attestation.bin': read(dir, 'simulator/attestation.bin'),
    'tdx/tdx-lite-attestation.json': unhex(
      readJson(dir, 'tdx/tdx-lite-attestation.json').attestation,
    ),
  }
  for (const [file, bytes] of Object.entries(files)) {
    const { platform } = readContainer(bytes)
    assert.equal(platform.kind, 'tdx')
    const known = expected.versioned_attestations[file]
    const registers = registersOf(known.quote)
    checkInfo(platform.eventLog, registers, known)
    assert.equal(
      hex(appInfo(platform.eventLog, registers, 'boot-time').rtmr3),
      known.rtmr3_boottime,
    )
    const { composeHash } = appInfo(platform.eventLog, registers)
    assert.deepEqual(configIdV1(composeHash as Uint8Array), registers.mrConfigId)
  }
})

function checkInfo(
  log: readonly EventLogEntry[],
  registers: TdxRegisters,
  known: Record<string, Record<string, string>>,
): void {
  for (const [variant, name] of [
    ['full', 'app_info_full'],
    ['boot-time', 'app_info_boottime'],
  ] as const) {
    // The expected image hash is what the configuration claims, measured only by newer guests.
    const { os_image_hash: _, ...rest } = known[name] as Record<string, string>
    assert.deepEqual(asKnown(appInfo(log, registers, variant)), rest)
  }
}

function asKnown(info: AppInfo): Record<string, string> {
  return {
    app_id: hex(info.appId),
    compose_hash: hex(info.composeHash),
    instance_id: hex(info.instanceId),
    key_provider_info: info.keyProvider ?? '',
    mr_system: hex(info.mrSystem),
    mr_aggregated: hex(info.mrAggregated),
    rtmr3_used: hex(info.rtmr3),
  }
}
