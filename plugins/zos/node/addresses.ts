import type { NetworkInterfaceInfo } from 'node:os'
import type { Notes } from './notes.ts'

/** The shape of `os.networkInterfaces()`. */
export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>

/** An address of an interface. */
export interface Address {
  readonly ip: string
  readonly family: 4 | 6
  /** Bits of the network. */
  readonly prefix: number
}

/** What the runtime tells of one interface. */
export interface InterfaceAddresses {
  readonly name: string
  /** Lower-case; '' when unknown. */
  readonly mac: string
  readonly internal: boolean
  readonly addresses: readonly Address[]
}

const MAX_INTERFACES = 4096

/** Reads the addresses of all interfaces that are up, each list IPv4 first; never throws. */
export function readAddresses(interfaces: () => Interfaces, notes: Notes): InterfaceAddresses[] {
  try {
    return Object.entries(interfaces()).slice(0, MAX_INTERFACES).map(toAddresses)
  } catch {
    // Deno throws where it may not tell.
    notes.once('addresses', 'No addresses are told: the runtime refuses to, see --allow-sys')
    return []
  }
}

function toAddresses([name, infos = []]: [string, Interfaces[string]]): InterfaceAddresses {
  const addresses = infos.map(({ address, family, netmask }): Address => {
    const is6 = family === 'IPv6'
    // Some runtimes write the zone of a link-local address behind it.
    return {
      ip: address.split('%')[0] ?? '',
      family: is6 ? 6 : 4,
      prefix: is6 ? prefix6(netmask) : prefix4(netmask),
    }
  })
  return {
    name,
    mac: (infos[0]?.mac ?? '').toLowerCase(),
    internal: infos.some(({ internal }) => internal),
    addresses: addresses.sort((a, b) => a.family - b.family),
  }
}

/** Whether others can use it: global unicast as Go has it, and not ULA (spec §9.1). */
export function isGlobal({ ip, family }: Address): boolean {
  if (family === 6) {
    const top = top16(ip)
    if (top === 0 && /^(0*:)+0*1?$/.test(ip)) return false
    return (top & 0xffc0) !== 0xfe80 && (top & 0xff00) !== 0xff00 && (top & 0xfe00) !== 0xfc00
  }
  const [a = 0, b = 0] = ip.split('.').map(Number)
  if (a === 127 || (a & 0xf0) === 0xe0 || (a === 169 && b === 254)) return false
  return ip !== '0.0.0.0' && ip !== '255.255.255.255'
}

/** Whether it is of the IPv6 internet, 2000::/3 (RFC 4291 §2.4), which overlays are not. */
export function isPublic6(ip: string): boolean {
  return ip.includes(':') && (top16(ip) & 0xe000) === 0x2000
}

/** The overlay an address belongs to: Yggdrasil has 200::/7, Mycelium 400::/7. */
export function overlayOf({ ip, family }: Address): 'ygg' | 'mycelium' | undefined {
  if (family === 4) return undefined
  const top = top16(ip) & 0xfe00
  if (top === 0x0200) return 'ygg'
  return top === 0x0400 ? 'mycelium' : undefined
}

/** `10.1.2.3/24` */
export function cidr({ ip, prefix }: Address): string {
  return `${ip}/${prefix}`
}

function top16(ip: string): number {
  return Number.parseInt(ip.split(':')[0] || '0', 16) || 0
}

/** Bits of `255.255.240.0`. */
function prefix4(netmask: string): number {
  return netmask.split('.').reduce((sum, part) => sum + ones(Number(part)), 0)
}

/** Bits of `ffff:ffff:ffff:ffff::`. */
function prefix6(netmask: string): number {
  return netmask.split(':').reduce((sum, part) => sum + ones(Number.parseInt(part || '0', 16)), 0)
}

function ones(value: number): number {
  let count = 0
  for (let rest = value & 0xffff; rest !== 0; rest &= rest - 1) count++
  return count
}
