import { type Context, Hono } from 'hono'
import { TrieRouter } from 'hono/router/trie-router'
import type { Guard } from '../auth/guard.ts'
import { grants } from '../auth/scopes.ts'
import { within } from '../deadline.ts'
import { ApiError, problem, toApiError } from '../errors.ts'
import type { Caller } from '../plugin.ts'
import { dispatch, isOperators, type RouteEntry } from '../registry.ts'
import type { RouteFacts } from '../route.ts'
import type { Exchange } from './exchange.ts'
import { requestPath } from './path.ts'
import { assertSameSite } from './same-site.ts'

/** What one listener adds to the routes it serves. */
export interface PipelineOptions {
  readonly guard: Guard
  /** Host names a browser may use for this listener; undefined accepts any. */
  readonly hosts?: ReadonlySet<string>
  /** Routes of the same plugins that this listener does not serve. */
  readonly hidden?: readonly RouteEntry[]
  /** Bodies of routes that do not stream them, in bytes. */
  readonly maxBodyBytes: number
  /** Answers of routes that are not declared `long`, in milliseconds. */
  readonly requestTimeoutMs: number
  /** `false`: HEAD is refused everywhere, as system-api does. Default true. */
  readonly answersHead?: boolean
  /** Renders errors that belong to no plugin; default problem+json. */
  readonly renderError?: ErrorRenderer
  /** Called once per finished request. */
  readonly observe?: (exchange: Exchange, method: string, status: number, ms: number) => void
  /** Called for a request that authentication or a scope refused. */
  readonly refused?: (exchange: Exchange, method: string, path: string, why: string) => void
  /** Called with the cause of an internal error that is not a plugin's. */
  readonly failed?: (cause: unknown) => void
}

/** Renders an error; the path, as the client sent it, names the method in some dialects. */
export type ErrorRenderer = (error: ApiError, path: string) => Response

/** The core's own Hono environment. */
export interface CoreEnv {
  Bindings: Exchange
}

const STANDARD: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'TRACE',
  'CONNECT',
])

/** Whom a plugin lets in by rules of its own. */
const OWN: Caller = { kind: 'own', name: 'own', scopes: ['*'] }

/** Answers one request; what it throws is the caller's to render. */
type Answer = (c: Context<CoreEnv>) => Response | Promise<Response>

/**
 * Builds the application of one listener: each route, and what stands in for a missing one, first
 * authenticates, so that nobody can learn which paths exist without it; then the request is handed
 * to the plugin's own application. There is no middleware: a chain costs more than all of this.
 */
export function buildPipeline(
  routes: readonly RouteEntry[],
  options: PipelineOptions,
): Hono<CoreEnv> {
  const render = options.renderError ?? problem
  const app = new Hono<CoreEnv>({ getPath: requestPath })
  const methods = methodTable(routes, options.answersHead ?? true)
  const attend = (answer: Answer, own = false) =>
    observed(options, admitted(admission(options, own), render, answer))
  for (const entry of routes) {
    const own = entry.owner.plugin.auth === 'own' && !isOperators(entry)
    app.on(entry.method, entry.path, attend(handlerOf(entry, options, methods), own))
  }
  app.notFound(
    attend(({ req }) => {
      const allow = methods(req.path)
      const known = allow.length > 0 || !STANDARD.has(req.method)
      if (known) return render(methodNotAllowed(req.method, req.path, allow), req.path)
      return render(new ApiError(404, 'ROUTE_NOT_FOUND', `No route for ${req.path}`), req.path)
    }),
  )
  app.onError((thrown, { req }) => {
    const error = toApiError(thrown)
    if (error.code === 'INTERNAL_ERROR') options.failed?.(error.cause)
    return render(error, req.path)
  })
  return app
}

function observed({ observe }: PipelineOptions, answer: Answer): Answer {
  if (!observe) return answer
  return async (c) => {
    const started = performance.now()
    const response = await answer(c)
    observe(c.env, c.req.method, response.status, performance.now() - started)
    return response
  }
}

function admitted(
  admit: (c: Context<CoreEnv>) => void,
  render: ErrorRenderer,
  answer: Answer,
): Answer {
  return (c) => {
    try {
      admit(c)
    } catch (thrown) {
      return render(toApiError(thrown), c.req.path)
    }
    return answer(c)
  }
}

/**
 * @param own Whether the plugin asks its callers who they are.
 * @throws {ApiError} Why a request may not come in, after reporting it.
 */
function admission(options: PipelineOptions, own: boolean): (c: Context<CoreEnv>) => void {
  return ({ env: exchange, req }) => {
    try {
      assertSameSite(exchange, req.method, options.hosts)
      exchange.caller = own ? OWN : options.guard.authenticate(exchange)
    } catch (thrown) {
      const error = toApiError(thrown)
      if (error.status < 500) options.refused?.(exchange, req.method, req.path, error.message)
      else options.failed?.(error.cause)
      throw error
    }
  }
}

