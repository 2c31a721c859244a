import type { Context } from 'hono'
import { ApiError } from '../errors.ts'

/*
 * The dialect of the dstack guest agent and KMS (spec dstack §4). Its published JavaScript client
 * reads the socket by itself (§12): an answer needs a Content-Length, and as many characters as
 * bytes, so everything beyond ASCII is escaped.
 */

/** TDX report data, and what a NSM document carries in its place. */
const REPORT_DATA_BYTES = 64

/** No error repeats more of a method's name than this. */
const MAX_METHOD_CHARACTERS = 64

/**
 * A JSON answer: `application/json`, ASCII, with its length.
 *
 * @param message Its members in the order of the message's declaration, snake_case. Left out: the
 *   empty message, which is `null`.
 */
export function prpcJson(message: object | null = null): Response {
  return asciiJson(message, 200, {})
}

/**
 * The error dialect: `{"error": TEXT, "code": CODE}` under the real status. Clients look for
 * `error` and nothing else; the code is cvmd's own. For `renderError` of a plugin.
 *
 * @param c Tells which method was asked for where there is none.
 */
export function prpcError(error: ApiError, c?: Context): Response {
  return prpcListenerError(error, c?.req.path ?? '')
}

/** The same for what belongs to no plugin, on a listener whose dialect this is. */
export function prpcListenerError(error: ApiError, path: string): Response {
  const told = error.code === 'ROUTE_NOT_FOUND' ? serviceNotFound(path) : error
  return asciiJson({ error: told.message, code: told.code }, told.status, told.headers)
}

/** The answer to a method nobody has, by its path: clients probe for newer versions with it. */
export function serviceNotFound(path: string): ApiError {
  const method = path.slice(path.lastIndexOf('/') + 1).slice(0, MAX_METHOD_CHARACTERS)
  return new ApiError(404, 'SERVICE_NOT_FOUND', `Service not found: ${method}`)
}

/**
 * Report data as given, padded with zero bytes on the right to 64 (spec dstack §6.1); never hashed
 * and never cut.
 *
 * @throws {ApiError} 400 `REPORT_DATA_TOO_LONG`, in dstack's words.
 */
export function padReportData(bytes: Uint8Array): Uint8Array {
  if (bytes.length > REPORT_DATA_BYTES) {
    throw new ApiError(400, 'REPORT_DATA_TOO_LONG', 'Report data is too long')
  }
  const padded = new Uint8Array(REPORT_DATA_BYTES)
  padded.set(bytes)
  return padded
}

function asciiJson(
  value: object | null,
  status: number,
  headers: Readonly<Record<string, string>>,
): Response {
  const text = JSON.stringify(value).replace(/[\u0080-\uffff]/g, escaped)
  return new Response(text, {
    status,
    headers: {
      'content-type': 'application/json',
      'content-length': String(text.length),
      ...headers,
    },
  })
}

/** One UTF-16 unit; a character beyond the first plane becomes its two surrogates. */
function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}
