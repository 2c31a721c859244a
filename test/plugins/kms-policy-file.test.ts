import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import type { BootInfo } from '../../plugins/kms/policy/boot-info.ts'
import { filePolicy } from '../../plugins/kms/policy/file.ts'
import type { PolicyError } from '../../plugins/kms/policy/policy.ts'
import { BOOT_INFO, temporaryFile } from './kms-policy-fixtures.ts'

/** Everything that {@link BOOT_INFO} measured, and nothing else. */
const REGISTERED = {
  gatewayAppId: '0xgateway',
  osImages: [BOOT_INFO.osImageHash],
  kms: { mrAggregated: [BOOT_INFO.mrAggregated], devices: [BOOT_INFO.deviceId] },
  apps: {
    [BOOT_INFO.appId]: { composeHashes: [BOOT_INFO.composeHash], devices: [BOOT_INFO.deviceId] },
  },
}
const APPROVED = { allowed: true, gatewayAppId: '0xgateway' } as const
const OTHER = '99'.repeat(32)

type Contents = Record<string, unknown>

const policyOf = (t: TestContext, contents: Contents | string) => {
  const text = typeof contents === 'string' ? contents : JSON.stringify(contents)
  const path = temporaryFile(t, 'policy.json', text)
  return { path, policy: filePolicy(path) }
}

const appOf = (change: Contents) => ({
  ...REGISTERED,
  apps: { [BOOT_INFO.appId]: { ...REGISTERED.apps[BOOT_INFO.appId], ...change } },
})
const kmsOf = (change: Contents) => ({ ...REGISTERED, kms: { ...REGISTERED.kms, ...change } })

test('who is registered is allowed, as application and as KMS', async (t) => {
  const { policy } = policyOf(t, REGISTERED)
  assert.deepEqual(await policy.app(BOOT_INFO), { ...APPROVED, keys: undefined })
  assert.deepEqual(await policy.kms(BOOT_INFO), APPROVED)
})

const DENIALS: readonly [
  role: 'app' | 'kms' | 'both',
  reason: string,
  code: 'UNAUTHORIZED' | 'MEASUREMENT_NOT_FOUND',
  info: Partial<BootInfo>,
  contents?: Contents,
][] = [
  ['both', 'TCB status is not allowed', 'UNAUTHORIZED', { tcbStatus: 'OutOfDate' }],
  ['both', 'TCB status is not allowed', 'UNAUTHORIZED', { tcbStatus: '' }],
  ['both', 'TCB status is not allowed', 'UNAUTHORIZED', { tcbStatus: 'uptodate' }],
  [
    'both',
    'TCB status is not allowed',
    'UNAUTHORIZED',
    {},
    { ...REGISTERED, allowedTcbStatuses: [] },
  ],
  ['both', 'advisory ID is not allowed', 'UNAUTHORIZED', { advisoryIds: ['INTEL-SA-1'] }],
  [
    'both',
    'advisory ID is not allowed',
    'UNAUTHORIZED',
    { advisoryIds: ['INTEL-SA-1', 'INTEL-SA-2'] },
    { ...REGISTERED, allowedAdvisoryIds: ['INTEL-SA-1'] },
  ],
  ['both', 'OS image is not allowed', 'MEASUREMENT_NOT_FOUND', { osImageHash: OTHER }],
  ['both', 'OS image is not allowed', 'MEASUREMENT_NOT_FOUND', { osImageHash: '' }],
  ['both', 'OS image is not allowed', 'MEASUREMENT_NOT_FOUND', {}, { ...REGISTERED, osImages: [] }],
  [
    'both',
    'system MR not allowed',
    'MEASUREMENT_NOT_FOUND',
    {},
    { ...REGISTERED, mrSystem: [OTHER] },
  ],
  ['both', 'system MR not allowed', 'MEASUREMENT_NOT_FOUND', {}, { ...REGISTERED, mrSystem: [] }],
  ['kms', 'aggregated MR not allowed', 'MEASUREMENT_NOT_FOUND', { mrAggregated: OTHER }],
  ['kms', 'aggregated MR not allowed', 'MEASUREMENT_NOT_FOUND', {}, { ...REGISTERED, kms: {} }],
  ['kms', 'KMS is not allowed to boot on this device', 'UNAUTHORIZED', { deviceId: OTHER }],
  [
    'kms',
    'KMS is not allowed to boot on this device',
    'UNAUTHORIZED',
    {},
    kmsOf({ devices: [], allowAnyDevice: false }),
  ],
  ['app', 'app not registered', 'MEASUREMENT_NOT_FOUND', { appId: '99'.repeat(20) }],
  ['app', 'app not registered', 'MEASUREMENT_NOT_FOUND', {}, { ...REGISTERED, apps: {} }],
  ['app', 'compose hash not allowed', 'MEASUREMENT_NOT_FOUND', { composeHash: OTHER }],
  ['app', 'compose hash not allowed', 'MEASUREMENT_NOT_FOUND', { composeHash: '' }],
  ['app', 'compose hash not allowed', 'MEASUREMENT_NOT_FOUND', {}, appOf({ composeHashes: [] })],
  ['app', 'app is not allowed to boot on this device', 'UNAUTHORIZED', { deviceId: OTHER }],
  [
    'app',
    'app is not allowed to boot on this device',
    'UNAUTHORIZED',
    {},
    appOf({ devices: [], allowAnyDevice: false }),
  ],
  [
    'app',
    'app is not allowed to boot on this device',
    'UNAUTHORIZED',
    {},
    appOf({ devices: undefined }),
  ],
]

