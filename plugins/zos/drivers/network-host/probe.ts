import { randomBytes } from 'node:crypto'
import type { DriverProbe } from '../driver.ts'
import type { HostCommands } from '../host-commands.ts'
import { wireguardProblem } from './wireguard.ts'

/**
 * Whether this process may make namespaces and bridges: makes one of each and removes it.
 *
 * @param needs Whether WireGuard is looked for too, and nftables.
 */
export async function probeHost(
  commands: HostCommands,
  signal: AbortSignal,
  needs: { readonly wireguard: boolean; readonly nftables: boolean },
): Promise<DriverProbe> {
  const host = commands.until(signal)
  const tool = await host.run('ip', '-j', 'link', 'show', 'dev', 'lo')
  if (!tool.ok) {
    const remedy = tool.errno === 'ENOENT' ? '; install iproute2' : ''
    return { able: false, reason: `network tools cannot be used: ${tool.problem}${remedy}` }
  }
  const name = `cvmd-${randomBytes(4).toString('hex')}`
  const made = [
    ['ip', 'link', 'add', 'dev', name, 'type', 'bridge'],
    ['ip', 'netns', 'add', name],
    ['ip', '-n', name, 'link', 'set', 'dev', 'lo', 'up'],
  ]
  try {
    for (const argv of made) {
      const end = await host.run(...argv)
      if (!end.ok) return { able: false, reason: `${refusal(end.problem)}: ${end.problem}` }
    }
    const filter = needs.nftables ? await host.run('nft', '--version') : undefined
    if (filter?.ok === false) {
      const remedy = 'install nftables, or configure no range for it'
      return { able: false, reason: `networks get no way out: ${filter.problem}; ${remedy}` }
    }
    const problem = needs.wireguard ? await wireguardProblem(host, `${name}w`) : undefined
    if (problem === undefined) return { able: true }
    return { able: true, warning: `only networks without peers: ${problem}` }
  } finally {
    // Also when it was called off.
    await commands.run('ip', 'netns', 'del', name)
    await commands.run('ip', 'link', 'del', 'dev', name)
  }
}

function refusal(problem: string): string {
  return /not permitted|permission denied|EPERM|EACCES/i.test(problem)
    ? 'this process may not make networks, it needs CAP_NET_ADMIN and CAP_SYS_ADMIN'
    : 'this host makes no networks'
}
