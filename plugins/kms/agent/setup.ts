import { Hono } from 'hono'
import type { PluginContext, PluginEnv } from '../../../src/plugin.ts'
import type { Config } from '../config.ts'
import type { Agent, AgentTools } from './agent.ts'
import { agentMethods } from './methods.ts'
import { agentTools } from './tools.ts'

/**
 * The plugin in role `agent`.
 *
 * @param tools In place of the usual ones; for tests.
 */
export function setupAgent(
  context: PluginContext<Config, 'attestation' | 'appIdentity'>,
  tools: Partial<AgentTools> = {},
) {
  const { config, services, stateDir, events, metrics, log, signal } = context
  let agent: Agent | undefined
  const started = () => {
    if (agent) return agent
    throw new Error('Cannot use keys: the plugin is not running')
  }
  const routes = new Hono<PluginEnv>()
  agentMethods(routes, {
    agent: started,
    requests: metrics.counter('cvmd_kms_requests_total', 'Key requests by method and outcome.'),
  })
  return {
    routes,
    async start() {
      const { createAgent } = await import('./agent.ts')
      const usual = agentTools((message) => log.warn(message))
      const made = await createAgent({
        config,
        stateDir,
        events,
        tools: { ...usual, ...tools },
        ...services,
      })
      agent?.stop()
      agent = made
      if (signal.aborted) made.stop()
    },
    stop() {
      agent?.stop()
      agent = undefined
    },
    notReady: () => agent?.notReady(),
  }
}
