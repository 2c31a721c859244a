import { join } from 'node:path'
import { Hono } from 'hono'
import type { PluginContext, PluginEnv, PluginInstance } from '../../../src/plugin.ts'
import { countRequests } from '../admin/counts.ts'
import { adminRoutes } from '../admin/routes.ts'
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
  const requests = countRequests(
    metrics.counter('cvmd_kms_requests_total', 'Key requests by method, outcome and reason.'),
  )
  let service: KmsService | undefined
  let asking = new AbortController()
  const running = () => {
    if (service) return service
    throw new Error('Cannot use root keys: the plugin is not running')
  }
  const routes = new Hono<PluginEnv>()
  adminRoutes(routes, {
    events,
    rotate: (prepare) => running().rotate(prepare),
    use: (version) => running().use(version),
    sync: (sourceUrl, aborted) => running().sync(sourceUrl, aborted),
    status: () => {
      const { mode, roots, address } = running()
      return { mode, reason: running().notReady(), address, roots, requests: requests.read() }
    },
  })
  return {
    routes,
    async start() {
      // Loaded when it is used: an agent has no need of it.
      const [{ createKmsService }, { openTrust }, { createPolicy }] = await Promise.all([
        import('./service.ts'),
        import('../trust/open-trust.ts'),
        import('../policy/index.ts'),
      ])
      asking = new AbortController()
      service = createKmsService({
        config: server,
        folder,
        stateDir,
        attester: services.attestation,
        trust: await openTrust(config.trust, { log: (message) => log.warn(message), signal }),
        policy: createPolicy(server.policy, asking.signal),
        requests: requests.counter,
        events,
        log,
      })
      await service.start()
    },
    async stop() {
      await service?.stop()
      asking.abort()
      service = undefined
    },
    notReady: () => service?.notReady(),
  }
}
