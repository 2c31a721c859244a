import { ApiError } from '../../../src/errors.ts'
import { KmsError } from '../client/connection.ts'

/** Refusals that are about what an application asked for: another KMS would say the same. */
const OF_THE_REQUEST = {
  CERTIFICATE_NAME: 400,
  CERTIFICATE_VALIDITY: 400,
  CERTIFICATE_TOO_LARGE: 409,
} as const

/** Refusals that may be over in a moment, so that asking again makes sense. */
const PASSING: ReadonlySet<string | undefined> = new Set(['INTERNAL_ERROR', 'RATE_LIMITED'])

/** Longest text of several failures, in characters. */
const MAX_TEXT = 2048

/** Whether no other KMS needs to be asked, as the fault is the request's. */
export function isOfTheRequest({ refusal }: KmsError): boolean {
  return refusal !== undefined && Object.hasOwn(OF_THE_REQUEST, refusal)
}

/**
 * What it means over HTTP that no KMS gave an answer. A KMS that refuses says more than one that is
 * away: 502 with its code in the text. 503 where asking again may help.
 *
 * @param failures Of each KMS that was asked, at least one.
 */
export function kmsProblem(failures: readonly KmsError[]): ApiError {
  const text = failures.map(toldBy).join('; ').slice(0, MAX_TEXT)
  const telling = failures.find(isOfTheRequest) ?? failures.find(isFinal)
  const { code, refusal } = telling ?? failures[0] ?? new KmsError('KMS_UNREACHABLE', text)
  const options = { cause: telling ?? failures[0] }
  if (refusal !== undefined && Object.hasOwn(OF_THE_REQUEST, refusal)) {
    const status = OF_THE_REQUEST[refusal as keyof typeof OF_THE_REQUEST]
    return new ApiError(status, refusal, text, options)
  }
  if (telling) return new ApiError(502, code, text, options)
  if (code === 'KMS_ABORTED') return new ApiError(503, code, text, options)
  return kmsUnavailable(text, RETRY_SECONDS, options)
}

const RETRY_SECONDS = 1

/** No KMS can be asked just now. */
export function kmsUnavailable(
  text: string,
  retryAfterSeconds: number,
  options: ErrorOptions = {},
): ApiError {
  const headers = { 'retry-after': String(Math.max(1, Math.ceil(retryAfterSeconds))) }
  return new ApiError(503, 'KMS_UNAVAILABLE', text, { ...options, headers })
}

function isFinal({ code, refusal }: KmsError): boolean {
  switch (code) {
    case 'KMS_REFUSED':
      return !PASSING.has(refusal)
    case 'KMS_NOT_VERIFIED':
    case 'KMS_MALFORMED':
    case 'KMS_CHANGED':
      return true
    default:
      return false
  }
}

function toldBy({ message, refusal }: KmsError): string {
  return refusal === undefined ? message : `${message} (${refusal})`
}
