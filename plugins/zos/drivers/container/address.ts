import { networkId } from '../../deployment/ids.ts'
import type { Ip, ZmachineLight } from '../../model.ts'
import { DriverError, type Task } from '../driver.ts'
import { engineNetwork } from '../names.ts'
import { readIpv4, readSubnet, writeSubnet } from '../network-engine/subnet.ts'

/** Where a machine is reached. */
export interface MachineAddress {
  /** Of the engine. */
  readonly network: string
  readonly ip: Ip
}

/**
 * The private address of a machine (spec §4.5), on a network of its twin.
 *
 * @throws {DriverError} For a network that does not run, or an address that is not free in it.
 */
export function privateAddress(
  { network }: Pick<ZmachineLight, 'network'>,
  task: Pick<Task, 'deployment' | 'network'>,
): MachineAddress {
  const [given, ...others] = network.interfaces
  if (given === undefined || others.length > 0) {
    throw new DriverError('failed', 'only one private network is support')
  }
  const shared = task.network(given.network)
  const subnet = shared && readSubnet(shared.workload.data.subnet)
  if (!subnet) {
    const reason = `could not get network resource subnet: network '${given.network}' does not run`
    throw new DriverError('failed', reason)
  }
  const ip = readIpv4(given.ip)
  if (ip === undefined) {
    throw new DriverError('failed', `'${given.ip}' is no IPv4 address, which a machine needs here`)
  }
  if (ip < subnet.network || ip > subnet.broadcast) {
    const where = `local nr subnet ${writeSubnet(subnet)}`
    throw new DriverError('failed', `IP ${given.ip} is not part of ${where}`)
  }
  if (ip <= subnet.network + 1 || ip === subnet.broadcast) {
    throw new DriverError('failed', `ip ${given.ip} is reserved`)
  }
  const { twinId } = task.deployment
  return { network: engineNetwork(networkId(twinId, given.network)), ip: given.ip }
}

/**
 * The public address that an `ip` workload of the deployment got; undefined when the machine asks
 * for none, or for IPv6 only.
 *
 * @throws {DriverError} When the workload it names is not one, or did not get one.
 */
export function publicAddress(
  name: string,
  task: Pick<Task, 'deployment' | 'resultOf'>,
): Ip | undefined {
  if (name === '') return undefined
  const asked = task.deployment.workloads.find((one) => one.name === name)
  if (asked?.type !== 'ip' && asked?.type !== 'ipv4') {
    throw new DriverError('failed', `workload of name '${name}' is not a public ip`)
  }
  const result = task.resultOf(name)
  if (result?.state !== 'ok') {
    throw new DriverError('failed', `public ip '${name}' is not ok`)
  }
  const { ip } = (JSON.parse(result.data) ?? {}) as { readonly ip?: unknown }
  if (typeof ip !== 'string' || ip === '') return undefined
  const [address = ''] = ip.split('/')
  if (readIpv4(address) !== undefined) return address
  throw new DriverError('failed', `public ip '${name}' got no IPv4 address`)
}
