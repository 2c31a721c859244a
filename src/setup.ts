import { join } from 'node:path'
import type { ConsolaInstance } from 'consola'
import type { Attester } from './attester/attester.ts'
import { messageOf } from './errors.ts'
import type { EventLog } from './events/log.ts'
import type { Gpus } from './gpu/gpus.ts'
import type { Metrics, OwnedMetrics } from './metrics.ts'
import { needsOf } from './needs.ts'
import type { AnyPlugin, Device, PluginInstance, Services } from './plugin.ts'
import { adopt, type LoadedPlugin } from './registry.ts'
import type { DaemonState } from './reports.ts'

/** What the core lends to every plugin. */
export interface CoreParts {
  readonly eventLog: EventLog
  readonly attestation: Attester
  readonly gpus: Gpus
  readonly daemon: DaemonState
  readonly device: Device
  readonly metrics: Metrics
  readonly log: ConsolaInstance
  /** The daemon's state directory; each plugin gets a folder in it. */
  readonly stateDir: string
}

/** A plugin after `setup`, with the switch that ends it. */
export interface SetUpPlugin extends LoadedPlugin {
  /** Services it was given. */
  readonly uses: readonly (keyof Services)[]
  readonly stateDir: string
  readonly metrics: OwnedMetrics
  /** Aborts the `signal` the plugin was given. */
  readonly abort: AbortController
}

/**
 * Runs a plugin's `setup` with a checked configuration.
 *
 * @throws {Error} Naming the plugin, with what it threw as the cause.
 */
export function setUp(
  plugin: AnyPlugin,
  config: unknown,
  parts: CoreParts,
  services: Partial<Services>,
): SetUpPlugin {
  const abort = new AbortController()
  const log = parts.log.withTag(plugin.name)
  const stateDir = join(parts.stateDir, plugin.name)
  const metrics = parts.metrics.of(plugin.name)
  const { uses } = needsOf(plugin, config)
  let instance: PluginInstance
  try {
    instance = plugin.setup({
      config,
      services: pick({ ...coreServices(parts), ...services }, uses),
      device: parts.device,
      stateDir,
      events: parts.eventLog.sink(plugin.name),
      metrics,
      log,
      signal: abort.signal,
    })
    assertInstance(instance)
  } catch (cause) {
    throw new Error(`Cannot set up plugin "${plugin.name}": ${messageOf(cause)}`, {
      cause,
    })
  }
  const unavailable = 'it has not started'
  const loaded = { plugin, uses, instance, log, stateDir, metrics, abort, unavailable }
  adopt(loaded)
  return loaded
}

/** The services the core itself provides. */
export function coreServices({ eventLog, attestation, gpus, daemon }: CoreParts) {
  return { eventLog, attestation, gpus, daemon } satisfies Partial<Services>
}

/** By its members, never by a class: an external plugin brings a Hono of its own. */
function assertInstance(instance: PluginInstance | Promise<unknown>): void {
  if (instance instanceof Promise) {
    // Nobody waits for it, and a rejection nobody handles ends the process.
    instance.catch(() => undefined)
    throw new TypeError('setup is async, it must return the instance itself')
  }
  const { routes, provides } = instance ?? {}
  const app = typeof routes?.fetch === 'function' && typeof routes.onError === 'function'
  if (!app || !Array.isArray(routes.routes)) throw new TypeError('setup returned no routes')
  if (provides !== undefined && (typeof provides !== 'object' || provides === null)) {
    throw new TypeError('setup returned provides that is no object')
  }
  for (const key of ['start', 'stop', 'notReady'] as const) {
    if (instance[key] === undefined || typeof instance[key] === 'function') continue
    throw new TypeError(`setup returned ${key} that is no function`)
  }
}

function pick(services: Partial<Services>, names: readonly (keyof Services)[]): Services {
  const picked: Record<string, unknown> = {}
  for (const name of names) {
    if (services[name] === undefined) throw new Error(`service "${name}" is not provided`)
    picked[name] = services[name]
  }
  return picked as unknown as Services
}
