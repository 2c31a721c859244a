import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { ApiError } from '../../../src/errors.ts'
import { ApiError as CoreError } from '../../../src/errors.ts'
import type { ZosError, ZosErrorKind } from '../zos-error.ts'

/** Spec §10.5. */
const STATUS: Readonly<Record<ZosErrorKind, ContentfulStatusCode>> = {
  decode: 400,
  invalid: 400,
  authentication: 401,
  forbidden: 403,
  'not-found': 404,
  conflict: 409,
  unavailable: 503,
  failed: 500,
}

/** The dialect of `/zos/…`: `{"error":{"code":255,"message":"…"}}`. */
export function zosErrorResponse(error: ZosError): Response {
  const status = STATUS[error.kind]
  return answer(status, error.code, error.message, {
    ...(status === 401 && { 'www-authenticate': 'Bearer realm="zos"' }),
  })
}

/** Errors of the core in the same dialect. */
export function renderZosError({ status, message, headers }: ApiError): Response {
  return answer(status, 255, message, headers)
}

function answer(
  status: ContentfulStatusCode,
  code: number,
  message: string,
  headers: Readonly<Record<string, string>>,
): Response {
  return new Response(`${JSON.stringify({ error: { code, message } })}\n`, {
    status,
    headers: { 'content-type': 'application/json', ...headers },
  })
}

/** Where something is asked before `start` is over. */
export function notStarted(): ApiError {
  return new CoreError(503, 'ZOS_NOT_STARTED', 'The plugin zos is not started')
}
