import { prpcError } from '../../src/compat/prpc.ts'
import { definePlugin, type RoutesOf } from '../../src/plugin.ts'
import { setupAgent } from './agent/setup.ts'
import { Config } from './config.ts'
import { policyPermissions } from './policy/config.ts'

const kms = definePlugin({
  name: 'kms',
  summary: 'Keys and certificates for the application in this VM, or for other VMs',
  config: Config,
  requires: ({ role }) => (role === 'agent' ? { any: ['tdx', 'nsm'] } : undefined),
  uses: ({ role }) =>
    role === 'agent' ? (['attestation', 'appIdentity'] as const) : (['attestation'] as const),
  exposure: 'local',
  home: 'guest',
  permissions: ({ key_file, server }) =>
    server ? policyPermissions(server.policy) : key_file ? { read: [key_file.file] } : {},
  renderError: prpcError,
  setup: (context) => setupAgent(context),
})

export default kms
export type KmsApi = RoutesOf<typeof kms>
