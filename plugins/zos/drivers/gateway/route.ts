import type { DriverProbe } from '../driver.ts'
import type { OwnNetworks } from '../guard.ts'

/** A host name in public, and who answers for it. */
export interface GatewayRoute {
  /** Of the workload. */
  readonly id: string
  /** Lower case, without a dot at the end. */
  readonly host: string
  /** `name`: below the node's domain; `fqdn`: a name of the tenant's own. */
  readonly kind: 'name' | 'fqdn'
  readonly tlsPassthrough: boolean
  readonly backend: BackendAddress
  /** Networks of the twin's own; default: none. */
  readonly own?: OwnNetworks | undefined
}

/** An address and a port to connect to. */
export interface BackendAddress {
  /** IP address without brackets. */
  readonly host: string
  readonly port: number
}

/** What makes routes work: the daemon's own proxy, or files for traefik. */
export interface GatewayBackEnd {
  readonly name: string
  /** See `Driver.probe`. */
  probe(signal: AbortSignal): Promise<DriverProbe>
  /** Puts a route in force, in place of the one with its id. */
  set(route: GatewayRoute): Promise<void>
  /** What is not there is no error. */
  remove(id: string): Promise<void>
  /** Ids of all routes it has, also from before the start. */
  ids(): Promise<readonly string[]>
  /** Closes what it holds open. */
  stop(): Promise<void>
}

/** `10.1.2.3:80`, with brackets around IPv6. */
export function addressText({ host, port }: BackendAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** As a `Host` header or a server name indication writes a host: any case, with port or final dot. */
export function hostKey(text: string): string {
  return text.replace(/:\d*$/, '').replace(/\.$/, '').toLowerCase()
}
