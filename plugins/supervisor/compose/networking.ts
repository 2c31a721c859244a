import type { NetworkAttachment, PortMapping } from '../target/composition-model.ts'
import type { Asked } from './asked.ts'
import type { Json } from './canonical.ts'
import { SUPERVISOR_NETWORK } from './supervisor-network.ts'

/** How a container is attached to one network (Docker Engine API, EndpointSettings). */
export type Endpoint = { readonly [name: string]: Json }

/** A network that a container is connected to after its creation. */
export interface Connection {
  readonly name: string
  readonly endpoint: Endpoint
}

export interface NetworkingParts {
  readonly NetworkMode: string
  readonly EndpointsConfig: Readonly<Record<string, Endpoint>>
  /** Before the first start. The engine takes only one network at creation (API 1.41). */
  readonly connect: readonly Connection[]
}

/**
 * @param networkContainer Id of the container whose network is shared.
 * @throws {TypeError} When a shared network has no such container.
 */
export function networkingParts(asked: Asked, networkContainer?: string): NetworkingParts {
  const mode = asked.network_mode
  const supervisor: Connection[] = asked.supervisor_network
    ? [{ name: SUPERVISOR_NETWORK, endpoint: {} }]
    : []
  if (mode?.kind === 'service') {
    if (networkContainer === undefined) {
      throw new TypeError(`Cannot share the network of "${mode.serviceName}": it has no container`)
    }
    return { NetworkMode: `container:${networkContainer}`, EndpointsConfig: {}, connect: [] }
  }
  if (mode !== undefined) {
    return { NetworkMode: mode.kind, EndpointsConfig: {}, connect: supervisor }
  }
  const connections = asked.networks.map(([name, how], index) => ({
    name,
    endpoint: endpointOf(how, index === 0 ? asked.mac_address : undefined),
  }))
  const [first, ...others] = connections
  if (first === undefined) throw new TypeError('Cannot attach a service: it has no network')
  return {
    NetworkMode: first.name,
    EndpointsConfig: { [first.name]: first.endpoint },
    connect: [...others, ...supervisor],
  }
}

function endpointOf(how: NetworkAttachment, mac: string | undefined): Endpoint {
  const { aliases = [], ipv4_address: v4, ipv6_address: v6, link_local_ips: linkLocal } = how
  const ipam = {
    ...(v4 === undefined ? {} : { IPv4Address: v4 }),
    ...(v6 === undefined ? {} : { IPv6Address: v6 }),
    ...(linkLocal === undefined ? {} : { LinkLocalIPs: linkLocal }),
  }
  return {
    Aliases: aliases,
    ...(Object.keys(ipam).length > 0 ? { IPAMConfig: ipam } : {}),
    ...(mac === undefined ? {} : { MacAddress: mac }),
  }
}

/** `PortBindings` and `ExposedPorts`, by `port/protocol`. */
export function portParts(ports: readonly PortMapping[]) {
  const bindings = new Map<string, { HostIp: string; HostPort: string }[]>()
  for (const { address, host, container, protocol } of ports) {
    const port = `${container}/${protocol}`
    const bound = bindings.get(port) ?? []
    bound.push({ HostIp: address, HostPort: host === 0 ? '' : String(host) })
    bindings.set(port, bound)
  }
  return {
    PortBindings: Object.fromEntries(bindings),
    ExposedPorts: Object.fromEntries([...bindings.keys()].map((port) => [port, {}])),
  }
}
