import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import { nitroBootInfo, tdxBootInfo } from '../../plugins/kms/policy/boot-info.ts'
import { type EventLogEntry, parseEventLog } from '../../src/attest/event-log.ts'
import { verifyDocument } from '../../src/attest/nitro/verify.ts'
import { replay } from '../../src/attest/replay.ts'
import { runtimeEntry } from '../../src/attest/runtime-event.ts'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import { type TdxClaims, verifyQuote } from '../../src/attest/tdx/verify.ts'
import { hex, read, readJson, sharedVectors, unhex } from '../attest/vectors.ts'
import { nitroSample, SAMPLE_APP, SAMPLE_TIME, tdxSample } from '../helpers/evidence.ts'

const sha256 = (...parts: readonly Uint8Array[]) =>
  createHash('sha256').update(Buffer.concat(parts)).digest('hex')

const sample = tdxSample()
const verdict = verifyQuote(sample.quote(new Uint8Array(64)), {
  root: sample.root,
  at: SAMPLE_TIME,
  collateral: parseCollateral(sample.collateral),
})
assert.ok(verdict.accepted && verdict.claims?.platform && verdict.claims.tcb)
const { claims } = verdict
const { quote, platform, tcb } = verdict.claims

const event = (name: string, payload: Uint8Array) => runtimeEntry({ name, payload, version: 1 })

/** The claims of a TD that measured another log. */
const measuring = (log: readonly EventLogEntry[]): TdxClaims => ({
  ...claims,
  quote: { ...quote, rtmr: replay(log) },
})

test('a TD: what its quote, its platform and its log prove', () => {
  const info = tdxBootInfo(claims, sample.eventLog)
  assert.deepEqual(info, {
    teeVariant: 'dstack-tdx',
    mrAggregated: sha256(
      quote.mrtd,
      ...quote.rtmr,
      quote.mrConfigId,
      quote.mrOwner,
      quote.mrOwnerConfig,
    ),
    osImageHash: '',
    mrSystem: sha256(quote.mrtd, ...quote.rtmr.slice(0, 3), new Uint8Array(32)),
    appId: SAMPLE_APP.appId,
    composeHash: SAMPLE_APP.composeHash,
    instanceId: '',
    deviceId: sha256(platform?.ppid ?? new Uint8Array(0)),
    keyProviderInfo: '',
    tcbStatus: 'UpToDate',
    advisoryIds: [],
  })
  assert.deepEqual(Object.keys(JSON.parse(JSON.stringify(info))), [
    'teeVariant',
    'mrAggregated',
    'osImageHash',
    'mrSystem',
    'appId',
    'composeHash',
    'instanceId',
    'deviceId',
    'keyProviderInfo',
    'tcbStatus',
    'advisoryIds',
  ])
})

test('image hash, instance and key provider come from events alone', () => {
  const provider = Buffer.from('{"name":"kms","id":"ä"}')
  const log = [
    event('app-id', unhex('01'.repeat(20))),
    event('instance-id', unhex('02'.repeat(20))),
    event('boot-mr-done', unhex('')),
    event('key-provider', provider),
    event('os-image-hash', unhex('03'.repeat(32))),
    event('system-ready', unhex('')),
    event('compose-hash', unhex('04'.repeat(32))),
  ]
  const info = tdxBootInfo(measuring(log), log)
  assert.equal(info.instanceId, '02'.repeat(20))
  assert.equal(info.osImageHash, '03'.repeat(32))
  assert.equal(info.keyProviderInfo, hex(provider))
  assert.equal(info.composeHash, '', 'said by the application, after the system was ready')

  const boot = tdxBootInfo(measuring(log), log, 'boot-time')
  assert.equal(boot.keyProviderInfo, '')
  assert.equal(boot.osImageHash, '03'.repeat(32))
  assert.notEqual(boot.mrAggregated, info.mrAggregated)
  assert.notEqual(boot.mrSystem, info.mrSystem)
})

test('the TCB is an input of the policy, whatever it says', () => {
  const late = tcb && { ...tcb, status: 'OutOfDate', advisoryIds: ['INTEL-SA-1'] }
  const info = tdxBootInfo({ ...claims, tcb: late } as TdxClaims, sample.eventLog)
  assert.equal(info.tcbStatus, 'OutOfDate')
  assert.deepEqual(info.advisoryIds, ['INTEL-SA-1'])
})

