import type { Attester } from './attester/attester.ts'
import type { PasswordStore } from './auth/password.ts'
import { passwordPlugin } from './auth/password-routes.ts'
import type { ListenerConfig, PluginDecision, Resolved } from './config/resolve.ts'
import { type CoreView, corePlugin } from './core-plugin.ts'
import { messageOf } from './errors.ts'
import { type Mounted, type MountParts, mount } from './http/mount.ts'
import type { Services } from './plugin.ts'
import type { Prepared } from './prepare.ts'
import { assertOutsideCore, RouteConflict } from './registry.ts'
import { type CoreParts, coreServices, type SetUpPlugin, setUp } from './setup.ts'

/** One configuration brought to life: plugins set up, listeners' routes built, nothing started. */
export interface Generation {
  readonly resolved: Resolved
  /** In start order, without the core's own. */
  readonly plugins: readonly SetUpPlugin[]
  /**
   * Plugins from outside that cannot run, with the reason, by name or, when they never got as far
   * as having one, by file. Grows when one fails to start.
   */
  readonly failed: Map<string, string>
  readonly mounted: ReadonlyMap<string, Mounted>
  readonly passwords: PasswordStore | undefined
  /** What its plugins prove the machine with. */
  readonly attestation: Attester
  /** Instances taken over from the previous generation because nothing about them changed. */
  readonly kept: ReadonlySet<SetUpPlugin>
  /** What each plugin was made from; equal text means it can be kept. */
  readonly fingerprints: ReadonlyMap<string, string>
}

/** What a generation is built with. */
export interface GenerationParts {
  readonly core: CoreParts
  readonly mount: MountParts
  readonly view: CoreView
}

/**
 * Builds a generation. A file from outside that cannot be used is refused and leaves the others
 * alone; a built-in one that cannot is our own fault and stops the build.
 *
 * @throws {Error} Naming the plugin.
 */
export function buildGeneration(
  prepared: Prepared,
  parts: GenerationParts,
  previous?: Generation,
): Generation {
  const { resolved, externals } = prepared
  const failed = new Map<string, string>()
  const digests = new Map<string, string>()
  for (const result of externals) {
    if ('plugin' in result) digests.set(result.plugin.name, result.digest)
    else failed.set(result.name ?? result.file.path, result.error)
  }
  const fingerprints = new Map<string, string>()
  for (const { plugin } of resolved.plugins) {
    const table = resolved.source.table.plugins as Record<string, unknown> | undefined
    const text = JSON.stringify([table?.[plugin.name] ?? {}, digests.get(plugin.name) ?? null])
    fingerprints.set(plugin.name, text)
  }
  const { plugins, kept } = setUpAll(resolved, parts.core, failed, digests, (name) => {
    if (previous?.fingerprints.get(name) !== fingerprints.get(name)) return undefined
    const old = previous?.plugins.find(({ plugin }) => plugin.name === name)
    const proves = old?.uses.includes('attestation')
    return proves && previous?.attestation !== parts.core.attestation ? undefined : old
  })
  const passwords = parts.mount.passwords
  const mounted = mountAll(resolved, plugins, failed, digests, parts)
  const { attestation } = parts.core
  return { resolved, plugins, failed, mounted, passwords, attestation, kept, fingerprints }
}

/** Sets plugins up as soon as the services they use are there, which is also the start order. */
function setUpAll(
  resolved: Resolved,
  core: CoreParts,
  failed: Map<string, string>,
  externals: ReadonlyMap<string, string>,
  keep: (name: string) => SetUpPlugin | undefined,
): { plugins: SetUpPlugin[]; kept: Set<SetUpPlugin> } {
  const services: Partial<Services> = coreServices(core)
  const providers = new Map<string, string>(Object.keys(services).map((key) => [key, 'cvmd']))
  const plugins: SetUpPlugin[] = []
  const kept = new Set<SetUpPlugin>()
  let waiting: readonly PluginDecision[] = resolved.plugins.filter((d) => d.state === 'enabled')
  const refuse = (name: string, error: unknown) => {
    if (!externals.has(name)) throw error
    failed.set(name, messageOf(error))
  }
  const missing = ({ uses }: PluginDecision) => uses.filter((name) => !providers.has(name))
  while (waiting.length > 0) {
    const ready = waiting.filter((decision) => missing(decision).length === 0)
    if (ready.length === 0) break
    waiting = waiting.filter((decision) => !ready.includes(decision))
    for (const { plugin, config, uses } of ready) {
      try {
        // A kept instance holds the services it was given, so all their providers must be kept.
        const sameServices = uses.every((name) => {
          const provider = providers.get(name)
          return provider === 'cvmd' || [...kept].some((p) => p.plugin.name === provider)
        })
        const old = sameServices ? keep(plugin.name) : undefined
        const loaded = old ?? setUp(plugin, config, core, services)
        if (externals.has(plugin.name)) assertOutsideCore(loaded)
        const provided = Object.keys(loaded.instance.provides ?? {})
        for (const name of provided) {
          const owner = providers.get(name)
          if (owner === undefined) continue
          throw new Error(
            `Cannot set up plugin "${plugin.name}": plugin "${owner}" already provides "${name}"`,
          )
        }
        for (const name of provided) providers.set(name, plugin.name)
        Object.assign(services, loaded.instance.provides)
        plugins.push(loaded)
        if (old) kept.add(old)
      } catch (error) {
        refuse(plugin.name, error)
      }
    }
  }
  for (const decision of waiting) {
    const list = missing(decision).join(', ')
    const name = decision.plugin.name
    refuse(name, new Error(`Cannot set up plugin "${name}": nothing provides ${list}`))
  }
  return { plugins, kept }
}

/** Builds every listener; an outside plugin that claims a taken route is taken off all of them. */
function mountAll(
  resolved: Resolved,
  plugins: SetUpPlugin[],
  failed: Map<string, string>,
  externals: ReadonlyMap<string, string>,
  parts: GenerationParts,
): Map<string, Mounted> {
  const services = {}
  const core = setUp(corePlugin(parts.view), {}, parts.core, services)
  const auth = setUp(passwordPlugin(parts.mount.passwords), {}, parts.core, services)
  core.unavailable = undefined
  auth.unavailable = undefined
  for (;;) {
    try {
      const mounted = new Map<string, Mounted>()
      for (const config of resolved.listeners) {
        const own = config.core ? [core] : []
        if (setsPassword(config, parts.mount)) own.push(auth)
        // Built-in ones first, so that no pattern from outside comes before their routes.
        const served = plugins
          .filter(({ plugin }) => config.mounted.includes(plugin.name))
          .sort(
            (a, b) => Number(externals.has(a.plugin.name)) - Number(externals.has(b.plugin.name)),
          )
        mounted.set(config.name, mount(config, [...own, ...served], parts.mount))
      }
      return mounted
    } catch (error) {
      if (!(error instanceof RouteConflict) || !externals.has(error.plugin)) throw error
      failed.set(error.plugin, error.message)
      plugins.splice(
        plugins.findIndex(({ plugin }) => plugin.name === error.plugin),
        1,
      )
    }
  }
}

/**
 * Who may use a Unix socket can set the first password there, and a new one for a lost one; over
 * TCP only a caller of that password can.
 */
function setsPassword(config: ListenerConfig, { passwords }: MountParts): boolean {
  if (config.dialect === 'system-api' || config.auth.includes('basic')) return true
  return config.core && config.unix !== undefined && passwords !== undefined
}
