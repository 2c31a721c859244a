import type { PluginMetrics } from '../../../src/metrics.ts'
import type { Commands } from '../commands/command.ts'
import type { Deployments } from '../provision/deployments.ts'
import { ZosError } from '../zos-error.ts'

/** Counts commands by what became of them, and what runs by type and state. */
export function measured(
  commands: Commands,
  deployments: Pick<Deployments, 'running'>,
  metrics: PluginMetrics,
): Commands {
  const counter = metrics.counter(
    'cvmd_zos_commands_total',
    'Commands by name and outcome, however they came.',
  )
  metrics.gauge('cvmd_zos_workloads', 'Workloads that run or are paused, by type.', () => {
    const counts = new Map<string, number>()
    for (const { workload } of deployments.running()) {
      counts.set(workload.type, (counts.get(workload.type) ?? 0) + 1)
    }
    return [...counts].map(([type, count]) => [{ type }, count] as const)
  })
  const known = new Set(commands.names())
  return {
    ...commands,
    async dispatch(call) {
      // A label for each name that somebody makes up would have no end.
      const command = known.has(call.command) ? call.command : 'unknown'
      try {
        const reply = await commands.dispatch(call)
        counter.inc({ command, outcome: 'ok' })
        return reply
      } catch (error) {
        counter.inc({ command, outcome: error instanceof ZosError ? error.kind : 'failed' })
        throw error
      }
    },
  }
}
