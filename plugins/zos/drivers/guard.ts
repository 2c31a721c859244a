import type { Socket } from 'node:net'
import { parseAddress, printAddress } from '../json/ip.ts'
import type { Task } from './driver.ts'
import { contains, readIpv4, readSubnet, type Subnet } from './network-engine/subnet.ts'
import { nodeAddresses } from './node-addresses.ts'

export interface GuardOptions {
  /** Public addresses of this node, with or without prefix length, beside those of its interfaces. */
  readonly publicAddresses?: () => readonly string[]
  /** Lets all of this machine be reached: for tests, and hosts whose tenants may reach all of it. */
  readonly allowLocal?: boolean | undefined
}

/**
 * What is wrong with an address that the daemon is to connect to for a tenant; undefined when nothing
 * is.
 *
 * @param own Networks of the tenant's own.
 */
export type Guard = (address: string, own?: OwnNetworks) => string | undefined

export type OwnNetworks = () => readonly Subnet[]

/** What a guard says of loopback: it stands for all of this machine. */
const LOOPBACK = '127.0.0.1'

/** How long the networks of a tenant are believed. */
const MAX_AGE_MS = 5000

/**
 * Tells which addresses nothing of a tenant leads to. In the reference, gateways and logs are in a
 * network namespace of their own; here they connect from the host, so that besides the node's public
 * addresses (spec zos §4.5) its other ones, loopback, link-local (with the metadata services of
 * clouds), and what is behind a container engine's bridges have to be refused: other tenants'
 * machines, and the operator's containers.
 */
export function createGuard(options: GuardOptions = {}): Guard {
  const { publicAddresses = () => [], allowLocal = false } = options
  return (text, own = () => []) => {
    const bytes = parseAddress(text)
    if (bytes === undefined) return `'${text}' is no IP address`
    const address = printAddress(bytes)
    const publicOnes = publicAddresses().map((one) => canonical(one.split('/')[0] ?? ''))
    if (publicOnes.includes(address)) return `${address} is a public address of the node`
    if (allowLocal) return undefined
    if (isReserved(bytes)) return `${address} is an address of no other machine`
    const node = nodeAddresses()
    if (node.addresses.has(address)) return `${address} is an address of the node`
    const bits = readIpv4(address)
    const within = (subnet: Subnet) => bits !== undefined && contains(subnet, bits)
    if (!node.behindBridges.some(within) || own().some(within)) return undefined
    return `${address} is in a network of the node that is another's`
  }
}

/**
 * What is wrong with a connection that was made: the kernel connects from the very address that is
 * connected to where both are its own, also that of an interface that no list shows.
 */
export function selfProblem(
  { localAddress = '', remoteAddress = '' }: Pick<Socket, 'localAddress' | 'remoteAddress'>,
  guard: Guard,
): string | undefined {
  const [from, to] = [canonical(localAddress), canonical(remoteAddress)]
  if (from !== to && !/^(?:127\.|::1$)/.test(from)) return undefined
  return guard(LOOPBACK) === undefined ? undefined : `${to} is an address of the node`
}

/** The subnets that the task's twin has on this node. */
export function ownNetworks({ deployment, running }: Pick<Task, 'deployment' | 'running'>) {
  let found: readonly Subnet[] = []
  let readAt = Number.NEGATIVE_INFINITY
  return (): readonly Subnet[] => {
    if (performance.now() - readAt <= MAX_AGE_MS) return found
    found = [...running()].flatMap(({ twinId, workload }) => {
      if (twinId !== deployment.twinId) return []
      if (workload.type !== 'network' && workload.type !== 'network-light') return []
      return readSubnet(workload.data.subnet) ?? []
    })
    readAt = performance.now()
    return found
  }
}

/** Loopback, link-local, unspecified, multicast and broadcast. */
function isReserved(bytes: Uint8Array): boolean {
  const [a = 0, b = 0] = bytes
  if (bytes.length === 4) return a === 0 || a === 127 || a >= 224 || (a === 169 && b === 254)
  const small = bytes.subarray(0, 15).every((byte) => byte === 0) && (bytes[15] ?? 0) <= 1
  return small || a === 0xff || (a === 0xfe && (b & 0xc0) === 0x80)
}

function canonical(text: string): string {
  const bytes = parseAddress(text.split('%')[0] ?? '')
  return bytes === undefined ? '' : printAddress(bytes)
}
