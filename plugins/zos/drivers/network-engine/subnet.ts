import type { Cidr, Ip } from '../../model.ts'

/** An IPv4 network; addresses are 32-bit numbers. */
export interface Subnet {
  readonly network: number
  readonly broadcast: number
  readonly prefix: number
}

/** @returns Undefined for what is no IPv4 network in CIDR text. */
export function readSubnet(text: Cidr): Subnet | undefined {
  const [address = '', length = '', ...rest] = text.split('/')
  const bits = readIpv4(address)
  if (bits === undefined || rest.length > 0 || !/^\d{1,2}$/.test(length)) return undefined
  const prefix = Number(length)
  if (prefix > 32) return undefined
  const size = 2 ** (32 - prefix)
  const network = Math.floor(bits / size) * size
  return { network, broadcast: network + size - 1, prefix }
}

/** @returns Undefined for what is no IPv4 address. */
export function readIpv4(text: Ip): number | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let bits = 0
  for (const part of parts) {
    if (!/^(?:0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined
    bits = bits * 256 + Number(part)
  }
  return bits
}

export function writeIpv4(address: number): Ip {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.')
}

/** Without the host part. */
export function writeSubnet({ network, prefix }: Subnet): Cidr {
  return `${writeIpv4(network)}/${prefix}`
}

/** The first address, which the node keeps for itself. */
export function gatewayOf({ network }: Subnet): Ip {
  return writeIpv4(network + 1)
}

export function contains({ network, broadcast }: Subnet, address: number): boolean {
  return address >= network && address <= broadcast
}

export function overlap(one: Subnet, other: Subnet): boolean {
  return one.network <= other.broadcast && other.network <= one.broadcast
}

/** RFC 1918, and RFC 6598. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10']

/** Whether all of it is nobody's on the internet. */
export function isPrivate({ network, broadcast }: Subnet): boolean {
  return PRIVATE.some((text) => {
    const range = readSubnet(text)
    return range !== undefined && contains(range, network) && contains(range, broadcast)
  })
}
