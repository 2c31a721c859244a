import { prpcError } from '../../src/compat/prpc.ts'
import { problem } from '../../src/errors.ts'
import { definePlugin, type Permissions, type RoutesOf } from '../../src/plugin.ts'
import { agentPermissions } from './agent/config.ts'
import { setupAgent } from './agent/setup.ts'
import { Config } from './config.ts'
import { serverPermissions } from './server/config.ts'
import { setupServer } from './server/setup.ts'
import { trustPermissions } from './trust/permissions.ts'

const kms = definePlugin({
  name: 'kms',
  summary: 'Keys and certificates for the application in this VM, or for other VMs',
  config: Config,
  // A KMS starts anywhere; that it cannot attest is no reason not to say so.
  requires: ({ role }) => (role === 'agent' ? { any: ['tdx', 'nsm'] } : undefined),
  uses: ({ role }) =>
    role === 'agent' ? (['attestation', 'appIdentity'] as const) : (['attestation'] as const),
  exposure: 'local',
  home: 'guest',
  permissions: (config) =>
    allOf(
      trustPermissions(config.trust),
      config.server ? serverPermissions(config.server) : agentPermissions(config),
    ),
  renderError: (error, c) =>
    c.req.path.startsWith('/cvmd/') ? problem(error) : prpcError(error, c),
  setup: (context) => {
    const { server } = context.config
    return server ? setupServer(context, server) : setupAgent(context)
  },
})

function allOf(...parts: readonly Permissions[]): Permissions {
  const of = (kind: 'read' | 'write' | 'net') => parts.flatMap((part) => part[kind] ?? [])
  return { read: of('read'), write: of('write'), net: of('net') }
}

export default kms
export type KmsApi = RoutesOf<typeof kms>
