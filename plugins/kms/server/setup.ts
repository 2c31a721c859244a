import { join } from 'node:path'
import { Hono } from 'hono'
import type { PluginContext, PluginEnv, PluginInstance } from '../../../src/plugin.ts'
import type { Config } from '../config.ts'
import type { ServerConfig } from './config.ts'
import type { KmsService } from './service.ts'

/** The plugin in role `server`; it has listeners of its own. */
export function setupServer(
  {
    config,
    services,
    stateDir,
    events,
    metrics,
    log,
    signal,
  }: PluginContext<Config, 'attestation'>,
  server: ServerConfig,
): PluginInstance<Hono<PluginEnv>> {
  const folder = server.root_keys ?? join(stateDir, 'root-keys')
  const requests = metrics.counter(
    'cvmd_kms_requests_total',
    'Key requests by method, outcome and reason.',
  )
  let service: KmsService | undefined
  return {
    routes: new Hono<PluginEnv>(),
    async start() {
      // Loaded when it is used: an agent has no need of it.
      const [{ createKmsService }, { openTrust }, { createPolicy }] = await Promise.all([
        import('./service.ts'),
        import('../trust/open-trust.ts'),
        import('../policy/index.ts'),
      ])
      service = createKmsService({
        config: server,
        folder,
        stateDir,
        attester: services.attestation,
        trust: await openTrust(config.trust, { log: (message) => log.warn(message), signal }),
        policy: createPolicy(server.policy),
        requests,
        events,
        log,
      })
      await service.start()
    },
    async stop() {
      await service?.stop()
      service = undefined
    },
    notReady: () => service?.notReady(),
  }
}
