import { Hono } from 'hono'
import { prpcError } from '../../src/compat/prpc.ts'
import { definePlugin, type PluginEnv, type RoutesOf } from '../../src/plugin.ts'
import { Config } from './config.ts'
import { type Identity, loadIdentity } from './identity.ts'
import { MachineFactsReader } from './info.ts'
import { localMethods } from './local-methods.ts'
import { measuredIn, misstated } from './measured.ts'
import type { GuestParts } from './parts.ts'
import { PublicAttestations } from './public-attestation.ts'
import { publicRoutes } from './public-routes.ts'
import { measureIdentity } from './system-events.ts'
import { tappdMethods } from './tappd-methods.ts'

const guest = definePlugin({
  name: 'guest',
  summary: 'Tells applications and visitors who this VM is, and proves it',
  config: Config,
  requires: { any: ['tdx', 'nsm'] },
  uses: ['attestation'],
  provides: ['appIdentity'],
  exposure: 'network',
  home: 'guest',
  permissions: ({ app_compose, sys_config }) => ({
    read: [app_compose, sys_config, '/etc/os-release', '/proc'].filter(
      (path) => path !== undefined,
    ),
  }),
  renderError: prpcError,
  setup({ config, services: { attestation }, events, log, stateDir }) {
    let identity: Identity | undefined
    const current = () => {
      if (identity) return identity
      throw new Error('Cannot tell who the application is: the plugin has not started')
    }
    const facts = new MachineFactsReader(attestation)
    const parts: GuestParts = {
      attester: attestation,
      config,
      events,
      identity: current,
      facts,
      publicAttestations: new PublicAttestations(attestation, config, current),
    }
    const routes = new Hono<PluginEnv>()
    localMethods(routes, parts)
    tappdMethods(routes, parts)
    publicRoutes(routes, parts)
    return {
      routes,
      provides: { appIdentity: { current } },
      async start() {
        const measured = measuredIn(await attestation.runtimeEvents.list())
        identity = await loadIdentity(config, stateDir, measured)
        for (const name of misstated(identity, measured)) {
          const message = `the boot measured another ${name} than is configured`
          log.warn(`${message}: verifiers that compare them refuse`)
          events.append(message, { level: 'warn' })
        }
        // On Nitro nothing can be measured after the boot.
        if (config.measure_identity ?? (attestation.simulated && attestation.tdx !== undefined)) {
          await measureIdentity(attestation, identity)
        }
        facts.prepare()
      },
      stop: () => facts.stop(),
    }
  },
})

export default guest
export type GuestApi = RoutesOf<typeof guest>
