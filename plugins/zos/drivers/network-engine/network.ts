import type { Engine } from '../../../../src/engine/engine.ts'
import { isEngineError } from '../../../../src/engine/error.ts'
import type { Network } from '../../../../src/engine/networks.ts'
import { messageOf } from '../../../../src/errors.ts'
import { networkId } from '../../deployment/ids.ts'
import { isOurs, label, NETWORK_LABEL, removeMachines, unlessGone } from '../container/labels.ts'
import { discreet } from '../discreet.ts'
import { type Driver, DriverError, type HealthCheck, type Task } from '../driver.ts'
import { engineFailure } from '../engine-failure.ts'
import { engineNetwork, OWNER_LABEL, WORKLOAD_LABEL } from '../names.ts'
import { gatewayOf, readSubnet, type Subnet, writeSubnet } from './subnet.ts'
import { hostNetworks, inUse, subnetProblem } from './subnet-problem.ts'

export interface EngineNetworkOptions {
  readonly engine: Engine
  /** Who has what on this engine: the node id. */
  readonly owner: string
  /** Told of what a network asks for and does not get. */
  readonly warn?: (message: string) => void
}

type NetworkType = 'network' | 'network-light'

/** The engine needs addresses for itself and for at least one machine. */
const MAX_PREFIX = 29
const MIN_PREFIX = 8
const PROBE_MS = 5000

/**
 * Networks as bridges of the container engine (spec §12.2): what machines of one twin on this node
 * share. There is no WireGuard in it: peers are not reached, and the driver says so.
 */
