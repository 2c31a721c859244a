import * as v from 'valibot'
import { defaultPaths } from './config/paths.ts'
import {
  type ConfigSource,
  externalsOf,
  type Resolved,
  readConfig,
  requirementsOf,
  resolveConfig,
} from './config/resolve.ts'
import { CoreConfig } from './config/schema.ts'
import { type Machine, probe } from './device/probe.ts'
import type { Transport } from './device/transport.ts'
import { setAside } from './external/config.ts'
import { type ExternalResult, loadExternals } from './external/load.ts'
import type { AnyPlugin } from './plugin.ts'

/** What a configuration is prepared from. */
export interface PrepareOptions {
  /** Configuration file; undefined means built-in defaults. */
  readonly file: string | undefined
  /** Folder that stands for `/` when the machine is probed. */
  readonly root: string
  /** Stands in for the machine's attestation devices. */
  readonly simulate?: 'tdx' | 'nitro' | undefined
  /** The device of `simulate`, where it was made before. */
  readonly transport?: Transport | undefined
  /** What was found before, on reload: kept where a busy device lets nobody look in time. */
  readonly previous?: Machine | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly builtins: readonly AnyPlugin[]
  /** Changes the source before it is checked; how command-line flags take effect. */
  readonly amend?: (source: ConfigSource) => ConfigSource
}

/** A checked configuration and everything it was checked against. */
export interface Prepared {
  readonly resolved: Resolved
  readonly machine: Machine
  readonly externals: readonly ExternalResult[]
}

/**
 * Reads and checks a configuration without starting anything. The boot, `cvmd check` and reload
 * all go through here, so that none of them accepts what another refuses.
 *
 * @throws {ConfigError} Naming every problem.
 */
export async function prepare(options: PrepareOptions): Promise<Prepared> {
  const read = readConfig(options.file, options.env)
  const amended = options.amend?.(read) ?? read
  const names = options.builtins.map(({ name }) => name)
  const found = await loadExternals(externalsOf(amended), names, startTimeoutMs(amended))
  const { source, externals } = setAside(amended, found, options.builtins)
  const loaded = externals.flatMap((result) => ('plugin' in result ? [result.plugin] : []))
  const plugins = [...options.builtins, ...loaded]
  const machine = await probe(options.root, requirementsOf(source, plugins), {
    transport: await simulatedTransport(options),
    previous: options.previous,
  })
  return { resolved: resolveConfig(source, plugins, machine), machine, externals }
}

/** The simulated device where one is asked for; a command that only looks leaves no trace of it. */
export async function simulatedTransport({
  transport,
  simulate,
}: PrepareOptions): Promise<Transport | undefined> {
  if (transport || !simulate) return transport
  const { createSimulator } = await import('./simulate/simulator.ts')
  return (await createSimulator({ platform: simulate })).transport
}

/**
 * The same options with the device that `simulate` names, for a daemon: its registers outlive a
 * reload, its keys are kept in the state directory, and what a verifier needs is published there.
 *
 * @throws {Error} When the state directory cannot be used.
 */
export async function withSimulator(options: PrepareOptions): Promise<PrepareOptions> {
  if (!options.simulate) return options
  const { createSimulator } = await import('./simulate/simulator.ts')
  const { state_dir } = readConfig(options.file, options.env).table
  const { stateDir } = defaultPaths(typeof state_dir === 'string' ? { state_dir } : {})
  const { transport } = await createSimulator({ platform: options.simulate, stateDir })
  return { ...options, transport }
}

/** Loading a module may take as long as starting a plugin; a wrong value is reported later. */
function startTimeoutMs(source: ConfigSource): number {
  const { start_timeout_ms: schema } = CoreConfig.entries
  const given = v.safeParse(schema, source.table.start_timeout_ms)
  return given.success ? given.output : v.getDefault(schema)
}
