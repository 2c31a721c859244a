import { parseAddress, printAddress } from '../../json/ip.ts'
import type { Cidr, Ip } from '../../model.ts'

/** A card makes its address from so many bits of its network (RFC 4862: section 5.5.3). */
const PREFIX = 64

/**
 * The address that a card with this MAC address gives itself in a network (RFC 4291: appendix A), with
 * the network's prefix length.
 *
 * @returns Undefined for a network that is not IPv6 with 64 bits.
 */
export function slaacAddress(network: Cidr, mac: string): Cidr | undefined {
  const [address = '', bits] = network.split('/')
  const bytes = parseAddress(address)
  if (bytes?.length !== 16 || Number(bits) !== PREFIX) return undefined
  return `${printAddress(withInterface(bytes, mac))}/${PREFIX}`
}

/** The same for the link itself. */
export function linkLocalAddress(mac: string): Ip {
  return printAddress(withInterface(Uint8Array.of(0xfe, 0x80, ...new Uint8Array(14)), mac))
}

function withInterface(network: Uint8Array, mac: string): Uint8Array {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac
    .split(':')
    .map((text) => Number(`0x${text}`))
  const address = Uint8Array.from(network)
  address.set([a ^ 2, b, c, 0xff, 0xfe, d, e, f], 8)
  return address
}
