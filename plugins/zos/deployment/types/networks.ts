import { list, optional, struct } from '../../json/compound.ts'
import { cidr, hex, string, u16 } from '../../json/scalars.ts'
import type { Mycelium, Network, NetworkLight, NetworkPeer } from '../../model.ts'
import { must, unset, type WorkloadKind } from './kind.ts'

/** Bytes of a key of a mycelium node, and twice as many hex digits. */
const MYCELIUM_KEY_BYTES = 32

const peer = struct<NetworkPeer>('zos.Peer', {
  subnet: ['subnet', cidr],
  wireguardPublicKey: ['wireguard_public_key', string()],
  allowedIps: ['allowed_ips', list(cidr)],
  endpoint: ['endpoint', string()],
})

const mycelium = struct<Mycelium>('zos.Mycelium', {
  hexKey: ['hex_key', hex('zos.Bytes')],
  peers: ['peers', list(string('zos.MyceliumPeer'))],
})

const common = {
  ipRange: ['ip_range', cidr],
  subnet: ['subnet', cidr],
  wireguardPrivateKey: ['wireguard_private_key', string()],
  wireguardListenPort: ['wireguard_listen_port', u16],
  peers: ['peers', list(peer)],
} as const

export const network: WorkloadKind<'network'> = {
  form: struct<Network>('zos.Network', { ...common, mycelium: ['mycelium', optional(mycelium)] }),
  check(data) {
    must(data.ipRange !== '', 'network IP range cannot be empty')
    must(data.subnet !== '', 'network resource subnet cannot empty')
    must(data.wireguardPrivateKey !== '', 'network resource wireguard private key cannot empty')
    data.peers.forEach(checkPeer)
    if (data.mycelium !== undefined) checkMycelium(data.mycelium)
  },
  challenge,
  updatable: true,
}

export const networkLight: WorkloadKind<'network-light'> = {
  form: struct<NetworkLight>('zos.NetworkLight', { ...common, mycelium: ['mycelium', mycelium] }),
  check(data) {
    must(data.subnet !== '', 'network resource subnet cannot empty')
    checkMycelium(data.mycelium)
  },
  challenge,
  updatable: true,
}

function checkPeer({ subnet, allowedIps, wireguardPublicKey }: NetworkPeer): void {
  must(subnet !== '', 'peer wireguard subnet cannot empty')
  must(allowedIps.length > 0, 'peer wireguard allowedIPs cannot empty')
  must(wireguardPublicKey !== '', 'peer wireguard public key cannot empty')
}

function checkMycelium({ hexKey, peers }: Mycelium): void {
  must(
    hexKey.length === 2 * MYCELIUM_KEY_BYTES,
    `invalid mycelium key length, expected ${MYCELIUM_KEY_BYTES}`,
  )
  must(peers.length === 0, 'user defined peers list is not supported right now')
}

function challenge(data: Network): string {
  const { ipRange, subnet, wireguardPrivateKey, wireguardListenPort, peers, mycelium } = data
  return (
    unset(ipRange) +
    unset(subnet) +
    wireguardPrivateKey +
    wireguardListenPort +
    peers.map(peerChallenge).join('') +
    (mycelium ? mycelium.hexKey + mycelium.peers.join('') : '')
  )
}

function peerChallenge({ wireguardPublicKey, endpoint, subnet, allowedIps }: NetworkPeer): string {
  return wireguardPublicKey + endpoint + unset(subnet) + allowedIps.map(unset).join('')
}
