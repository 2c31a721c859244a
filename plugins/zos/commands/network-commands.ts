import type { RunningWorkload } from '../drivers/driver.ts'
import type { Command, CommandParts, CommandTable } from './parts.ts'
import { readNetworkName, readString } from './payload.ts'

/** `zos.network`, and the farmer's part of it under both of its names (spec §9.1, §9.2). */
export function networkCommands({ deployments, facts }: CommandParts): CommandTable {
  const anybody = (answer: Command['answer']): Command => ({ caller: 'any', answer })
  const farmer = (answer: Command['answer']): Command => ({ caller: 'farmer', answer })
  const admin: CommandTable = {
    interfaces: farmer(() => facts.adminInterfaces()),
    get_public_nic: farmer(() => facts.publicNic()),
    set_public_nic: farmer(({ payload }) =>
      facts.setPublicNic(readString(payload, 'failed to decode input, expecting string')),
    ),
  }
  return {
    'zos.network.list_wg_ports': anybody(() => facts.wireguardPorts()),
    'zos.network.has_ipv6': anybody(() => facts.hasIpv6()),
    'zos.network.interfaces': anybody(() => facts.interfaces()),
    'zos.network.list_public_ips': anybody(() => publicIps(deployments.running())),
    'zos.network.public_config_get': anybody(() => facts.publicConfig()),
    'zos.network.list_private_ips': {
      caller: 'owner',
      answer: ({ twin, payload }) =>
        privateIps(deployments.running(), twin, readNetworkName(payload)),
    },
    // The servers of today have the second name, their documentation and clients the first.
    ...below('zos.network.admin', admin),
    ...below('zos.admin', admin),
  }
}

function below(prefix: string, table: CommandTable): CommandTable {
  return Object.fromEntries(
    Object.entries(table).map(([name, command]) => [`${prefix}.${name}`, command]),
  )
}

function publicIps(running: Iterable<RunningWorkload>): readonly string[] {
  const found: string[] = []
  for (const { workload, result } of running) {
    if ((workload.type !== 'ip' && workload.type !== 'ipv4') || result.state !== 'ok') continue
    const { ip } = (JSON.parse(result.data) ?? {}) as { readonly ip?: unknown }
    if (typeof ip === 'string' && ip !== '') found.push(ip)
  }
  return found
}

function privateIps(
  running: Iterable<RunningWorkload>,
  twin: number,
  network: string,
): readonly string[] {
  const found: string[] = []
  for (const { twinId, workload } of running) {
    if (twinId !== twin) continue
    if (workload.type !== 'zmachine' && workload.type !== 'zmachine-light') continue
    for (const one of workload.data.network.interfaces) {
      if (one.network === network) found.push(one.ip)
    }
  }
  return found
}
