import type { Context } from 'hono'
import { ApiError, type ApiErrorOptions, problem, toApiError } from '../../../src/errors.ts'
import { failed, json, text } from './answers.ts'

/** What an error of the rooms next door has beside its message; see `HostError`, `LockError`. */
interface Coded {
  readonly status?: unknown
  readonly code?: unknown
}

/** Statuses an error may ask for; any other is a 503 (spec §3.2). */
const STATUSES = [400, 401, 403, 404, 409, 413, 423, 429, 500, 502, 503] as const

/** Failures that are told as a text, wherever they happen (spec §4.11, §5.4). */
const TEXTS: ReadonlySet<string> = new Set([
  'UNAUTHORIZED',
  'TOO_MANY_FAILURES',
  'APP_NOT_FOUND',
  'APP_NOT_SINGLE',
  'SERVICE_NOT_FOUND',
  'SERVICE_NOT_IN_TARGET',
  'SERVICE_NOT_NAMED',
])

/** Where every failure is a text: host-config, and stop and start of v1 (spec §3.2). */
const TEXT_PATHS = /^\/v1\/(?:device\/host-config|apps\/[^/]*\/(?:stop|start))$/

const POWER_PATHS = /^\/v1\/(?:reboot|shutdown)$/

/** An error of any room as the core knows errors. */
export function asApiError(thrown: unknown): ApiError {
  if (!(thrown instanceof Error) || thrown.name === 'ApiError') return toApiError(thrown)
  const { code, status } = thrown as Coded
  if (typeof code !== 'string') return toApiError(thrown)
  const options: ApiErrorOptions = { cause: thrown }
  switch (thrown.name) {
    case 'TargetError': {
      const message = `Invalid target state. ${thrown.message}`
      return new ApiError(400, code, message, options)
    }
    // Its status is the one the engine answered.
    case 'EngineError':
      return new ApiError(503, code, thrown.message, options)
  }
  const known = STATUSES.find((one) => one === status)
  // A system error's message may hold anything.
  return known ? new ApiError(known, code, thrown.message, options) : toApiError(thrown)
}

/** Renders an error in the form its endpoint has (spec §3.2). */
export function renderError(error: ApiError, c: Context): Response {
  const { method, path } = c.req
  const answer = rendered(error, method, path)
  for (const [name, value] of Object.entries(error.headers)) answer.headers.set(name, value)
  return answer
}

function rendered(error: ApiError, method: string, path: string): Response {
  if (path.startsWith('/cvmd/') || path.startsWith('/supervisor/')) return problem(error)
  const { code, message } = error
  if (POWER_PATHS.test(path) && code !== 'UNAUTHORIZED') {
    const status = error.status === 503 ? 500 : error.status
    return json({ Data: '', Error: message, code }, status)
  }
  // What nobody foresaw is a 503 here.
  const status = code === 'INTERNAL_ERROR' ? 503 : error.status
  const plain = TEXTS.has(code) || (TEXT_PATHS.test(path) && (status < 423 || method === 'PATCH'))
  return plain ? text(message, status) : failed(status, code, message)
}
