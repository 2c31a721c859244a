import type { Context } from 'hono'
import type { ApiError } from '../errors.ts'
import { goJson } from './go-json.ts'

/** A JSON answer in system-api's form: `application/json` without charset, one line feed last. */
export function systemApiJson(status: number, body: Readonly<Record<string, unknown>>): Response {
  return new Response(goJson(body), { status, headers: { 'content-type': 'application/json' } })
}

/**
 * The error dialect of flashbots/system-api (spec system-api §4): `{"code":STATUS,"message":TEXT}`,
 * 404 as Go's plain text, 405 with an empty body. Routes under `/cvmd/` keep problem+json, so
 * `fallback` renders those.
 */
export function systemApiError(error: ApiError): Response {
  if (error.code === 'ROUTE_NOT_FOUND') {
    return new Response('404 page not found\n', {
      status: 404,
      headers: {
        'content-type': 'text/plain; charset=utf-8',
        'x-content-type-options': 'nosniff',
      },
    })
  }
  if (error.status === 405) {
    // The length is said outright, or node:http sends an empty body in chunks.
    const headers = { ...error.headers, 'content-length': '0' }
    return new Response(null, { status: 405, headers })
  }
  return new Response(goJson({ code: error.status, message: error.message }), {
    status: error.status,
    headers: { 'content-type': 'application/json', ...error.headers },
  })
}

/**
 * A path parameter as system-api sees it: the last segment of the path as sent (decoded only where
 * the sent escapes are the canonical ones, spec §4). Hono's own `c.req.param` decodes always.
 */
export function lastSegment(c: Context): string {
  return c.req.path.slice(c.req.path.lastIndexOf('/') + 1)
}
