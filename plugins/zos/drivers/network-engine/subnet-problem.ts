import { getServers } from 'node:dns'
import { networkInterfaces } from 'node:os'
import { readAddresses } from '../node-addresses.ts'
import { contains, isPrivate, overlap, readIpv4, type Subnet, writeSubnet } from './subnet.ts'

/** What of this host a network of the engine must leave alone. */
export interface HostNetworks {
  /** That the host is on. */
  readonly subnets: readonly Subnet[]
  /** IPv4 addresses. */
  readonly nameServers: readonly number[]
}

/** @param given The subnet that the network has by now, which is no obstacle. */
export function hostNetworks(given: Subnet | undefined): HostNetworks {
  const { subnets } = readAddresses(orElse(networkInterfaces, {}))
  const isGiven = ({ network, prefix }: Subnet) =>
    network === given?.network && prefix === given.prefix
  const servers = orElse(getServers, [])
  return {
    subnets: subnets.filter((one) => !isGiven(one)),
    nameServers: servers.flatMap((text) => readIpv4(text.replace(/:\d+$/, '')) ?? []),
  }
}

/**
 * Why the engine may make no network with a subnet; undefined when it may. A bridge of the engine is a
 * route of the host: the internet, the host's own networks or its name servers would be lost to it, and
 * be the tenant's.
 */
export function subnetProblem(
  subnet: Subnet,
  { subnets, nameServers }: HostNetworks,
): string | undefined {
  if (!isPrivate(subnet)) {
    const ranges = '10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16'
    return `subnet ${writeSubnet(subnet)} is not private: choose one of ${ranges}`
  }
  const isTaken =
    subnets.some((one) => overlap(one, subnet)) ||
    nameServers.some((server) => contains(subnet, server))
  return isTaken ? inUse(subnet) : undefined
}

export function inUse(subnet: Subnet): string {
  return `subnet ${writeSubnet(subnet)} is in use on this node, choose another one`
}

/** Not every runtime lets the process see these. */
function orElse<T>(ask: () => T, otherwise: T): T {
  try {
    return ask()
  } catch {
    return otherwise
  }
}
