import { messageOf } from '../../../../src/errors.ts'
import { deviceName } from '../../deployment/ids.ts'
import type { Cidr } from '../../model.ts'
import { macOf } from '../cloud-hypervisor/taps.ts'
import { type Driver, DriverError, type Task } from '../driver.ts'
import { type RunTool, runTool } from '../tools.ts'
import { addressOf, assign, type IpType, type Reserved } from './allocation.ts'
import { createNftFilter, type IpFilter } from './filter.ts'
import { linkLocalAddress, slaacAddress } from './slaac.ts'

export interface IpOptions {
  /** Bridge of the host that public addresses are on; '' or undefined for none. */
  readonly bridge: string | undefined
  /**
   * Gives addresses also without a bridge, as where machines get theirs on a network of the container
   * engine. Default false.
   */
  readonly allocateOnly?: boolean | undefined
  /** Public IPv6 network of 64 bits, from which machines take addresses by themselves. */
  readonly ipv6Network?: (() => Cidr | undefined) | undefined
  readonly run?: RunTool | undefined
  readonly filter?: IpFilter
}

/**
 * Public addresses of a contract (spec zos §12.2). The machine gets the one that is given here on its
 * own card; with a bridge and nftables, it can send from no other.
 *
 * `ipv4` is the older form of `ip` with IPv4 alone. Both share what is in use.
 */
export function createIpDrivers(options: IpOptions): {
  readonly ip: Driver<'ip'>
  readonly ipv4: Driver<'ipv4'>
} {
  const reserved: Reserved = new Map()
  const shared = { options, reserved, ...hostOf(options) }
  return { ip: driverOf('ip', shared), ipv4: driverOf('ipv4', shared) }
}

interface Shared {
  readonly options: IpOptions
  readonly reserved: Reserved
  readonly run: RunTool
  readonly filter: IpFilter
}

function hostOf({ run = runTool, filter = createNftFilter(run) }: IpOptions) {
  return { run, filter }
}

function driverOf<T extends IpType>(type: T, shared: Shared): Driver<T> {
  const { options, reserved, run, filter } = shared
  const { bridge, allocateOnly = false } = options
  let filtering = false

  async function protect({ id, workload }: Task<T>, ip: Cidr, ip6: Cidr): Promise<void> {
    if (!bridge || !filtering) return
    const { name, mac } = cardOf(id)
    const { v6 } = wishesOf(workload.data, type)
    const any = v6 && ip6 === ''
    await filter.set({
      name,
      mac,
      ipv4: addressOf(ip),
      ipv6: any ? undefined : addressOf(ip6),
      linkLocal: linkLocalAddress(mac),
    })
  }

  return {
    type,
    name: 'bridge',

    async probe(signal) {
      if (!bridge) {
        if (allocateOnly) return { able: true }
        return { able: false, reason: `${NO_BRIDGE}: set public_bridge` }
      }
      try {
        await run(['ip', 'link', 'show', 'dev', bridge], { signal })
      } catch (error) {
        return { able: false, reason: `Cannot use public bridge "${bridge}": ${messageOf(error)}` }
      }
      const why = await filter.probe(signal)
      filtering = why === undefined
      if (filtering) return { able: true }
      return { able: true, warning: `Machines are not kept to their public addresses: ${why}` }
    },

    async provision(task) {
      if (!bridge && !allocateOnly) {
        throw new DriverError('failed', `public ips are not supported on this node: ${NO_BRIDGE}`)
      }
      const { v4, v6 } = wishesOf(task.workload.data, type)
      const { ip, gateway } = v4 ? assign(task, reserved) : { ip: '', gateway: '' }
      const network = v6 ? options.ipv6Network?.() : undefined
      const ip6 = network ? (slaacAddress(network, cardOf(task.id).mac) ?? '') : ''
      try {
        await protect(task, ip, ip6)
      } catch (cause) {
        release(reserved, task.id)
        const message = `Cannot keep a machine to public address ${ip}: ${messageOf(cause)}`
        throw new DriverError('failed', message, { cause })
      }
      return { ip, ip6, gateway }
    },

    async deprovision(task) {
      try {
        if (bridge && filtering) await filter.remove(cardOf(task.id).name)
      } catch (cause) {
        const message = `Cannot give public address of ${task.id} back: ${messageOf(cause)}`
        throw new DriverError('failed', message, { cause })
      }
      release(reserved, task.id)
    },

    async sweep(wanted) {
      if (!bridge) return
      const names = new Set([...wanted].map((id) => cardOf(id).name))
      for (const name of await filter.names()) if (!names.has(name)) await filter.remove(name)
    },
  }
}

const NO_BRIDGE = 'no public bridge is configured'

/** The card by which a machine is on the public bridge. */
function cardOf(id: string): { readonly name: string; readonly mac: string } {
  const name = deviceName(id, 'pub')
  return { name, mac: macOf(name) }
}

function wishesOf(data: object, type: IpType): { readonly v4: boolean; readonly v6: boolean } {
  if (type === 'ipv4') return { v4: true, v6: false }
  const { v4 = false, v6 = false } = data as { readonly v4?: boolean; readonly v6?: boolean }
  return { v4, v6 }
}

function release(reserved: Reserved, id: string): void {
  for (const [address, owner] of reserved) if (owner === id) reserved.delete(address)
}