test('a log that is not the one measured says nothing', () => {
  const added = [...sample.eventLog, event('os-image-hash', unhex('03'.repeat(32)))]
  const swapped = sample.eventLog.map((entry) =>
    entry.event === 'app-id' ? event('app-id', unhex('99'.repeat(20))) : entry,
  )
  for (const log of [added, swapped, sample.eventLog.slice(0, -1), []]) {
    for (const variant of ['full', 'boot-time'] as const) {
      assert.throws(() => tdxBootInfo(claims, log, variant), {
        name: 'EvidenceError',
        code: 'EVENT_LOG_MISMATCH',
      })
    }
  }
})

test('who is not verified, or no application, is nobody', () => {
  const log = sample.eventLog
  for (const missing of [{ platform: undefined }, { tcb: undefined }]) {
    assert.throws(() => tdxBootInfo({ ...claims, ...missing }, log), {
      name: 'EvidenceError',
      code: 'CLAIMS_INCOMPLETE',
    })
  }
  const anonymous = log.filter((entry) => entry.event !== 'app-id')
  assert.throws(() => tdxBootInfo(measuring(anonymous), anonymous), {
    code: 'APP_ID_MISSING',
    message: /app_id must be 20 bytes/,
  })
})

test('an enclave: its image is its identity', () => {
  const { root, document } = nitroSample()
  const judged = verifyDocument(document(), { root, at: SAMPLE_TIME })
  assert.ok(judged.accepted && judged.claims)
  const pcr = (index: number) => new Uint8Array(48).fill(index + 1)
  const image = sha256(pcr(0), pcr(1), pcr(2))
  assert.deepEqual(nitroBootInfo(judged.claims), {
    teeVariant: 'dstack-nitro-enclave',
    mrAggregated: image,
    osImageHash: image,
    mrSystem: image,
    appId: image.slice(0, 40),
    composeHash: image,
    instanceId: '',
    deviceId: sha256(pcr(4)),
    keyProviderInfo: '',
    tcbStatus: '',
    advisoryIds: [],
  })
})

test('an enclave whose registers say nothing', () => {
  const fixture = (name: string) => {
    const bytes = read(join(import.meta.dirname, '../fixtures/nitro', name))
    const { claims } = verifyDocument(bytes, { at: 'document', policy: { allowDebug: true } })
    assert.ok(claims)
    return claims
  }
  assert.throws(() => nitroBootInfo(fixture('blocky-2024-debug.cbor')), {
    name: 'EvidenceError',
    code: 'NITRO_DEBUG',
  })
  const real = fixture('dstack-2025.cbor')
  assert.match(nitroBootInfo(real).appId, /^[0-9a-f]{40}$/)
  assert.throws(() => nitroBootInfo({ ...real, image: undefined }), { code: 'PCR_MISSING' })
  const pcrs = new Map([...real.pcrs].filter(([index]) => index !== 4))
  assert.throws(() => nitroBootInfo({ ...real, pcrs }), { code: 'PCR_MISSING' })
})

test('real machines give the identities known of them', (t) => {
  const folder = sharedVectors(t, 'dstack')
  if (folder === undefined) return
  const expected = readJson(folder, 'expected.json')
  for (const file of ['tdx/quote-report.json', 'tdx/tdx-lite-getquote.json']) {
    const answer = readJson(folder, file)
    const judged = verifyQuote(unhex(answer.quote), {
      at: Date.parse(expected.quotes[file].pck_leaf_not_before),
      collateralRequired: false,
    })
    assert.ok(judged.claims)
    const real = { ...judged.claims, tcb }
    const log = parseEventLog(answer.event_log)
    for (const [variant, name] of [
      ['full', 'app_info_full'],
      ['boot-time', 'app_info_boottime'],
    ] as const) {
      const info = tdxBootInfo(real, log, variant)
      const known = expected.event_logs[file][name]
      assert.equal(info.appId, known.app_id)
      assert.equal(info.composeHash, known.compose_hash)
      assert.equal(info.instanceId, known.instance_id)
      assert.equal(info.mrSystem, known.mr_system)
      assert.equal(info.mrAggregated, known.mr_aggregated)
      assert.equal(info.keyProviderInfo, hex(Buffer.from(known.key_provider_info)))
      assert.equal(info.deviceId, sha256(unhex(expected.quotes[file].ppid)))
    }
  }
})
