import type { BootInfo } from './boot-info.ts'

/** By which denials are counted, and what was measured that is not registered. */
type Known = readonly [code: string, member: keyof BootInfo]

const DEVICE: Known = ['DEVICE_NOT_ALLOWED', 'deviceId']
const TCB: Known = ['TCB_STATUS_NOT_ALLOWED', 'tcbStatus']

/** The reasons of files, contracts and webhooks alike (spec dstack §9.3), in lower case. */
const KNOWN: ReadonlyMap<string, Known> = new Map([
  ['os image is not allowed', ['OS_IMAGE_NOT_ALLOWED', 'osImageHash']],
  ['system mr not allowed', ['SYSTEM_MR_NOT_ALLOWED', 'mrSystem']],
  ['aggregated mr not allowed', ['AGGREGATED_MR_NOT_ALLOWED', 'mrAggregated']],
  ['app not registered', ['APP_NOT_REGISTERED', 'appId']],
  ['app not deployed or invalid address', ['APP_NOT_DEPLOYED', 'appId']],
  ['compose hash not allowed', ['COMPOSE_HASH_NOT_ALLOWED', 'composeHash']],
  ['tcb status is not allowed', TCB],
  ['tcb status is not up to date', TCB],
  ['advisory id is not allowed', ['ADVISORY_NOT_ALLOWED', 'advisoryIds']],
  ['kms is not allowed to boot on this device', DEVICE],
  ['app is not allowed to boot on this device', DEVICE],
  ['device not allowed', DEVICE],
])

/**
 * Why the policy said no to somebody who was verified, for those who run the KMS. The code is one of
 * few, whatever a service says.
 */
export class PolicyDenial extends Error {
  override readonly name = 'PolicyDenial'
  readonly code: string
  /** Who asked, and what an operator would have to register; all of it was measured. */
  readonly measured: string

  constructor(reason: string, info: BootInfo) {
    super(reason)
    const [code, member] = KNOWN.get(reason.trim().toLowerCase()) ?? ['POLICY_DENIED', 'appId']
    this.code = code
    const found = member === 'appId' ? '' : `, ${member} ${String(info[member]) || 'empty'}`
    this.measured = `app ${info.appId}${found}`
  }
}
