import { messageOf } from '../../../../src/errors.ts'
import { networkId } from '../../deployment/ids.ts'
import type { NetworkLight } from '../../model.ts'
import { discreet } from '../discreet.ts'
import { type Driver, DriverError, type HealthCheck, type Task } from '../driver.ts'
import { hostCommands } from '../host-commands.ts'
import { applyBridge, LAN, removeNetwork } from './apply.ts'
import { ipv4Network } from './ipv4.ts'
import { createLedger, type NetworkRecord } from './ledger.ts'
import { findLink } from './links.ts'
import { type NetworkPlan, networkNames, networkPlan } from './plan.ts'
import { probeHost } from './probe.ts'
import { applyUplink } from './uplink.ts'
import { applyWireguard, wireguardProblem } from './wireguard.ts'

export interface NetworkHostOptions {
  /** Records of what was made; may be shared by both types. */
  readonly folder: string
  /**
   * IPv4 range in CIDR text from which each network gets four addresses for its way out through the
   * host, with translation by nftables. Left out, networks reach only themselves and their peers.
   */
  readonly uplinkRange?: string | undefined
  /** Program and arguments in front of every command: `['sudo', '-n']`. */
  readonly prefix?: readonly string[]
  /** Told what a person should look at. */
  readonly warn?: ((message: string) => void) | undefined
}

type NetworkType = 'network' | 'network-light'

/**
 * Networks by the kernel's own means (spec zos §12.1): a bridge `b-<id>` on the host for machines, and
 * a namespace `n-<id>` with their gateway and WireGuard `w-<id>`. The tools are iproute2,
 * wireguard-tools and, for a way out, nftables.
 *
 * Where there is no WireGuard, networks without peers work all the same, and one with peers is
 * refused. Mycelium is not offered: a network that has a key for it works without.
 */
export function createNetworkHostDriver<T extends NetworkType>(
  type: T,
  options: NetworkHostOptions,
): Driver<T> {
  const commands = hostCommands(options.prefix)
  const ledger = createLedger(options.folder)
  const full = type === 'network'

  const netIdOf = (task: Task<T>) => networkId(task.deployment.twinId, task.workload.name)

  const apply = async (task: Task<T>) => {
    const netId = netIdOf(task)
    const plan = networkPlan(netId, task.workload.data as NetworkLight, full)
    const known = await ledger.read(netId)
    refuseShared(task, known)
    await refusePort(plan, netId)
    const host = commands.until(task.signal)
    const listenPort = plan.wireguard?.listenPort ?? 0
    await ledger.write({ id: task.id, type, netId, listenPort })
    try {
      await applyBridge(host, plan)
      if (options.uplinkRange !== undefined) {
        await applyUplink(host, plan.names, ipv4Network(options.uplinkRange, 'uplink range'))
      }
      await applyTunnel(plan, netId, task.signal)
    } catch (error) {
      // What ran before goes on; a new one leaves nothing.
      if (known === undefined) await remove(netId).catch(() => {})
      throw error
    }
    return undefined
  }

  const applyTunnel = async (
    { names, wireguard }: NetworkPlan,
    netId: string,
    signal: AbortSignal,
  ) => {
    if (wireguard === undefined) return
    const host = commands.until(signal)
    try {
      await applyWireguard(host, names, wireguard, ledger.temporary(netId))
    } catch (error) {
      signal.throwIfAborted()
      const missing = await wireguardProblem(host, `x${names.wireguard.slice(1)}`)
      if (missing === undefined) throw error
      if (wireguard.peers.length === 0) return
      const message = `Cannot reach the ${wireguard.peers.length} peers of network: ${missing}`
      throw new DriverError('failed', message, { cause: error })
    }
  }

  const refusePort = async ({ wireguard }: NetworkPlan, netId: string) => {
    const port = wireguard?.listenPort ?? 0
    if (port === 0) return
    const other = (await ledger.all()).find((r) => r.listenPort === port && r.netId !== netId)
    if (other === undefined) return
    throw new DriverError(
      'failed',
      `Cannot listen on WireGuard port ${port}: another network of this node has it`,
    )
  }

  const remove = async (netId: string) => {
    await removeNetwork(commands, networkNames(netId))
    await ledger.remove(netId)
  }

  const driver: Driver<T> = {
    type,
    name: 'host',
    probe: (signal) =>
      probeHost(commands, signal, {
        wireguard: full,
        nftables: options.uplinkRange !== undefined,
      }).catch((error) => ({
        able: false as const,
        reason: messageOf(error),
      })),
    provision: apply,
    update: apply,

    async deprovision(task) {
      const netId = netIdOf(task)
      const known = await ledger.read(netId)
      // Another deployment of the twin has it by now.
      if (known !== undefined && known.id !== '' && known.id !== task.id) return
      await remove(netId)
    },

    async health(task) {
      const plan = networkPlan(netIdOf(task), task.workload.data as NetworkLight, full)
      return checks(plan, task.signal)
    },

    async sweep(wanted) {
      for (const { id, netId, type: made } of await ledger.all()) {
        if (made === type && !wanted.has(id)) await remove(netId)
      }
    },
  }
  return discreet(driver, { places: [options.folder], warn: options.warn })

  async function checks({ names, wireguard }: NetworkPlan, signal: AbortSignal) {
    const host = commands.until(signal)
    const look = async (name: string, namespace?: string): Promise<HealthCheck> => {
      const link = await findLink(host, name, namespace)
      const up = link?.flags?.includes('UP') === true
      const message = link === undefined ? 'is missing' : up ? 'is up' : 'is down'
      const where = namespace === undefined ? '' : ` in namespace ${namespace}`
      return { name: `interface ${name}`, ok: up, message: `interface ${name}${where} ${message}` }
    }
    const found = [
      await look(names.bridge),
      await look(names.port),
      await look(LAN, names.namespace),
    ]
    if (wireguard !== undefined && wireguard.peers.length > 0) {
      found.push(await look(names.wireguard, names.namespace))
    }
    return found
  }
}

/** Names of networks are the twin's, not the deployment's: the first one keeps it. */
function refuseShared(task: Task, known: NetworkRecord | undefined): void {
  if (known === undefined || known.id === '' || known.id === task.id) return
  for (const { id } of task.running()) {
    if (id !== known.id) continue
    const message = `Cannot make network "${task.workload.name}": workload ${id} has this name already`
    throw new DriverError('failed', message)
  }
}
