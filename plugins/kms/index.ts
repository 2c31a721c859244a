import { Hono } from 'hono'
import { prpcError } from '../../src/compat/prpc.ts'
import { definePlugin, type PluginEnv, type RoutesOf } from '../../src/plugin.ts'
import type { Agent } from './agent/agent.ts'
import { agentMethods } from './agent/methods.ts'
import { Config } from './config.ts'

const kms = definePlugin({
  name: 'kms',
  summary: 'Keys and certificates for the application in this VM',
  config: Config,
  requires: { any: ['tdx', 'nsm'] },
  uses: ['attestation', 'appIdentity'],
  exposure: 'local',
  home: 'guest',
  permissions: ({ key_file }) => (key_file ? { read: [key_file.file] } : {}),
  renderError: prpcError,
  setup({ config, services, stateDir, events, metrics }) {
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
        const { createAgent } = await import('./agent/agent.ts')
        const madeKeys = () => events.append('made new keys, there were none yet')
        agent = await createAgent({ config, stateDir, madeKeys, ...services })
        events.append(`keys are derived from ${agent.from}`)
      },
      stop() {
        agent?.keyring.clear()
        agent = undefined
      },
    }
  },
})

export default kms
export type KmsApi = RoutesOf<typeof kms>
