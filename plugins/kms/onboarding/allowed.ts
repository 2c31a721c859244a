import { ApiError } from '../../../src/errors.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import { type Policy, PolicyError } from '../policy/policy.ts'
import { refusal } from '../trust/refusal.ts'

/**
 * Asks the policy whether somebody may be a KMS.
 *
 * @param outer What an error begins with.
 * @throws {ApiError} 403 `KMS_NOT_ALLOWED`, with the policy's reason; 500 `INTERNAL_ERROR` when there
 *   is no answer, whose cause is for the log.
 */
export async function assertAllowedKms(
  policy: Policy,
  info: BootInfo,
  outer: string,
  signal?: AbortSignal,
): Promise<void> {
  const decision = await policy.kms(info, signal).catch((error) => {
    if (!(error instanceof PolicyError)) throw error
    throw refusal('INTERNAL_ERROR', `${outer}: the policy gave no answer, see the log`, error)
  })
  if (decision.allowed) return
  // Not 401: that is for whoever asks without the token.
  throw new ApiError(403, 'KMS_NOT_ALLOWED', `${outer}: boot denied: ${decision.reason}`)
}