for (const [role, reason, code, info, contents = REGISTERED] of DENIALS) {
  const told = [JSON.stringify(info), contents === REGISTERED ? '' : ' in another file'].join('')
  test(`${role}: ${reason}, for ${told}`, async (t) => {
    const { policy } = policyOf(t, contents)
    for (const one of role === 'both' ? (['app', 'kms'] as const) : [role]) {
      const decision = await policy[one]({ ...BOOT_INFO, ...info })
      assert.deepEqual(decision, { allowed: false, reason, code })
    }
  })
}

test('an empty file registers nobody', async (t) => {
  const { policy } = policyOf(t, {})
  assert.equal((await policy.app(BOOT_INFO)).allowed, false)
  assert.equal((await policy.kms(BOOT_INFO)).allowed, false)
})

test('what the file widens is allowed', async (t) => {
  const cases: readonly [Partial<BootInfo>, Contents][] = [
    [{ deviceId: OTHER }, appOf({ devices: [], allowAnyDevice: true })],
    [{ tcbStatus: 'OutOfDate' }, { ...REGISTERED, allowedTcbStatuses: ['OutOfDate'] }],
    [{ tcbStatus: '' }, { ...REGISTERED, allowedTcbStatuses: ['UpToDate', ''] }],
    [{ advisoryIds: ['A', 'B'] }, { ...REGISTERED, allowedAdvisoryIds: ['B', 'A'] }],
    [{}, { ...REGISTERED, mrSystem: [OTHER, BOOT_INFO.mrSystem] }],
  ]
  for (const [info, contents] of cases) {
    const { policy } = policyOf(t, contents)
    assert.equal((await policy.app({ ...BOOT_INFO, ...info })).allowed, true)
  }
  const anyDevice = policyOf(t, kmsOf({ allowAnyDevice: true })).policy
  assert.equal((await anyDevice.kms({ ...BOOT_INFO, deviceId: OTHER })).allowed, true)
})

test('hex counts by its value: upper or lower case, with 0x or without', async (t) => {
  const spellings = [
    (text: string) => text.toUpperCase(),
    (text: string) => `0x${text}`,
    (text: string) => `0X${text.toUpperCase()}`,
  ]
  for (const spell of spellings) {
    const list = (text: string) => [spell(text)]
    const { policy } = policyOf(t, {
      osImages: list(BOOT_INFO.osImageHash),
      mrSystem: list(BOOT_INFO.mrSystem),
      kms: { mrAggregated: list(BOOT_INFO.mrAggregated), devices: list(BOOT_INFO.deviceId) },
      apps: {
        [spell(BOOT_INFO.appId)]: {
          composeHashes: list(BOOT_INFO.composeHash),
          devices: list(BOOT_INFO.deviceId),
        },
      },
    })
    assert.equal((await policy.app(BOOT_INFO)).allowed, true)
    assert.equal((await policy.kms(BOOT_INFO)).allowed, true)
  }
})

