import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { ApiError } from '../../../src/errors.ts'

/**
 * Why somebody gets no keys, in the words of the seed API (spec dstack §2.2, §9.1): no evidence or
 * none that is accepted; measurements nobody registered; a key the policy does not name; a fault
 * that is not the caller's.
 */
export type RefusalCode = keyof typeof STATUS

const STATUS = {
  UNAUTHORIZED: 401,
  MEASUREMENT_NOT_FOUND: 403,
  KEY_NOT_FOUND: 404,
  INTERNAL_ERROR: 500,
} as const

/**
 * The error that a caller sees.
 *
 * @param cause With a code of its own, by which failures are counted.
 */
export function refusal(code: RefusalCode, message: string, cause?: unknown): ApiError {
  return new ApiError(STATUS[code], code, message, { cause })
}

/** Somebody's evidence was looked at and is not accepted. */
export function notVerified(message: string, cause: EvidenceError): ApiError {
  return refusal('UNAUTHORIZED', `Quote verification failed: ${message}`, cause)
}

/**
 * Reads what a stranger sent.
 *
 * @throws {ApiError} 401 `UNAUTHORIZED` in place of an `EvidenceError`.
 */
export function readingEvidence<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof EvidenceError) throw notVerified(error.message, error)
    throw error
  }
}
