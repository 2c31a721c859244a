/** What a KMS tells of its requests, and how much of it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BootInfo } from '../../plugins/kms/policy/boot-info.ts'
import { PolicyDenial } from '../../plugins/kms/policy/denial.ts'
import { requestEvents } from '../../plugins/kms/server/request-events.ts'
import { refusal } from '../../plugins/kms/trust/refusal.ts'
import { EvidenceError } from '../../src/attest/evidence-error.ts'
import { EventLog } from '../../src/events/log.ts'
import { BOOT_INFO } from './kms-policy-fixtures.ts'

function told() {
  const log = new EventLog()
  let now = 0
  const events = requestEvents(log.sink('kms'), () => now)
  return {
    ...events,
    wait: (ms: number) => {
      now += ms
    },
    next: () => log.next,
    lines: () => log.after(0).map(({ level, message }) => `${level} ${message}`),
  }
}

const shop = { appId: 'ab'.repeat(20), instanceId: 'cd'.repeat(20) } as BootInfo
const forged = new EvidenceError('QUOTE_SIGNATURE', 'Cannot accept quote')

test('what went where, and why somebody got nothing', () => {
  const { released, refused, lines } = told()
  released('GetAppKey', shop)
  released('SignCert', { ...shop, instanceId: '' })
  refused('GetAppKey', refusal('UNAUTHORIZED', 'a text of the caller', forged))
  refused('GetKmsKey', refusal('INTERNAL_ERROR', 'the policy gave no answer'))
  assert.deepEqual(lines(), [
    `info GetAppKey: answered app ${shop.appId}, instance ${shop.instanceId}`,
    `info SignCert: answered app ${shop.appId}`,
    'warn GetAppKey: refused, UNAUTHORIZED (QUOTE_SIGNATURE)',
    'error GetKmsKey: refused, INTERNAL_ERROR',
  ])
})

test('who has keys of another version than the one in use', () => {
  const { released, lines } = told()
  released('GetKey', { ...shop, instanceId: '' }, 0)
  assert.deepEqual(lines(), [`info GetKey: answered app ${shop.appId}, root version 0`])
})

test('what an operator would have to register, by the reason', () => {
  const { refused, lines } = told()
  const denied = (reason: string) => {
    const cause = new PolicyDenial(reason, BOOT_INFO)
    refused('GetAppKey', refusal('MEASUREMENT_NOT_FOUND', 'x', cause))
    return lines().at(-1)
  }
  const begin = 'warn GetAppKey: refused, MEASUREMENT_NOT_FOUND'
  const { appId, composeHash, osImageHash, deviceId } = BOOT_INFO
  for (const [reason, expected] of [
    ['app not registered', `APP_NOT_REGISTERED), app ${appId}`],
    [
      'Compose hash not allowed',
      `COMPOSE_HASH_NOT_ALLOWED), app ${appId}, composeHash ${composeHash}`,
    ],
    ['OS image is not allowed', `OS_IMAGE_NOT_ALLOWED), app ${appId}, osImageHash ${osImageHash}`],
    ['Device not allowed', `DEVICE_NOT_ALLOWED), app ${appId}, deviceId ${deviceId}`],
    ['advisory ID is not allowed', `ADVISORY_NOT_ALLOWED), app ${appId}, advisoryIds empty`],
    ['what a service says, \n and more', `POLICY_DENIED), app ${appId}`],
  ] as const) {
    assert.equal(denied(reason), `${begin} (${expected}`)
  }
})

test('who measures ever something else does not fill the log', () => {
  const { refused, lines, wait } = told()
  const ask = (i: number) => {
    const info = { ...BOOT_INFO, appId: i.toString(16).padStart(40, '0') }
    const cause = new PolicyDenial('app not registered', info)
    refused('GetAppKey', refusal('MEASUREMENT_NOT_FOUND', 'x', cause))
  }
  for (let i = 0; i < 500; i += 1) ask(i)
  // Repeats of what was told take nothing of what others may be told with.
  for (let i = 0; i < 100; i += 1) ask(i)
  assert.equal(lines().length, 101)
  wait(10_000)
  ask(1000)
  assert.match(lines().at(-1) ?? '', /, app 0+3e8$/)
})

test('a thousand times the same is told once, and how often it was', () => {
  const { refused, lines, wait } = told()
  const error = refusal('UNAUTHORIZED', 'x', forged)
  for (let i = 0; i < 1000; i += 1) refused('GetAppKey', error)
  assert.equal(lines().length, 1)
  wait(10_000)
  refused('GetAppKey', error)
  refused('GetAppKey', error)
  assert.equal(lines().length, 2)
  assert.match(lines()[1] ?? '', /, and 999 times more before$/)
})

test('what is remembered is bounded, whatever strangers ask', () => {
  const { released, next } = told()
  for (let i = 0; i < 3000; i += 1) {
    released('GetAppKey', { ...shop, appId: i.toString(16).padStart(40, '0') })
  }
  // The first one is forgotten by now, the last one is not.
  const before = next()
  released('GetAppKey', { ...shop, appId: '0'.repeat(40) })
  released('GetAppKey', { ...shop, appId: (2999).toString(16).padStart(40, '0') })
  assert.equal(next() - before, 1)
})
