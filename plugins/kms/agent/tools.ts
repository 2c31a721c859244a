import { pause } from '../../../src/pause.ts'
import type { AgentTools } from './agent.ts'

/**
 * What an agent works with outside of tests; what only a KMS needs is loaded for one.
 *
 * @param log Told of files and services for trust that cannot be used.
 */
export function agentTools(log: (message: string) => void): AgentTools {
  return {
    openConnection: async (options) => {
      const { openKmsConnection } = await import('../client/open-connection.ts')
      return openKmsConnection(options)
    },
    openTrust: async (config, signal) => {
      const { openTrust } = await import('../trust/open-trust.ts')
      return openTrust(config, { log, signal })
    },
    pause,
  }
}
