import type { ConsolaInstance } from 'consola'
import type { Audit } from '../auth/audit.ts'
import { createGuard, type Guard, OPEN } from '../auth/guard.ts'
import type { KeyStore } from '../auth/keys.ts'
import type { PasswordStore } from '../auth/password.ts'
import type { Recogniser } from '../auth/recogniser.ts'
import type { Throttle } from '../auth/throttle.ts'
import { prpcListenerError } from '../compat/prpc.ts'
import { systemApiError } from '../compat/system-api.ts'
import { parseAddress } from '../config/address.ts'
import type { ListenerConfig } from '../config/resolve.ts'
import type { Metrics } from '../metrics.ts'
import { homeOf } from '../plugin.ts'
import {
  assertDistinct,
  isOperators,
  type LoadedPlugin,
  type RouteEntry,
  routesOf,
} from '../registry.ts'
import type { Handler } from '../runtime.ts'
import { buildPipeline, type ErrorRenderer, type PipelineOptions } from './pipeline.ts'

/** What listeners share. */
export interface MountParts {
  readonly metrics: Metrics
  readonly log: ConsolaInstance
  readonly audit: Audit
  readonly throttle: Throttle
  readonly keys: KeyStore
  readonly passwords: PasswordStore | undefined
  /** Whom certificates of clients stand for. */
  readonly certificates?: Recogniser | undefined
  /** Whom users of this machine stand for. */
  readonly peers?: Recogniser | undefined
  readonly realm: string
  /** Whether to log a line per request. */
  readonly requestLines: boolean
}

/** How errors of no plugin look; without an entry, problem+json. */
const DIALECTS: Readonly<Partial<Record<ListenerConfig['dialect'], ErrorRenderer>>> = {
  'system-api': systemApiError,
  dstack: prpcListenerError,
}

/** A listener's routes and what answers them. */
export interface Mounted {
  readonly routes: readonly RouteEntry[]
  readonly handle: Handler
}

/**
 * Puts plugins on one listener.
 *
 * @throws {Error} When two of them claim one route.
 */
export function mount(
  config: ListenerConfig,
  plugins: readonly LoadedPlugin[],
  parts: MountParts,
): Mounted {
  const all = plugins.flatMap(routesOf)
  const routes = all.filter((entry) => isServed(entry, config))
  assertDistinct(config.name, routes)
  for (const wanted of config.routes ?? []) {
    if (routes.some(({ path }) => names(wanted, path))) continue
    parts.log.warn(`${config.name}: nothing here serves the route "${wanted}"`)
  }
  const hosts = allowedHosts(config)
  const renderError = DIALECTS[config.dialect]
  const options: PipelineOptions = {
    guard: guardOf(config, parts),
    ...(hosts && { hosts }),
    hidden: all.filter((entry) => !routes.includes(entry)),
    maxBodyBytes: config.max_body_bytes,
    requestTimeoutMs: config.request_timeout_ms,
    answersHead: config.dialect !== 'system-api',
    ...(renderError && { renderError }),
    observe: observer(parts),
    refused: (exchange, method, path, why) => parts.audit.refused(exchange, method, path, why),
    failed: (cause) => parts.log.error('Request failed', cause),
  }
  const app = buildPipeline(routes, options)
  return { routes, handle: (request, exchange) => app.fetch(request, exchange) }
}

/** Whether a listener serves a route: not a local one on TCP, and each side its own. */
function isServed({ path, facts, owner }: RouteEntry, config: ListenerConfig): boolean {
  if (facts.exposure === 'local' && config.unix === undefined) return false
  if (config.routes) return config.routes.some((wanted) => names(wanted, path))
  if (isOperators({ path, facts })) return config.core
  const named = config.plugins !== undefined
  if (facts.listener === 'own') return named && !config.core
  const home = homeOf(owner.plugin)
  return named || (home === 'own' ? false : !config.core || home === 'operator')
}

/** A full path, or the last part of one with or without its service's name: `Tappd.Info`. */
function names(wanted: string, path: string): boolean {
  if (wanted.startsWith('/')) return wanted === path
  const last = path.slice(path.lastIndexOf('/') + 1)
  return last === wanted || last.slice(last.indexOf('.') + 1) === wanted
}

function guardOf(config: ListenerConfig, parts: MountParts): Guard {
  const methods = config.auth.filter((method) => method !== 'none')
  if (methods.length === 0) return OPEN
  return createGuard({
    methods,
    passwords: parts.passwords,
    keys: parts.keys,
    certificate: parts.certificates,
    peer: parts.peers,
    throttle: parts.throttle,
    realm: parts.realm,
    openUntilSet: config.open_until_password,
  })
}

/** On a loopback port only these names are served, so that no rebound name reaches it. */
function allowedHosts(config: ListenerConfig): ReadonlySet<string> | undefined {
  const address = config.address === undefined ? undefined : parseAddress(config.address)
  if (!address?.loopback) return undefined
  return new Set(['localhost', '127.0.0.1', '[::1]', address.host, ...config.hosts])
}

function observer(parts: MountParts): NonNullable<PipelineOptions['observe']> {
  const { metrics, log, requestLines } = parts
  return (exchange, method, status, ms) => {
    metrics.request(method, exchange.route, status, ms / 1000)
    if (!requestLines) return
    const peer = exchange.peer()
    log.info(`${method} ${exchange.route || '(no route)'} ${status}`, {
      method,
      route: exchange.route,
      status,
      ms: Math.round(ms * 1000) / 1000,
      listener: exchange.listener,
      caller: exchange.caller.name,
      peer: peer.port === 0 ? peer.address : `${peer.address}:${peer.port}`,
    })
  }
}
