import { Hono, type MiddlewareHandler } from 'hono'
import { TrieRouter } from 'hono/router/trie-router'
import type { Guard } from './auth/guard.ts'
import { grants } from './auth/scopes.ts'
import { ApiError, problem, toApiError } from './errors.ts'
import type { Exchange } from './exchange.ts'
import { requestPath } from './path.ts'
import { dispatch, type RouteEntry } from './registry.ts'
import { assertSameSite } from './same-site.ts'

/** What one listener adds to the routes it serves. */
export interface PipelineOptions {
  readonly guard: Guard
  /** Host names a browser may use for this listener; undefined accepts any. */
  readonly hosts?: ReadonlySet<string>
  /** Bodies of routes that do not stream them, in bytes. */
  readonly maxBodyBytes: number
  /** Answers of routes that are not declared `long`, in milliseconds. */
  readonly requestTimeoutMs: number
  /** `false`: HEAD is refused everywhere, as system-api does. Default true. */
  readonly answersHead?: boolean
  /** Renders errors that belong to no plugin; default problem+json. */
  readonly renderError?: (error: ApiError) => Response
  /** Called once per finished request. */
  readonly observe?: (exchange: Exchange, method: string, status: number, ms: number) => void
  /** Called for a request that authentication or a scope refused. */
  readonly refused?: (exchange: Exchange, method: string, path: string, why: string) => void
  /** Called with the cause of an internal error that is not a plugin's. */
  readonly failed?: (cause: unknown) => void
}

/** The core's own Hono environment. */
export interface CoreEnv {
  Bindings: Exchange
}

const STANDARD = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT']

/**
 * Builds the application of one listener: observe, authenticate, then the routes, each handed to
 * its plugin's own application. Authentication comes before routing, so that nobody can learn
 * which paths exist without it.
 */
export function buildPipeline(
  routes: readonly RouteEntry[],
  options: PipelineOptions,
): Hono<CoreEnv> {
  const render = options.renderError ?? problem
  const app = new Hono<CoreEnv>({ getPath: requestPath })
  app.use(observe(options))
  app.use(admit(options, render, ownAuth(routes)))
  const methods = methodTable(routes, options.answersHead ?? true)
  for (const entry of routes) app.on(entry.method, entry.path, handlerOf(entry, options, methods))
  app.notFound((c) => {
    const allow = methods(c.req.path)
    if (allow.length === 0) {
      return render(new ApiError(404, 'ROUTE_NOT_FOUND', `No route for ${c.req.path}`))
    }
    return render(methodNotAllowed(c.req.method, c.req.path, allow))
  })
  app.onError((thrown) => {
    const error = toApiError(thrown)
    if (error.code === 'INTERNAL_ERROR') options.failed?.(error.cause)
    return render(error)
  })
  return app
}

function observe(options: PipelineOptions): MiddlewareHandler<CoreEnv> {
  const { observe: report } = options
  if (!report) return (_c, next) => next()
  return async (c, next) => {
    const started = performance.now()
    await next()
    report(c.env, c.req.method, c.res.status, performance.now() - started)
  }
}

function admit(
  options: PipelineOptions,
  render: (error: ApiError) => Response,
  own: (method: string, path: string) => boolean,
): MiddlewareHandler<CoreEnv> {
  return async (c, next) => {
    const exchange = c.env
    try {
      assertSameSite(exchange, c.req.method, options.hosts)
      exchange.caller = own(c.req.method, c.req.path)
        ? { kind: 'own', name: 'own', scopes: ['*'] }
        : options.guard.authenticate(exchange)
    } catch (thrown) {
      const error = toApiError(thrown)
      if (error.status < 500) {
        options.refused?.(exchange, c.req.method, c.req.path, error.message)
      }
      return render(error)
    }
    return next()
  }
}

function handlerOf(
  entry: RouteEntry,
  options: PipelineOptions,
  methods: (path: string) => string[],
): MiddlewareHandler<CoreEnv> {
  const { facts, path, owner } = entry
  const parameters = [...entry.scope.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string)
  const renderOwn = owner.plugin.renderError ?? problem
  return async (c) => {
    const exchange = c.env
    exchange.route = path
    try {
      if (c.req.method === 'HEAD' && (facts.head === false || options.answersHead === false)) {
        throw methodNotAllowed('HEAD', path, methods(c.req.path))
      }
      if (facts.sideEffect) assertSameSite(exchange, 'POST', options.hosts)
      for (const scope of scopesOf(entry, parameters, (name) => c.req.param(name), c.req.path)) {
        if (grants(exchange.caller.scopes, scope)) continue
        const why = `Caller "${exchange.caller.name}" lacks the scope "${scope}"`
        options.refused?.(exchange, c.req.method, c.req.path, why)
        throw new ApiError(403, 'SCOPE_MISSING', why)
      }
      let request = c.req.raw
      if (facts.body !== 'stream' && hasBody(exchange, c.req.method)) {
        request = await limitBody(request, exchange, options)
      }
      if (facts.long) {
        exchange.hold()
        return assertResponse(await dispatch(entry, request, exchange), entry)
      }
      const answer = withDeadline(dispatch(entry, request, exchange), options.requestTimeoutMs)
      return assertResponse(await answer, entry)
    } catch (thrown) {
      const error = toApiError(thrown)
      if (error.code === 'INTERNAL_ERROR') options.failed?.(error.cause)
      return renderOwn(error, c)
    }
  }
}

