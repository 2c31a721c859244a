import { canonicalAddress, canonicalCidr } from '../../json/ip.ts'
import { type Cidr, type Ip, isOkay } from '../../model.ts'
import type { PublicIp } from '../../registry/registry.ts'
import { DriverError, type Task } from '../driver.ts'

/** An address on the public network, and the way out of it. */
export interface Assigned {
  readonly ip: Cidr
  readonly gateway: Ip
}

export type IpType = 'ip' | 'ipv4'

/**
 * Addresses that were given and whose workloads do not run yet, with the ids of those: what is not in
 * `Task.running` already. Picking and noting it are one step, so that no address is given twice.
 */
export type Reserved = Map<Ip, string>

/**
 * Gives a workload one of its contract's public addresses: the one it has, or the first that nobody on
 * this node has (zosbase `pkg/primitives/pubip`, and across contracts).
 *
 * @throws {DriverError}
 */
export function assign(task: Task<IpType>, reserved: Reserved): Assigned {
  const before = assignedBefore(task)
  const assigned = before ?? firstFree(task, reserved)
  reserved.set(addressOf(assigned.ip), task.id)
  return assigned
}

/** What the workload was given before: after a restart it keeps it. */
function assignedBefore({ workload, resultOf }: Task<IpType>): Assigned | undefined {
  const result = resultOf(workload.name)
  if (!result || !isOkay(result)) return undefined
  const { ip, gateway } = readResult(result.data)
  return ip === '' ? undefined : { ip, gateway }
}

function firstFree(task: Task<IpType>, reserved: Reserved): Assigned {
  const all = task.contract?.publicIps ?? []
  const wanted = task.deployment.workloads.filter(wantsIpv4)
  if (wanted.length > all.length) {
    fail(`required ${wanted.length} ips while contract has ${all.length} ip reserved`)
  }
  const used = inUse(task)
  const free = all.find(({ ip }) => {
    const address = addressOf(ip)
    const owner = reserved.get(address)
    return !used.has(address) && (owner === undefined || owner === task.id)
  })
  return free ? checked(free) : fail('could not allocate public IP address to workload')
}

function wantsIpv4(workload: Task['deployment']['workloads'][number]): boolean {
  return workload.type === 'ipv4' || (workload.type === 'ip' && workload.data.v4)
}

function checked({ ip, gateway }: PublicIp): Assigned {
  const cidr = canonicalCidr(ip)
  if (!cidr) fail(`found a malformed ip address in contract object '${ip}'`)
  const via = canonicalAddress(gateway)
  if (!via) fail(`found a malformed gateway address in farm object '${gateway}'`)
  return { ip: cidr, gateway: via }
}

/** Addresses of all other workloads on this node. */
function inUse(task: Task<IpType>): ReadonlySet<Ip> {
  const used = new Set<Ip>()
  for (const { id, workload, result } of task.running()) {
    if (id === task.id || (workload.type !== 'ip' && workload.type !== 'ipv4')) continue
    const { ip } = readResult(result.data)
    if (ip !== '') used.add(addressOf(ip))
  }
  return used
}

/** Of a result of this driver; an older or foreign one has no addresses. */
function readResult(text: string): Assigned {
  try {
    const { ip, gateway } = JSON.parse(text) ?? {}
    const texts = typeof ip === 'string' && typeof gateway === 'string'
    return texts ? { ip, gateway } : { ip: '', gateway: '' }
  } catch {
    return { ip: '', gateway: '' }
  }
}

/** Without prefix length, in the one way it is written. */
export function addressOf(cidr: Cidr): Ip {
  const text = cidr.split('/')[0] ?? ''
  return canonicalAddress(text) ?? text
}

function fail(why: string): never {
  throw new DriverError('failed', why)
}
