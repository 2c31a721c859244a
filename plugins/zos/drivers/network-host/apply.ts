import type { HostCommands } from '../host-commands.ts'
import {
  ensureNamespace,
  findLink,
  ipIn,
  removeLink,
  removeNamespace,
  setAddress,
} from './links.ts'
import type { NetworkNames, NetworkPlan } from './plan.ts'

/** Inner end of the pair to the bridge. */
export const LAN = 'lan'

/**
 * Makes the bridge and the namespace with the gateway on it, or corrects what is there.
 *
 * @throws {DriverError} `failed`
 */
export async function applyBridge(host: HostCommands, plan: NetworkPlan): Promise<void> {
  const { bridge, namespace, port } = plan.names
  if ((await findLink(host, bridge)) === undefined) {
    await host.must(`make bridge "${bridge}"`, 'ip', 'link', 'add', 'dev', bridge, 'type', 'bridge')
  }
  // Without an address of its own the host is no neighbour of the machines.
  await quietUp(host, bridge)
  await ensureNamespace(host, namespace)
  await ensurePair(host, port, LAN, namespace)
  const master = ['ip', 'link', 'set', 'dev', port, 'master', bridge]
  await host.must(`put interface "${port}" on bridge "${bridge}"`, ...master)
  await quietUp(host, port)
  await setAddress(host, LAN, plan.gateway, namespace)
}

/** Two ends of a wire, one of them in a namespace. Half a pair is made anew. */
export async function ensurePair(
  host: HostCommands,
  outer: string,
  inner: string,
  namespace: string,
): Promise<void> {
  const ends = [await findLink(host, outer), await findLink(host, inner, namespace)]
  if (ends.every((end) => end !== undefined)) return
  await removeLink(host, outer)
  await host.run(...ipIn(namespace), 'link', 'del', 'dev', inner)
  const pair = ['type', 'veth', 'peer', 'name', inner, 'netns', namespace]
  await host.must(`make interface "${outer}"`, 'ip', 'link', 'add', 'dev', outer, ...pair)
}

/** Removes every interface of a network, and its namespace. What is not there is no error. */
export async function removeNetwork(host: HostCommands, names: NetworkNames): Promise<void> {
  await host.run(...ipIn(names.namespace), 'link', 'del', 'dev', names.wireguard)
  await removeNamespace(host, names.namespace)
  // The ends in the namespace take these with them, a little later.
  for (const name of [names.wireguard, names.port, names.uplink, names.bridge]) {
    await removeLink(host, name)
  }
}

/** Switches an interface of the host on, without the IPv6 address the kernel would give it. */
export async function quietUp(host: HostCommands, name: string): Promise<void> {
  const action = `switch interface "${name}" on`
  await host.must(action, 'ip', 'link', 'set', 'dev', name, 'addrgenmode', 'none')
  await host.must(action, 'ip', 'link', 'set', 'dev', name, 'up')
}