test('names of keys go with the approval of their application', async (t) => {
  const keys = ['my-api-key', 'wallet/ethereum']
  const { policy } = policyOf(t, appOf({ keys }))
  assert.deepEqual(await policy.app(BOOT_INFO), { ...APPROVED, keys })
  const none = policyOf(t, appOf({ keys: [] })).policy
  assert.deepEqual(await none.app(BOOT_INFO), { ...APPROVED, keys: [] })
})

const text = JSON.stringify(REGISTERED)
const MALFORMED: Record<string, string> = {
  'no JSON': '{',
  empty: '',
  'cut off': text.slice(0, -1),
  'a list': '[]',
  null: 'null',
  'not UTF-8': 'latin1',
  'osImages as text': '{"osImages":"aa"}',
  'a hash that is too short': '{"osImages":["0xab"]}',
  'an empty hash': '{"osImages":[""]}',
  'only a prefix': '{"osImages":["0x"]}',
  'a hash that is no hex': JSON.stringify({ osImages: ['zz'.repeat(32)] }),
  'an app id that is no hex': '{"apps":{"myapp":{}}}',
  'an app id of 32 bytes': JSON.stringify({ apps: { [OTHER]: {} } }),
  'one app twice': JSON.stringify({
    apps: { ['ab'.repeat(20)]: {}, [`0x${'AB'.repeat(20)}`]: {} },
  }),
  'a misspelt member': JSON.stringify(appOf({ key: ['only-this'] })),
  'a member nobody knows': JSON.stringify({ ...REGISTERED, mrSystems: [] }),
  'allowAnyDevice as text': JSON.stringify(appOf({ allowAnyDevice: 'false' })),
  'keys as text': JSON.stringify(appOf({ keys: 'all' })),
  'statuses as text': JSON.stringify({ ...REGISTERED, allowedTcbStatuses: 'UpToDate' }),
}

for (const [name, contents] of Object.entries(MALFORMED)) {
  test(`malformed file: ${name}`, async (t) => {
    const { path, policy } = policyOf(t, contents)
    if (contents === 'latin1') writeFileSync(path, Buffer.from('{"gatewayAppId":"\xe9"}', 'latin1'))
    const { app, kms, describe } = policy
    for (const ask of [() => app(BOOT_INFO), () => kms(BOOT_INFO), () => describe()]) {
      await assert.rejects(ask, (error: PolicyError) => {
        assert.deepEqual([error.name, error.code], ['PolicyError', 'POLICY_SETUP'])
        assert.ok(error.message.startsWith(`Cannot use "${path}": `), error.message)
        return true
      })
    }
  })
}

test('what is wrong is named', async (t) => {
  const id = `0x${BOOT_INFO.appId}`
  const { policy } = policyOf(t, { osImage: [], apps: { [id]: { composeHashes: [OTHER, '12'] } } })
  await assert.rejects(policy.app(BOOT_INFO), (error: PolicyError) => {
    assert.match(error.message, /: missing or wrong: /)
    assert.ok(error.message.includes(`apps.${id}.composeHashes.1`), error.message)
    assert.ok(error.message.includes('osImage'), error.message)
    return true
  })
})

test('a file that cannot be read', async (t) => {
  const pipe = temporaryFile(t, 'unused', '').replace(/unused$/, 'pipe')
  execFileSync('mkfifo', [pipe])
  const folder = pipe.replace(/\/pipe$/, '')
  const { path: huge } = policyOf(t, text.padEnd(512 * 1024 + 1))
  for (const path of ['/nonexistent/policy.json', folder, pipe, huge]) {
    const asked = filePolicy(path).app(BOOT_INFO)
    await assert.rejects(asked, { name: 'PolicyError', code: 'POLICY_SETUP' })
  }
  const { policy: largest } = policyOf(t, text.padEnd(512 * 1024))
  assert.equal((await largest.app(BOOT_INFO)).allowed, true)
})