/** Bun answers 200 for anything a plugin may return in place of a response. */
function assertResponse(answer: Response, { owner, method, path }: RouteEntry): Response {
  if (typeof answer?.status === 'number') return answer
  throw new TypeError(`Plugin "${owner.plugin.name}" answered ${method} ${path} with no Response`)
}

/**
 * The scopes a request needs: with the parameters as Hono decodes them and, where that differs,
 * as they were sent, because a compatible API may look either up.
 */
function scopesOf(
  entry: RouteEntry,
  parameters: readonly string[],
  param: (name: string) => string | undefined,
  path: string,
): string[] {
  if (parameters.length === 0) return [entry.scope]
  const segments = path.split('/')
  const places = entry.path.split('/')
  const fill = (value: (name: string) => string) =>
    parameters.reduce((scope, name) => scope.replace(`{${name}}`, () => value(name)), entry.scope)
  const decoded = fill((name) => param(name) ?? '')
  const sent = fill((name) => segments[places.indexOf(`:${name}`)] ?? '')
  return decoded === sent ? [decoded] : [decoded, sent]
}

function ownAuth(routes: readonly RouteEntry[]): (method: string, path: string) => boolean {
  if (routes.every(({ owner }) => owner.plugin.auth !== 'own')) return () => false
  // All routes, so that a pattern such as `/*` of one plugin does not open another's.
  const table = new TrieRouter<boolean>()
  for (const { method, path, owner } of routes) table.add(method, path, owner.plugin.auth === 'own')
  return (method, path) => table.match(method === 'HEAD' ? 'GET' : method, path)[0][0]?.[0] ?? false
}

function methodTable(
  routes: readonly RouteEntry[],
  answersHead: boolean,
): (path: string) => string[] {
  const table = new TrieRouter<string>()
  for (const { method, path, facts } of routes) {
    table.add(method, path, method)
    if (method === 'GET' && answersHead && facts.head !== false) table.add('HEAD', path, 'HEAD')
  }
  return (path) => STANDARD.filter((method) => table.match(method, path)[0].length > 0)
}

function methodNotAllowed(method: string, path: string, allow: readonly string[]): ApiError {
  const headers: Record<string, string> = STANDARD.includes(method)
    ? { allow: allow.join(', ') }
    : {}
  return new ApiError(
    405,
    'METHOD_NOT_ALLOWED',
    `Cannot ${method} ${path}: use ${allow.join(' or ')}`,
    { headers },
  )
}

function hasBody(exchange: Exchange, method: string): boolean {
  if (method === 'GET' || method === 'HEAD') return false
  return (
    exchange.header('transfer-encoding') !== undefined ||
    (exchange.header('content-length') ?? '0') !== '0'
  )
}

/** Reads a body of limited size and gives a request that carries it. */
async function limitBody(
  request: Request,
  exchange: Exchange,
  options: PipelineOptions,
): Promise<Request> {
  const tooLarge = () =>
    new ApiError(
      413,
      'BODY_TOO_LARGE',
      `Cannot read the body: it is larger than ${options.maxBodyBytes} bytes`,
      { headers: { connection: 'close' } },
    )
  if (Number(exchange.header('content-length') ?? 0) > options.maxBodyBytes) throw tooLarge()
  const body = await withDeadline(
    readLimited(request, options.maxBodyBytes, tooLarge),
    options.requestTimeoutMs,
  )
  return new Request(request.url, { method: request.method, headers: request.headers, body })
}

async function readLimited(
  request: Request,
  limit: number,
  tooLarge: () => ApiError,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = []
  let size = 0
  const reader = request.body?.getReader()
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined }
    if (done) break
    size += value.byteLength
    if (size > limit) {
      // Not awaited: a runtime may only settle it once the client stops sending.
      reader?.cancel().catch(() => undefined)
      throw tooLarge()
    }
    chunks.push(value)
  }
  const body = new Uint8Array(size)
  let at = 0
  for (const chunk of chunks) {
    body.set(chunk, at)
    at += chunk.byteLength
  }
  return body
}

async function withDeadline<T>(work: T | Promise<T>, ms: number): Promise<T> {
  if (!(work instanceof Promise)) return work
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new ApiError(408, 'REQUEST_TIMEOUT', `Cannot finish the request within ${ms} ms`, {
            headers: { connection: 'close' },
          }),
        ),
      ms,
    )
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
