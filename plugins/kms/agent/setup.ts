import { Hono } from 'hono'
import type { PluginContext, PluginEnv } from '../../../src/plugin.ts'
import type { Config } from '../config.ts'
import type { Agent } from './agent.ts'
import { agentMethods } from './methods.ts'

/** The plugin in role `agent`. */
export function setupAgent({
  config,
  services,
  stateDir,
  events,
  metrics,
}: PluginContext<Config, 'attestation' | 'appIdentity'>) {
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
      const madeKeys = () => events.append('made new keys, there were none yet')
      agent = await createAgent({ config, stateDir, madeKeys, ...services })
      events.append(`keys are derived from ${agent.from}`)
    },
    stop() {
      agent?.keyring.clear()
      agent = undefined
    },
  }
}