export function createEngineNetworkDriver<T extends NetworkType>(
  type: T,
  options: EngineNetworkOptions,
): Driver<T> {
  const { engine, owner, warn = () => {} } = options
  const { networks } = engine
  const nameOf = ({ deployment, workload }: Task<T>) =>
    engineNetwork(networkId(deployment.twinId, workload.name))

  /** Undefined where there is none of this name. */
  const find = async (name: string, signal: AbortSignal): Promise<Network | undefined> => {
    try {
      return await networks.inspect(name, { signal })
    } catch (error) {
      if (isEngineError(error, 'ENGINE_NOT_FOUND')) return undefined
      throw error
    }
  }

  /** Names of what is on a network, stopped machines included. */
  const usersOf = async ({ Name, Containers }: Network, signal: AbortSignal) => {
    const labels = [label(OWNER_LABEL, owner), label(NETWORK_LABEL, Name)]
    const machines = await engine.containers.list({ labels, signal })
    const stopped = machines.map(({ Labels }) => Labels[WORKLOAD_LABEL] ?? '')
    return [...new Set([...Object.values(Containers).map((one) => one.Name), ...stopped])].sort()
  }

  const remove = async (network: Network, why: string, signal: AbortSignal): Promise<void> => {
    const users = await usersOf(network, signal)
    if (users.length > 0) {
      const shown = users.slice(0, 5).join(', ')
      throw new DriverError('failed', `${why}: machines are on it (${shown}), delete them first`)
    }
    await unlessGone(networks.remove(network.Id, { signal }))
  }

  const make = async (name: string, task: Task<T>, subnet: Subnet): Promise<void> => {
    const Config = [{ Subnet: writeSubnet(subnet), Gateway: gatewayOf(subnet) }]
    const Labels = { [OWNER_LABEL]: owner, [WORKLOAD_LABEL]: task.id }
    const body = { Name: name, Driver: 'bridge', Labels, IPAM: { Driver: 'default', Config } }
    try {
      await networks.create(body, { signal: task.signal })
    } catch (error) {
      if (!/overlap|already (?:being )?used/i.test(messageOf(error))) throw error
      throw new DriverError('failed', inUse(subnet), { cause: error })
    }
  }

  const apply = async (task: Task<T>): Promise<undefined> => {
    const { workload, signal } = task
    const subnet = subnetOf(workload.data.subnet)
    const name = nameOf(task)
    const there = await find(name, signal)
    if (there && !isOurs(there.Labels, owner)) {
      const remedy = 'remove it there, or choose another network name'
      const reason = `the container engine has a network "${name}" that is not this node's: ${remedy}`
      throw new DriverError('failed', reason)
    }
    const same = there && isAs(there, subnet)
    // One that a removed workload left behind is taken over only by a workload of the same id.
    const stays = same && there.Labels[WORKLOAD_LABEL] === task.id
    const given = readSubnet(there?.IPAM?.Config[0]?.Subnet ?? '')
    const problem = stays ? undefined : subnetProblem(subnet, hostNetworks(given))
    if (problem !== undefined) throw new DriverError('failed', problem)
    if (there && !stays) {
      const from = there.IPAM?.Config[0]?.Subnet ?? 'none'
      const change = same ? 'is of another deployment' : `cannot change from subnet ${from}`
      await remove(there, `network '${workload.name}' ${change}`, signal)
    }
    if (!stays) await make(name, task, subnet)
    const { length } = workload.data.peers
    if (length > 0) {
      const lack = `${length} WireGuard peers are not reached: the network is on this node only`
      task.progress(lack)
      warn(`network ${task.id}: ${lack}`)
    }
    return undefined
  }

  const driver: Driver<T> = {
    type,
    name: 'engine',
    probe: async (signal) => {
      try {
        await engine.ping({ signal, deadlineMs: PROBE_MS })
        return { able: true, warning: 'networks reach no WireGuard peers' }
      } catch (error) {
        return { able: false, reason: messageOf(error) }
      }
    },
    provision: guarded(apply),
    update: guarded(apply),
    deprovision: guarded(async (task: Task<T>) => {
      const there = await find(nameOf(task), task.signal)
      // After a change of hands it is another workload's.
      if (!there || !isOurs(there.Labels, owner)) return
      if (there.Labels[WORKLOAD_LABEL] !== task.id) return
      await remove(there, `network '${task.workload.name}' cannot be deleted`, task.signal)
    }),
    health: async (task) => [await check(task)],
    sweep: async (wanted, signal) => {
      const found = await networks.list({ labels: [label(OWNER_LABEL, owner)], signal })
      const isLeft = (labels: Readonly<Record<string, string>>) =>
        isOurs(labels, owner) && !wanted.has(labels[WORKLOAD_LABEL] ?? '')
      for (const { Id, Name, Labels } of found) {
        if (!isLeft(Labels)) continue
        await removeMachines(engine, owner, [label(NETWORK_LABEL, Name)], { signal, only: isLeft })
        try {
          await unlessGone(networks.remove(Id, { signal }))
        } catch (error) {
          // Somebody else's container is on it.
          warn(`network "${Name}" of a deployment that is gone stays: ${messageOf(error)}`)
        }
      }
    },
  }
  return discreet(driver, { places: [engine.socketPath], warn })

  async function check(task: Task<T>): Promise<HealthCheck> {
    const subnet = readSubnet(task.workload.data.subnet)
    try {
      const there = await find(nameOf(task), task.signal)
      const ok = there !== undefined && subnet !== undefined && isAs(there, subnet)
      const message = ok ? 'the network is there' : 'the network is missing, or has another subnet'
      const evidence = there?.IPAM?.Config[0]?.Subnet ?? 'no such network'
      return { name: 'network', ok, message, evidence }
    } catch (error) {
      return { name: 'network', ok: false, message: messageOf(error) }
    }
  }
}

/** @throws {DriverError} For a subnet that no machines can be in. */
function subnetOf(text: string): Subnet {
  const subnet = readSubnet(text)
  if (!subnet || subnet.prefix < MIN_PREFIX || subnet.prefix > MAX_PREFIX) {
    const range = `/${MIN_PREFIX} to /${MAX_PREFIX}`
    throw new DriverError('failed', `subnet '${text}' must be an IPv4 network, ${range}`)
  }
  return subnet
}

/** Whether a network of the engine has this subnet, and its first address as gateway. */
function isAs({ IPAM }: Network, subnet: Subnet): boolean {
  const [config, ...others] = IPAM?.Config ?? []
  if (config === undefined || others.length > 0) return false
  return config.Subnet === writeSubnet(subnet) && config.Gateway === gatewayOf(subnet)
}

function guarded<Args extends readonly unknown[], R>(work: (...args: Args) => Promise<R>) {
  return async (...args: Args): Promise<R> => {
    try {
      return await work(...args)
    } catch (error) {
      throw engineFailure(error)
    }
  }
}
