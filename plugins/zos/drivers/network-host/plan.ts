import type { NetworkLight } from '../../model.ts'
import { DriverError } from '../driver.ts'
import { bridgeName } from '../names.ts'
import {
  gatewayOf,
  readSubnet,
  type Subnet,
  writeIpv4,
  writeSubnet,
} from '../network-engine/subnet.ts'
import { covers, ipv4Network } from './ipv4.ts'
import { endpointProblem, isWireguardKey } from './wireguard-text.ts'

/** Interfaces and namespace of one network; 15 characters at most each, as the kernel demands. */
export interface NetworkNames {
  readonly namespace: string
  /** On the host; machines' taps are its ports. */
  readonly bridge: string
  /** Host end of the pair between bridge and namespace; the other end is `lan`. */
  readonly port: string
  readonly wireguard: string
  /** Host end of the way out; the other end is `uplink`. */
  readonly uplink: string
}

/** What a network of one twin is to look like on this host. */
export interface NetworkPlan {
  readonly names: NetworkNames
  readonly subnet: Subnet
  /** Address of the namespace on the bridge, with prefix: the machines' gateway. */
  readonly gateway: string
  readonly wireguard: WireguardPlan | undefined
}

export interface WireguardPlan {
  readonly privateKey: string
  readonly listenPort: number
  /** Address of this node among those of the network, with prefix. */
  readonly address: string
  readonly peers: readonly {
    readonly publicKey: string
    readonly allowedIps: readonly string[]
    readonly endpoint: string
  }[]
  /** Networks behind the peers, as `ip route` takes them. */
  readonly routes: readonly string[]
}

/** Bounds on what one deployment may ask the kernel for. */
const MAX_PEERS = 1000
const MAX_ALLOWED_IPS = 64

/** Between nodes of a network (zosbase `pkg/network/nr/net_resource.go`, `wgIP`). */
const TRANSIT: Subnet = { network: 0x64400000, broadcast: 0x6440ffff, prefix: 16 }

export function networkNames(netId: string): NetworkNames {
  return {
    namespace: `n-${netId}`,
    bridge: bridgeName(netId),
    port: `v-${netId}`,
    wireguard: `w-${netId}`,
    uplink: `p-${netId}`,
  }
}

/**
 * @param netId See `networkId` in `deployment/ids.ts`.
 * @param full Whether it is a `network`, which has WireGuard, and not a `network-light`.
 * @throws {DriverError} `failed`, naming the value that cannot be used.
 */
export function networkPlan(netId: string, data: NetworkLight, full: boolean): NetworkPlan {
  const subnet = ipv4Network(data.subnet, 'subnet')
  if (subnet.prefix < 8 || subnet.prefix > 30) {
    throw new DriverError('failed', `Cannot use subnet "${data.subnet}": it must be /8 to /30`)
  }
  return {
    names: networkNames(netId),
    subnet,
    gateway: `${gatewayOf(subnet)}/${subnet.prefix}`,
    wireguard: full ? wireguardPlan(data, subnet) : undefined,
  }
}

function wireguardPlan(data: NetworkLight, subnet: Subnet): WireguardPlan {
  if (!isWireguardKey(data.wireguardPrivateKey)) {
    throw new DriverError(
      'failed',
      'Cannot use the WireGuard private key: it is not 32 bytes of base64',
    )
  }
  if (data.peers.length > MAX_PEERS) {
    throw new DriverError('failed', `Cannot use ${data.peers.length} peers: ${MAX_PEERS} at most`)
  }
  const range = [readSubnet(data.ipRange)].filter((found) => found !== undefined)
  const peers = data.peers.map(({ wireguardPublicKey, allowedIps, endpoint }) => {
    if (!isWireguardKey(wireguardPublicKey)) {
      throw new DriverError('failed', `Cannot use peer key "${wireguardPublicKey.slice(0, 60)}"`)
    }
    const problem = endpointProblem(endpoint)
    if (problem !== undefined) {
      throw new DriverError('failed', `Cannot use endpoint "${endpoint.slice(0, 80)}": ${problem}`)
    }
    if (allowedIps.length > MAX_ALLOWED_IPS) {
      throw new DriverError(
        'failed',
        `Cannot use ${allowedIps.length} allowed IPs of a peer: ${MAX_ALLOWED_IPS} at most`,
      )
    }
    const networks = allowedIps.map((text) => allowedIp(text))
    return { publicKey: wireguardPublicKey, allowedIps: networks, endpoint }
  })
  // As in the reference the whole range goes to WireGuard; the bridge's own subnet is more precise.
  const routed = [TRANSIT, ...range]
  const extra = peers
    .flatMap((peer) => peer.allowedIps)
    .map(readSubnet)
    .filter((network) => network !== undefined)
    .filter((network) => network.prefix > 0 && !routed.some((known) => covers(known, network)))
  const routes = [...new Set([...range, ...extra].map(writeSubnet))]
  const own = writeSubnet(subnet)
  return {
    privateKey: data.wireguardPrivateKey,
    listenPort: data.wireguardListenPort,
    address: transitAddress(subnet),
    peers,
    routes: routes.filter((route) => route !== own),
  }
}

/** 10.3.1.0 gives 100.64.3.1/16. */
function transitAddress({ network }: Subnet): string {
  return `${writeIpv4(TRANSIT.network + ((network >>> 8) & 0xffff))}/${TRANSIT.prefix}`
}

/** IPv4 without host part, which `wg` would drop silently; IPv6 as it is. */
function allowedIp(text: string): string {
  const found = readSubnet(text)
  if (found !== undefined) return writeSubnet(found)
  if (/^[0-9a-f:.]{2,45}\/\d{1,3}$/i.test(text)) return text
  throw new DriverError('failed', `Cannot use allowed IP "${text.slice(0, 60)}"`)
}
