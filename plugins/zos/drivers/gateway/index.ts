import { discreet } from '../discreet.ts'
import type { Driver } from '../driver.ts'
import { createGuard, type GuardOptions } from '../guard.ts'
import { createGatewayFqdnDriver, type FqdnProxyOptions } from './fqdn-proxy.ts'
import { createGatewayNameDriver, type NameProxyOptions } from './name-proxy.ts'
import { createProxy, type ProxyOptions } from './proxy.ts'
import type { GatewayBackEnd } from './route.ts'
import { createTraefikFiles, type TraefikOptions } from './traefik.ts'

export interface GatewayOptions
  extends GuardOptions,
    Pick<NameProxyOptions, 'domain' | 'checkMs'>,
    Pick<FqdnProxyOptions, 'verifyHost'> {
  /** Files for traefik, or the daemon's own proxy. */
  readonly backEnd:
    | { readonly traefik: TraefikOptions }
    | { readonly proxy: Omit<ProxyOptions, 'guard'> }
  /** Told what a person should look at. */
  readonly warn?: ((message: string) => void) | undefined
}

/** Both types of gateways, between which no host name may be given twice. */
export function createGatewayDrivers(options: GatewayOptions): {
  readonly name: Driver<'gateway-name-proxy'>
  readonly fqdn: Driver<'gateway-fqdn-proxy'>
  readonly backEnd: GatewayBackEnd
} {
  const guard = createGuard(options)
  const backEnd =
    'traefik' in options.backEnd
      ? createTraefikFiles(options.backEnd.traefik)
      : createProxy({ ...options.backEnd.proxy, guard })
  const shared = { ...options, backEnd, hosts: new Map<string, string>(), guard }
  const places = 'traefik' in options.backEnd ? [options.backEnd.traefik.folder] : []
  const shown = { places, warn: options.warn }
  return {
    name: discreet(createGatewayNameDriver(shared), shown),
    fqdn: discreet(createGatewayFqdnDriver(shared), shown),
    backEnd,
  }
}
