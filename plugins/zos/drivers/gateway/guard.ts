import { networkInterfaces } from 'node:os'
import { parseAddress, printAddress } from '../../json/ip.ts'

export interface GuardOptions {
  /** Public addresses of this node, with or without prefix length, beside those of its interfaces. */
  readonly publicAddresses?: () => readonly string[]
  /** Lets backends be on this machine: for tests, and hosts whose tenants may reach all of it. */
  readonly allowLocal?: boolean | undefined
}

/** How long the addresses of the interfaces are believed. */
const MAX_AGE_MS = 5000

/**
 * Tells which addresses no gateway leads to. In the reference the proxy is in a network namespace of
 * its own; here it is on the host, so that besides the node's public addresses (spec zos §4.5) its
 * other ones, loopback and link-local (with the metadata services of clouds) have to be refused.
 *
 * @returns What is wrong with an address; undefined when nothing is.
 */
export function createGuard(options: GuardOptions = {}): (address: string) => string | undefined {
  const { publicAddresses = () => [], allowLocal = false } = options
  let own: ReadonlySet<string> = new Set()
  let readAt = Number.NEGATIVE_INFINITY
  const interfaces = () => {
    if (performance.now() - readAt > MAX_AGE_MS) {
      own = new Set(interfaceAddresses())
      readAt = performance.now()
    }
    return own
  }
  return (text) => {
    const bytes = parseAddress(text)
    if (bytes === undefined) return `'${text}' is no IP address`
    const address = printAddress(bytes)
    const publicOnes = publicAddresses().map((one) => canonical(one.split('/')[0] ?? ''))
    if (publicOnes.includes(address)) return `${address} is a public address of the node`
    if (allowLocal) return undefined
    if (isReserved(bytes)) return `${address} is an address of no other machine`
    return interfaces().has(address) ? `${address} is an address of the node` : undefined
  }
}

/** Loopback, link-local, unspecified, multicast and broadcast. */
function isReserved(bytes: Uint8Array): boolean {
  const [a = 0, b = 0] = bytes
  if (bytes.length === 4) return a === 0 || a === 127 || a >= 224 || (a === 169 && b === 254)
  const small = bytes.subarray(0, 15).every((byte) => byte === 0) && (bytes[15] ?? 0) <= 1
  return small || a === 0xff || (a === 0xfe && (b & 0xc0) === 0x80)
}

function interfaceAddresses(): string[] {
  try {
    const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
    return all.map(({ address }) => canonical(address.split('%')[0] ?? ''))
  } catch {
    // Where the runtime does not let the process see them.
    return []
  }
}

function canonical(text: string): string {
  const bytes = parseAddress(text)
  return bytes === undefined ? '' : printAddress(bytes)
}
