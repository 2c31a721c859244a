import { systemApiError } from '../../src/compat/system-api.ts'
import { problem } from '../../src/errors.ts'
import { definePlugin, type Permissions, type RoutesOf } from '../../src/plugin.ts'
import { Command, PASSED_ON, SHELLS } from './command.ts'
import { type ActionsConfig, Config } from './config.ts'
import { actionRoutes } from './routes.ts'
import { Runs } from './runs.ts'

const actions = definePlugin({
  name: 'actions',
  summary: 'Runs configured commands, with deadlines, output and history (system-api actions)',
  config: Config,
  exposure: 'network',
  permissions,
  renderError: (error, c) =>
    c.req.path.startsWith('/cvmd/') ? problem(error) : systemApiError(error),

  setup({ config, events, metrics }) {
    const commands = new Map(
      Object.entries(config.commands).map(([name, command]) => [
        name,
        new Command(name, command, config),
      ]),
    )
    const runs = new Runs({
      events,
      counter: metrics.counter('cvmd_action_runs_total', 'Runs of actions, by how they ended.'),
      maxRuns: config.max_runs,
      maxHistoryBytes: config.max_history_bytes,
    })
    metrics.gauge('cvmd_actions_running', 'Runs of actions going on.', () =>
      [...commands].map(([action, command]) => [{ action }, runs.load(command).running]),
    )
    return {
      routes: actionRoutes(commands, runs),
      start() {
        for (const command of commands.values()) command.prepare()
        runs.open()
      },
      stop: () => runs.stop(),
    }
  },
})

function permissions(config: ActionsConfig): Permissions {
  const all = Object.values(config.commands)
  const auto = config.shell === 'auto'
  const shells = auto ? SHELLS : [config.shell]
  const users = all.some(({ user }) => user !== undefined)
  const programs = all.flatMap(({ argv }) => (argv ? argv.slice(0, 1) : shells))
  const folders = all.flatMap(({ cwd }) => cwd ?? [])
  return {
    read: [...(auto ? SHELLS : []), ...(users ? ['/etc/passwd', '/etc/group'] : []), ...folders],
    run: [...new Set([...programs, ...(users ? ['setpriv'] : []), '/bin/kill'])].filter(Boolean),
    // The last one is read by Deno itself whenever it starts a process.
    env: all.some(({ system_api }) => system_api) ? ['*'] : [...PASSED_ON, 'NODE_V8_COVERAGE'],
  }
}

export default actions
export type ActionsApi = RoutesOf<typeof actions>
