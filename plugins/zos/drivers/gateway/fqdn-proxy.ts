import { messageOf } from '../../../../src/errors.ts'
import type { DataOf } from '../../model.ts'
import { type Driver, DriverError } from '../driver.ts'
import { gatewayHealth, type Publisher, publish, sweepRoutes, withdraw } from './publish.ts'
import { hostKey } from './route.ts'

type Type = 'gateway-fqdn-proxy'

export interface FqdnProxyOptions extends Publisher {
  /** The node's domain; names below it need a name contract. */
  readonly domain: () => string | undefined
  /**
   * Whether a name leads to this node, as the reference asks of public name servers; left out, nobody
   * is asked.
   *
   * @throws {Error} Saying why it does not.
   */
  readonly verifyHost?: (host: string, signal: AbortSignal) => Promise<void>
}

/** Publishes a name of the tenant's own (spec zos §4.5), whose DNS record has to lead to this node. */
export function createGatewayFqdnDriver(options: FqdnProxyOptions): Driver<Type> {
  const { backEnd, domain, verifyHost } = options
  const hostOf = (data: object) => hostKey((data as DataOf[Type]).fqdn)
  return {
    type: 'gateway-fqdn-proxy',
    name: backEnd.name,
    probe: (signal) => backEnd.probe(signal),

    async provision(task) {
      const host = hostOf(task.workload.data)
      const managed = domain()?.toLowerCase()
      if (managed && (host === managed || host.endsWith(`.${managed}`))) {
        fail("can't create a fqdn workload with a subdomain of the gateway's managed domain")
      }
      await verifyHost?.(host, task.signal).catch((error) => {
        fail(`failed to verify domain dns record: ${messageOf(error)}`)
      })
      await publish(options, task, { host, kind: 'fqdn' }, hostOf)
      return {}
    },

    deprovision: (task) => withdraw(options, task.id),
    health: (task) => gatewayHealth(options, task),
    sweep: (wanted) => sweepRoutes(options, wanted),
    stop: () => backEnd.stop(),
  }
}

function fail(why: string): never {
  throw new DriverError('failed', `failed to setup fqdn proxy: ${why}`)
}
