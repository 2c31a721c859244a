import { networkInterfaces } from 'node:os'
import { canonicalAddress } from '../json/ip.ts'
import { isPrivate, readSubnet, type Subnet } from './network-engine/subnet.ts'

/** What of the interfaces of this node matters for tenants. */
export interface NodeAddresses {
  /** Of the node itself, in the one way they are written. */
  readonly addresses: ReadonlySet<string>
  /** IPv4 networks that the node is on. */
  readonly subnets: readonly Subnet[]
  /** Those of them that a container engine has made, private ones: who is there is seen by the host. */
  readonly behindBridges: readonly Subnet[]
}

/** Bridges as Docker, Podman, LXC and libvirt name them. */
const BRIDGE =
  /^(?:docker\d+|br-[0-9a-f]{12}|podman\d+|cni-podman\d+|cni\d+|(?:lxc|lxd|incus|vir)br\d+)$/

/** How long they are believed. */
const MAX_AGE_MS = 5000

let known: NodeAddresses = { addresses: new Set(), subnets: [], behindBridges: [] }
let readAt = Number.NEGATIVE_INFINITY

/** Empty where the runtime does not let the process see them. */
export function nodeAddresses(): NodeAddresses {
  if (performance.now() - readAt <= MAX_AGE_MS) return known
  readAt = performance.now()
  known = readAddresses(interfaces())
  return known
}

type Interfaces = ReturnType<typeof networkInterfaces>

/** @param all As {@link networkInterfaces} shows them. */
export function readAddresses(all: Interfaces): NodeAddresses {
  const addresses = new Set<string>()
  const subnets: Subnet[] = []
  const behindBridges: Subnet[] = []
  for (const [name, given = []] of Object.entries(all)) {
    for (const { address, cidr, internal } of given) {
      const canonical = canonicalAddress(address.split('%')[0] ?? '')
      if (canonical !== undefined) addresses.add(canonical)
      const subnet = readSubnet(cidr ?? '')
      if (subnet === undefined || internal) continue
      subnets.push(subnet)
      if (BRIDGE.test(name) && isPrivate(subnet)) behindBridges.push(subnet)
    }
  }
  return { addresses, subnets, behindBridges }
}

function interfaces(): Interfaces {
  try {
    return networkInterfaces()
  } catch {
    return {}
  }
}
