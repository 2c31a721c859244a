import type { MiddlewareHandler } from 'hono'
import type { ZodType } from 'zod'

const FACTS = Symbol.for('cvmd.route.facts')

/** One documented answer of a route. */
export interface RouteAnswer {
  readonly description: string
  /** Media type; `application/json` when left out and a schema is given. */
  readonly type?: string
  readonly schema?: ZodType
}

/** What the core enforces and documents about one route. */
export interface RouteFacts {
  /** One line for the OpenAPI document. */
  readonly summary: string
  /**
   * The scope an API key needs. `{name}` stands for the path parameter of that name.
   * Default: `<plugin>:read` for GET, `<plugin>:write` for the rest.
   */
  readonly scope?: string
  /**
   * `stream`: the handler reads the body itself, without the core's size limit and deadline.
   * Default `limited`: at most the listener's `max_body_bytes`.
   */
  readonly body?: 'limited' | 'stream'
  /** The answer may take longer than the whole-request limit (streams, actions). */
  readonly long?: boolean
  /** `local`: of a `network` plugin, a route that Unix sockets alone have. */
  readonly exposure?: 'local'
  /**
   * `operator`: only on listeners with the core's routes, and behind their `auth` even where the
   * plugin authenticates its own callers. `own`: only on listeners without the core's routes that
   * name the plugin, such as a catch-all that would hide what others have.
   */
  readonly listener?: 'operator' | 'own'
  /** A GET that changes something: refused when a browser sends it from another site. */
  readonly sideEffect?: boolean
  /** `false`: HEAD is refused with 405, not answered in GET's place. Default with a side effect. */
  readonly head?: boolean
  readonly answers?: Readonly<Record<number, RouteAnswer>>
}

/**
 * Declares facts about the route it stands on: `app.get('/x', route({ summary: '…' }), handler)`.
 * At run time it only passes on; the registry and `src/openapi.ts` read the facts back.
 */
export function route(facts: RouteFacts): MiddlewareHandler {
  const middleware: MiddlewareHandler = (_c, next) => next()
  return Object.assign(middleware, { [FACTS]: facts })
}

/** The facts a handler carries, if it is one made by {@link route}. */
export function factsOf(handler: unknown): RouteFacts | undefined {
  if (typeof handler !== 'function') return undefined
  return (handler as { [FACTS]?: RouteFacts })[FACTS]
}
