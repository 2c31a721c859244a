import { join } from 'node:path'
import type { ConsolaInstance } from 'consola'
import type { EventLog } from './events/log.ts'
import type { Metrics } from './metrics.ts'
import type { AnyPlugin, Device, PluginInstance, Services } from './plugin.ts'
import { adopt, type LoadedPlugin } from './registry.ts'

/** What the core lends to every plugin. */
export interface CoreParts {
  readonly eventLog: EventLog
  readonly device: Device
  readonly metrics: Metrics
  readonly log: ConsolaInstance
  /** The daemon's state directory; each plugin gets a folder in it. */
  readonly stateDir: string
}

/** A plugin after `setup`, with the switch that ends it. */
export interface SetUpPlugin extends LoadedPlugin {
  readonly stateDir: string
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
  let instance: PluginInstance
  try {
    instance = plugin.setup({
      config,
      services: pick({ ...services, eventLog: parts.eventLog }, plugin.uses ?? []),
      device: parts.device,
      stateDir,
      events: parts.eventLog.sink(plugin.name),
      metrics: parts.metrics.of(plugin.name),
      log,
      signal: abort.signal,
    })
    if (typeof instance?.routes?.fetch !== 'function') {
      throw new TypeError('setup returned no routes')
    }
  } catch (cause) {
    throw new Error(`Cannot set up plugin "${plugin.name}": ${String((cause as Error).message)}`, {
      cause,
    })
  }
  const loaded = { plugin, instance, log, stateDir, abort, unavailable: 'it has not started' }
  adopt(loaded)
  return loaded
}

function pick(services: Partial<Services>, names: readonly (keyof Services)[]): Services {
  const picked: Record<string, unknown> = {}
  for (const name of names) {
    if (services[name] === undefined) throw new Error(`service "${name}" is not provided`)
    picked[name] = services[name]
  }
  return picked as unknown as Services
}
