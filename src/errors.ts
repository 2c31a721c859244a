import type { ContentfulStatusCode } from 'hono/utils/http-status'

/** What an {@link ApiError} may carry beside status, code and message. */
export interface ApiErrorOptions extends ErrorOptions {
  /** Response headers the error needs, such as `Allow` or `Retry-After`. */
  readonly headers?: Readonly<Record<string, string>>
}

/**
 * The one error type that reaches a client on purpose. Everything else that is thrown becomes a
 * 500 whose cause is logged and never sent.
 *
 * `code` is stable and in capitals (`ACTION_NOT_FOUND`); `message` names what was being done,
 * quotes the value, says the state or the remedy, and ends without a period.
 */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: ContentfulStatusCode
  readonly code: string
  readonly headers: Readonly<Record<string, string>>

  constructor(
    status: ContentfulStatusCode,
    code: string,
    message: string,
    options: ApiErrorOptions = {},
  ) {
    super(message, options)
    this.status = status
    this.code = code
    this.headers = options.headers ?? {}
  }
}

/**
 * Turns anything thrown into an {@link ApiError}. Names are compared, not classes: an external
 * plugin brings its own copy of this module and of Hono.
 */
export function toApiError(thrown: unknown): ApiError {
  if (thrown instanceof Error) {
    if (thrown.name === 'ApiError' && 'status' in thrown && 'code' in thrown) {
      return thrown as ApiError
    }
    // Hono's own HTTPException keeps its status.
    if ('getResponse' in thrown && 'status' in thrown && typeof thrown.status === 'number') {
      const status = thrown.status as ContentfulStatusCode
      return new ApiError(status, `HTTP_${status}`, thrown.message || `Request failed: ${status}`, {
        cause: thrown,
      })
    }
  }
  return new ApiError(500, 'INTERNAL_ERROR', 'Internal error, see the daemon log', {
    cause: thrown,
  })
}

/**
 * Renders an error as `application/problem+json` (RFC 9457) with the members `status`, `title`,
 * `code` and `detail`. Used wherever a plugin has no dialect of its own.
 */
export function problem(error: ApiError): Response {
  const body = {
    status: error.status,
    title: TITLES[error.status] ?? 'Error',
    code: error.code,
    detail: error.message,
  }
  return new Response(`${JSON.stringify(body)}\n`, {
    status: error.status,
    headers: { 'content-type': 'application/problem+json', ...error.headers },
  })
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  412: 'Precondition Failed',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  421: 'Misdirected Request',
  422: 'Unprocessable Content',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  507: 'Insufficient Storage',
}

/** The message of anything thrown, for logs and events. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}

/** The `code` of a system error (`ENOENT`), or undefined for anything else. */
export function errnoOf(thrown: unknown): string | undefined {
  if (!(thrown instanceof Error) || !('code' in thrown)) return undefined
  return typeof thrown.code === 'string' ? thrown.code : undefined
}