function handlerOf(
  entry: RouteEntry,
  options: PipelineOptions,
  methods: (path: string) => string[],
): Answer {
  const { facts, path, owner } = entry
  const parameters = [...entry.scope.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string)
  const renderOwn = owner.plugin.renderError ?? problem
  const hides = hiddenBy(entry, options.hidden ?? [])
  return async (c) => {
    const exchange = c.env
    exchange.route = path
    try {
      if (hides(c.req.method, c.req.path)) {
        throw new ApiError(404, 'ROUTE_NOT_FOUND', `No route for ${c.req.path}`)
      }
      if (c.req.method === 'HEAD' && !(options.answersHead !== false && hasHead(facts))) {
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
      if (facts.body !== 'stream') {
        if (hasBody(exchange, c.req.method)) request = await limitBody(request, exchange, options)
      } else if (!facts.long) {
        request = exchange.streamed(request)
      }
      if (facts.long) exchange.hold()
      const answer = dispatch(entry, request, exchange)
      const endless = facts.long || facts.body === 'stream'
      return assertResponse(
        await (endless ? answer : withDeadline(answer, options.requestTimeoutMs)),
        entry,
      )
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

/**
 * Whether the plugin would take a request of this route for one that the listener does not serve:
 * a plugin has one router for all of its routes, and a pattern such as `/*` fits many of them.
 */
function hiddenBy(
  { owner, path }: RouteEntry,
  hidden: readonly RouteEntry[],
): (method: string, path: string) => boolean {
  // A catch-all comes last wherever it stands, and only answers that there is nothing.
  const others = hidden.filter((other) => other.owner === owner && !/^\/?\*$/.test(other.path))
  if (others.length === 0 || !/[*:]/.test(path)) return () => false
  const table = new TrieRouter<true>()
  for (const other of others) table.add(other.method, other.path, true)
  return (method, at) => table.match(method === 'HEAD' ? 'GET' : method, at)[0].length > 0
}

/** Whoever asks for the head alone means no change. */
function hasHead({ head, sideEffect }: RouteFacts): boolean {
  return head ?? !sideEffect
}

/** Tells the methods of a path, from a table that the first request for what is not there makes. */
function methodTable(
  routes: readonly RouteEntry[],
  answersHead: boolean,
): (path: string) => string[] {
  let table: TrieRouter<string> | undefined
  return (path) => {
    table ??= tableOf(routes, answersHead)
    const at = table
    return [...STANDARD].filter((method) => at.match(method, path)[0].length > 0)
  }
}

function tableOf(routes: readonly RouteEntry[], answersHead: boolean): TrieRouter<string> {
  const table = new TrieRouter<string>()
  for (const { method, path, facts } of routes) {
    table.add(method, path, method)
    if (method === 'GET' && answersHead && hasHead(facts)) table.add('HEAD', path, 'HEAD')
  }
  return table
}

function methodNotAllowed(method: string, path: string, allow: readonly string[]): ApiError {
  const standard = STANDARD.has(method)
  const remedy = standard ? `use ${allow.join(' or ')}` : 'it is no standard method'
  return new ApiError(405, 'METHOD_NOT_ALLOWED', `Cannot ${method} ${path}: ${remedy}`, {
    headers: standard ? { allow: allow.join(', ') } : {},
  })
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
  const body = await withDeadline<ArrayBuffer | Uint8Array<ArrayBuffer>>(
    hasLength(exchange)
      ? request.arrayBuffer().catch(brokenOff)
      : readLimited(request, options.maxBodyBytes, tooLarge),
    options.requestTimeoutMs,
  )
  const whole = new Request(request.url, {
    method: request.method,
    headers: request.headers,
    body,
  })
  // A property costs nothing until it is asked for, a signal in the constructor does.
  return Object.defineProperty(whole, 'signal', { get: () => request.signal })
}

/** Whether the parser sees to it that the body is as long as was said, so that nobody has to count. */
function hasLength(exchange: Exchange): boolean {
  return exchange.header('transfer-encoding') === undefined
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
    const { done, value } = (await reader?.read().catch(brokenOff)) ?? { done: true }
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

function brokenOff(cause: unknown): never {
  throw new ApiError(400, 'BODY_INCOMPLETE', 'Cannot read the body: it broke off', { cause })
}

/** A handler that settles at once needs no timer. */
function withDeadline<T>(work: T | Promise<T>, ms: number): T | Promise<T> {
  if (!(work instanceof Promise)) return work
  const late = () =>
    new ApiError(408, 'REQUEST_TIMEOUT', `Cannot finish the request within ${ms} ms`, {
      headers: { connection: 'close' },
    })
  return within(ms, work, late)
}
