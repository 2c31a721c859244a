import type { PluginReport } from './core-plugin.ts'
import { messageOf } from './errors.ts'
import type { Generation } from './generation.ts'
import type { PluginInstance } from './plugin.ts'
import { routesOf } from './registry.ts'

/** Every plugin of a generation with its state, for `GET /cvmd/plugins`. */
export function pluginReports(generation: Generation): PluginReport[] {
  const decided = generation.resolved.plugins.map(
    ({ plugin, state, reason, requires }): PluginReport => {
      const loaded = generation.plugins.find((p) => p.plugin.name === plugin.name)
      const failure = generation.failed.get(plugin.name)
      return {
        name: plugin.name,
        summary: plugin.summary,
        state: failure === undefined ? state : 'failed',
        reason: failure ?? reason,
        requires: requires ?? null,
        exposure: plugin.exposure ?? 'local',
        routes: loaded ? routesOf(loaded).map(({ method, path }) => ({ method, path })) : [],
      }
    },
  )
  // A file that could not be loaded has no plugin to report on.
  const unnamed = [...generation.failed]
    .filter(([name]) => !decided.some((report) => report.name === name))
    .map(([name, reason]): PluginReport => {
      const state = 'failed'
      return { name, summary: '', state, reason, requires: null, exposure: 'local', routes: [] }
    })
  return [...decided, ...unnamed]
}

/** What plugins are told of the daemon they are in; a service of the core. */
export interface DaemonState {
  /** The plugins that are to serve, with why one does not just now. */
  plugins(): readonly { readonly name: string; readonly problem: string | undefined }[]
}

/** A generation as plugins see it. */
export function daemonState(generation: () => Generation | undefined): DaemonState {
  return {
    plugins: () => {
      const now = generation()
      if (!now) return []
      const waiting = waitingOf(now)
      const names = new Set([...now.plugins.map(({ plugin }) => plugin.name), ...now.failed.keys()])
      return [...names].map((name) => ({ name, problem: waiting[name] }))
    },
  }
}

/** Why plugins that should serve cannot, by name; empty when all can. */
export function waitingOf(generation: Generation): Record<string, string> {
  const waiting: Record<string, string> = Object.fromEntries(generation.failed)
  for (const { plugin, instance, unavailable } of generation.plugins) {
    const reason = unavailable ?? reasonOf(instance)
    if (reason !== undefined) waiting[plugin.name] = reason
  }
  return waiting
}

/** What a plugin says about itself; one that throws there is not ready either. */
function reasonOf(instance: PluginInstance): string | undefined {
  try {
    return instance.notReady?.()
  } catch (error) {
    return `notReady failed: ${messageOf(error)}`
  }
}
