import type { HostCommands } from '../host-commands.ts'

/** A link as `ip -j -d link` shows it; only what is used. */
export interface Link {
  readonly ifname: string
  readonly master?: string
  readonly operstate?: string
  readonly flags?: readonly string[]
  readonly linkinfo?: { readonly info_kind?: string }
}

/** `ip`, in a namespace or on the host itself. */
export function ipIn(namespace: string | undefined): readonly string[] {
  return namespace === undefined ? ['ip'] : ['ip', '-n', namespace]
}

/** Undefined when there is none of this name, or its namespace is missing. */
export async function findLink(
  host: HostCommands,
  name: string,
  namespace?: string,
): Promise<Link | undefined> {
  const end = await host.run(...ipIn(namespace), '-j', '-d', 'link', 'show', 'dev', name)
  return end.ok ? rows<Link>(end.stdout)[0] : undefined
}

/** Removes a link; one that is not there is no error. */
export async function removeLink(host: HostCommands, name: string): Promise<void> {
  const end = await host.run('ip', 'link', 'del', 'dev', name)
  if (end.ok || (await findLink(host, name)) === undefined) return
  await host.must(`remove interface "${name}"`, 'ip', 'link', 'del', 'dev', name)
}

/** Whether a namespace of this name can be entered. */
export async function hasNamespace(host: HostCommands, namespace: string): Promise<boolean> {
  return (await host.run(...ipIn(namespace), 'link', 'show', 'dev', 'lo')).ok
}

/** Makes a namespace unless it is there. A name left by a system that went down is made anew. */
export async function ensureNamespace(host: HostCommands, namespace: string): Promise<void> {
  if (!(await hasNamespace(host, namespace))) {
    await host.run('ip', 'netns', 'del', namespace)
    await host.must(`make network namespace "${namespace}"`, 'ip', 'netns', 'add', namespace)
  }
  const action = `set up network namespace "${namespace}"`
  await host.must(action, ...ipIn(namespace), 'link', 'set', 'dev', 'lo', 'up')
  await host.must(action, 'ip', 'netns', 'exec', namespace, ...FORWARD)
}

/** Lets a namespace pass packets on; a constant, so that a shell does no harm. */
export const FORWARD = ['sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward'] as const

/** Removes a namespace; one that is not there is no error. */
export async function removeNamespace(host: HostCommands, namespace: string): Promise<void> {
  const end = await host.run('ip', 'netns', 'del', namespace)
  if (end.ok || !(await hasNamespace(host, namespace))) return
  await host.must(`remove network namespace "${namespace}"`, 'ip', 'netns', 'del', namespace)
}

/** Gives an interface exactly this IPv4 address, with prefix, and switches it on. */
export async function setAddress(
  host: HostCommands,
  name: string,
  address: string,
  namespace?: string,
): Promise<void> {
  const ip = ipIn(namespace)
  const action = `give interface "${name}" the address ${address}`
  const text = await host.must(action, ...ip, '-j', '-4', 'addr', 'show', 'dev', name)
  const found = rows<{ addr_info?: readonly AddressInfo[] }>(text).flatMap((r) => r.addr_info ?? [])
  for (const { local, prefixlen } of found) {
    const other = `${local}/${prefixlen}`
    if (other !== address) await host.run(...ip, 'addr', 'del', other, 'dev', name)
  }
  await host.must(action, ...ip, 'addr', 'replace', address, 'dev', name)
  await host.must(action, ...ip, 'link', 'set', 'dev', name, 'up')
}

/** An address of an interface as `ip -j addr` shows it. */
export interface AddressInfo {
  readonly local: string
  readonly prefixlen: number
}

/** Rows of `ip -j`; empty when it printed something else. Old versions print empty objects too. */
export function rows<T extends object>(text: string): readonly T[] {
  try {
    const found: unknown = JSON.parse(text || '[]')
    if (!Array.isArray(found)) return []
    return found.filter(
      (row) => typeof row === 'object' && row !== null && Object.keys(row).length > 0,
    )
  } catch {
    return []
  }
}
