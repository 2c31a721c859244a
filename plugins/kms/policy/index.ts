import { chainPolicy } from './chain.ts'
import type { PolicyConfig } from './config.ts'
import { devPolicy } from './dev.ts'
import { filePolicy } from './file.ts'
import type { Policy } from './policy.ts'
import { sharedPolicy } from './shared.ts'
import { webhookPolicy } from './webhook.ts'

/**
 * The policy that the configuration asks for; opens nothing until it is asked.
 *
 * @param ended Ends questions to a service.
 */
export function createPolicy(config: PolicyConfig, ended?: AbortSignal): Policy {
  switch (config.type) {
    case 'webhook':
      return sharedPolicy(
        webhookPolicy({ kind: 'auth api', url: config.url, ...accessOf(config) }),
        ended,
      )
    case 'file':
      return filePolicy(config.file)
    case 'chain': {
      const { rpc_url: url, rpc_path: secretPath, contract, chain_id, confirmations } = config
      const service = { kind: 'chain node', url, secretPath, ...accessOf(config) } as const
      return sharedPolicy(
        chainPolicy({ service, contract, chainId: chain_id, confirmations }),
        ended,
      )
    }
    case 'dev':
      return devPolicy(config.gateway_app_id)
  }
}

type OverHttp = Extract<PolicyConfig, { readonly deadline_ms: number }>

function accessOf({ token, ca_file, deadline_ms }: OverHttp) {
  return { token, caFile: ca_file, deadlineMs: deadline_ms }
}