test('every change counts at once, even one that time and size do not show', async (t) => {
  const { path, policy } = policyOf(t, REGISTERED)
  const { atime, mtime } = statSync(path)
  assert.equal((await policy.app(BOOT_INFO)).allowed, true)
  writeFileSync(path, text.replace(BOOT_INFO.composeHash, OTHER))
  utimesSync(path, atime, mtime)
  assert.equal((await policy.app(BOOT_INFO)).allowed, false)
  writeFileSync(path, '{')
  await assert.rejects(policy.app(BOOT_INFO), { code: 'POLICY_SETUP' })
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
  assert.equal((await policy.app(BOOT_INFO)).allowed, true)
  chmodSync(path, 0o600)
  assert.equal((await policy.app(BOOT_INFO)).allowed, true)
})

test('who asks after a change is told of it, though others wait for what they asked before', async (t) => {
  const { path, policy } = policyOf(t, REGISTERED)
  const replaced = (contents: Contents) => {
    writeFileSync(`${path}.new`, JSON.stringify(contents))
    renameSync(`${path}.new`, path)
  }
  for (let turn = 0; turn < 30; turn++) {
    const registered = turn % 2 === 1
    // The first of these reads at once, the others after it.
    const before = Array.from({ length: 1 + (turn % 3) }, () => policy.app(BOOT_INFO))
    if (turn % 5 === 0) await before[0]
    replaced(registered ? REGISTERED : { ...REGISTERED, apps: {} })
    const after = Array.from({ length: 3 }, () => policy.app(BOOT_INFO))
    for (const { allowed } of await Promise.all(after)) assert.equal(allowed, registered)
    await Promise.all(before)
  }
})

test('all who wait for one reading that fails are told, and the next may succeed', async (t) => {
  const { path, policy } = policyOf(t, '{')
  const asked = await Promise.allSettled([1, 2, 3, 4].map(() => policy.app(BOOT_INFO)))
  assert.ok(asked.every(({ status }) => status === 'rejected'))
  writeFileSync(path, JSON.stringify(REGISTERED))
  const again = await Promise.all([1, 2, 3, 4].map(() => policy.app(BOOT_INFO)))
  assert.ok(again.every(({ allowed }) => allowed))
})

test('arbitrary files register nobody, and fail in no untyped way', async (t) => {
  const { path, policy } = policyOf(t, '')
  const contents = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.json(),
    fc
      .record({ osImages: fc.jsonValue(), apps: fc.jsonValue() }, { requiredKeys: [] })
      .map((value) => JSON.stringify(value)),
  )
  await fc.assert(
    fc.asyncProperty(contents, async (content) => {
      writeFileSync(path, content)
      for (const role of ['app', 'kms'] as const) {
        const outcome = await policy[role](BOOT_INFO).catch((error: PolicyError) => error)
        if ('allowed' in outcome) assert.equal(outcome.allowed, false)
        else assert.equal(outcome.code, 'POLICY_SETUP')
      }
    }),
    { numRuns: 150 },
  )
})

test('thousands may be registered', async (t) => {
  const hashes = Array.from({ length: 7_000 }, (_, i) => i.toString(16).padStart(64, '0'))
  const { policy } = policyOf(t, { ...REGISTERED, osImages: [...hashes, BOOT_INFO.osImageHash] })
  assert.equal((await policy.app(BOOT_INFO)).allowed, true)
})

test('facts', async (t) => {
  const { policy } = policyOf(t, { ...REGISTERED, chainId: 1, kmsContractAddr: '0x00' })
  assert.deepEqual(await policy.describe(), {
    isDev: false,
    gatewayAppId: '0xgateway',
    kmsContractAddress: '0x00',
    chainId: 1,
    appImplementation: undefined,
  })
})
