import type { ApiError } from '../../../src/errors.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import { PolicyDenial } from '../policy/denial.ts'
import { type Approval, type Decision, type Policy, PolicyError } from '../policy/policy.ts'
import { refusal } from '../trust/refusal.ts'

/** What the policy says of an application, as long as it says yes. */
export function permitApp(policy: Policy, info: BootInfo, signal?: AbortSignal): Promise<Approval> {
  return permitted('App not allowed', info, () => policy.app(info, signal))
}

/** The same for a KMS that wants the root keys. */
export function permitKms(policy: Policy, info: BootInfo, signal?: AbortSignal): Promise<Approval> {
  return permitted('KMS not allowed', info, () => policy.kms(info, signal))
}

/**
 * Whether this KMS itself may give anything away.
 *
 * @param self What it measured; undefined where that is not asked of it.
 */
export async function permitSelf(
  policy: Policy,
  self: BootInfo | undefined,
  signal?: AbortSignal,
): Promise<void> {
  if (self === undefined) return
  const outer = 'KMS self authorization failed'
  const decision = await answered(outer, () => policy.kms(self, signal))
  if (decision.allowed) return
  // Whoever asks can do nothing about it.
  const { reason } = decision
  const cause = new PolicyDenial(reason, self)
  throw refusal('INTERNAL_ERROR', `${outer}: KMS is not allowed: ${reason}`, cause)
}

/** @throws {ApiError} With the code of the denial; 500 `INTERNAL_ERROR` without an answer. */
async function permitted(
  outer: string,
  info: BootInfo,
  ask: () => Promise<Decision>,
): Promise<Approval> {
  const decision = await answered(outer, ask)
  if (decision.allowed) return decision
  const { code, reason } = decision
  throw refusal(code, `${outer}: Boot denied: ${reason}`, new PolicyDenial(reason, info))
}

/** The policy's own words about why it gave no answer are for the log. */
async function answered(outer: string, ask: () => Promise<Decision>): Promise<Decision> {
  try {
    return await ask()
  } catch (error) {
    if (error instanceof PolicyError) throw unanswered(outer, error)
    throw error
  }
}

function unanswered(outer: string, cause: PolicyError): ApiError {
  return refusal('INTERNAL_ERROR', `${outer}: the policy gave no answer`, cause)
}
