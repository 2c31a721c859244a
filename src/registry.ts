import type { ConsolaInstance } from 'consola'
import { ApiError, problem, toApiError } from './errors.ts'
import type { Exchange } from './http/exchange.ts'
import { requestPath } from './http/path.ts'
import type { AnyPlugin, PluginInstance } from './plugin.ts'
import { factsOf, type RouteFacts } from './route.ts'
import { type RequestSchema, schemaOf } from './validate.ts'

/** A plugin that was set up. */
export interface LoadedPlugin {
  readonly plugin: AnyPlugin
  readonly instance: PluginInstance
  readonly log: ConsolaInstance
  /** Undefined while the plugin runs; else why its routes answer 503. */
  unavailable: string | undefined
}

/** One route of one plugin, as data. */
export interface RouteEntry {
  readonly owner: LoadedPlugin
  readonly method: string
  readonly path: string
  readonly facts: RouteFacts
  readonly scope: string
  readonly schemas: readonly RequestSchema[]
}

/**
 * Readies a plugin's application for the core: paths are read the core's way and errors are
 * rendered in the plugin's dialect. Works on a foreign copy of Hono.
 */
export function adopt(loaded: LoadedPlugin): void {
  const app = loaded.instance.routes
  Object.assign(app, { getPath: requestPath })
  app.onError((thrown, c) => {
    const error = toApiError(thrown)
    if (error.status >= 500 && error.code === 'INTERNAL_ERROR') {
      loaded.log.error(`${c.req.method} ${c.req.path} failed`, error.cause)
    }
    return loaded.plugin.renderError?.(error, c) ?? problem(error)
  })
}

/** Lists a plugin's routes, leaving out bare middleware; handlers of one route become one entry. */
export function routesOf(loaded: LoadedPlugin): RouteEntry[] {
  const byKey = new Map<string, { method: string; path: string; handlers: unknown[] }>()
  for (const { method, path, handler } of loaded.instance.routes.routes) {
    const key = `${method} ${path}`
    const known = byKey.get(key)
    if (known) known.handlers.push(handler)
    else byKey.set(key, { method, path, handlers: [handler] })
  }
  // `use()` and `all()` both register ALL; a catch-all takes `c` alone, middleware also `next`.
  const answers = ({ method, handlers }: { method: string; handlers: unknown[] }) =>
    method !== 'ALL' || handlers.some((handler) => (handler as { length: number }).length < 2)
  return [...byKey.values()].filter(answers).map(({ method, path, handlers }) => {
    const facts = handlers.map(factsOf).find((found) => found !== undefined) ?? { summary: '' }
    const verb = method === 'GET' ? 'read' : 'write'
    return {
      owner: loaded,
      method,
      path,
      facts,
      scope: facts.scope ?? `${loaded.plugin.name}:${verb}`,
      schemas: handlers.map(schemaOf).filter((found) => found !== undefined),
    }
  })
}

/** Whether a route is the operator's, wherever its plugin is at home. */
export function isOperators({ path, facts }: Pick<RouteEntry, 'path' | 'facts'>): boolean {
  return facts.listener === 'operator' || /^\/cvmd(\/|$)/.test(path)
}

/** Two plugins claim one route on one listener. */
export class RouteConflict extends Error {
  override readonly name = 'RouteConflict'
  /** The plugin that came second. */
  readonly plugin: string

  constructor(listener: string, route: string, plugin: string, owner: string) {
    super(
      `Cannot mount plugin "${plugin}" on ${listener}: plugin "${owner}" already claims ${route}`,
    )
    this.plugin = plugin
  }
}

/**
 * Refuses two plugins that claim one route on one listener.
 *
 * @throws {RouteConflict}
 */
export function assertDistinct(listener: string, routes: readonly RouteEntry[]): void {
  const owners = new Map<string, string>()
  for (const { method, path, owner } of routes) {
    const shape = `${method} ${path.replace(/:[^/]+/g, ':')}`
    const other = owners.get(shape)
    if (other !== undefined && other !== owner.plugin.name) {
      throw new RouteConflict(listener, `${method} ${path}`, owner.plugin.name, other)
    }
    owners.set(shape, owner.plugin.name)
  }
}

/**
 * Refuses routes of an external plugin in the core's own part of the tree.
 *
 * @throws {Error} Naming the plugin and the first such route.
 */
export function assertOutsideCore(loaded: LoadedPlugin): void {
  const inside = routesOf(loaded).find(({ path }) => /^\/cvmd(\/|$)/.test(path))
  if (!inside) return
  const { name } = loaded.plugin
  throw new Error(
    `Cannot mount plugin "${name}": ${inside.method} ${inside.path} is below /cvmd/, which is the core's`,
  )
}

/** Hands a request to the plugin that owns the route. */
export function dispatch(
  entry: RouteEntry,
  request: Request,
  exchange: Exchange,
): Response | Promise<Response> {
  const { owner } = entry
  if (owner.unavailable !== undefined) {
    throw new ApiError(
      503,
      'PLUGIN_NOT_RUNNING',
      `Plugin "${owner.plugin.name}" is not running: ${owner.unavailable}`,
      { headers: { 'retry-after': '5' } },
    )
  }
  return owner.instance.routes.fetch(request, exchange)
}
