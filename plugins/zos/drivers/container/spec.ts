import { createHash } from 'node:crypto'
import type { ContainerBody } from '../../../../src/engine/containers.ts'
import { shellWords } from '../../../../src/shell-words.ts'
import type { ZmachineLight } from '../../model.ts'
import { DriverError } from '../driver.ts'
import { OWNER_LABEL, WORKLOAD_LABEL } from '../names.ts'
import type { MachineAddress } from './address.ts'
import { HASH_LABEL, NETWORK_LABEL, TYPE_LABEL } from './labels.ts'
import type { BindMount } from './mounts.ts'

/** A machine, its references to other workloads resolved. */
export interface Asked {
  readonly id: string
  readonly owner: string
  readonly type: 'zmachine' | 'zmachine-light'
  /** Name of the workload, which becomes the host name. */
  readonly name: string
  readonly image: string
  readonly machine: ZmachineLight
  readonly address: MachineAddress
  /** On the network for public addresses; undefined without one. */
  readonly publicAddress: MachineAddress | undefined
  readonly mounts: readonly BindMount[]
  /** Members of `HostConfig.DeviceRequests`. */
  readonly devices: unknown
}

/** Of processes: more than any machine needs, and less than what hurts the node. */
const MAX_PROCESSES = 8192
const CPU_PERIOD_US = 100_000
/** Kept of what a machine writes: the engine would keep all, until the disk is full. */
const LOG = { 'max-size': '10m', 'max-file': '3' }

/**
 * What makes one machine another one: not how it is written here, so that a new version of the
 * daemon takes machines over as they are.
 */
export function hashOf(asked: Asked): string {
  const { type, image, machine, address, publicAddress, mounts } = asked
  const { cpu, memory, entrypoint, env, gpu } = machine
  const whole = [
    1,
    type,
    image,
    cpu,
    String(memory),
    entrypoint,
    [...env].sort(([a], [b]) => (a < b ? -1 : 1)),
    gpu,
    [address.network, address.ip],
    publicAddress ? [publicAddress.network, publicAddress.ip] : null,
    mounts.map(({ source, target }) => [source, target]),
  ]
  return createHash('sha256').update(JSON.stringify(whole)).digest('hex')
}

/**
 * A machine in the engine's words.
 *
 * @throws {DriverError} For an entrypoint whose quotes are not closed, and for an environment that
 *   no process can have.
 */
export function bodyOf(asked: Asked): ContainerBody {
  const { machine, address, devices } = asked
  const words = wordsOf(machine.entrypoint)
  return {
    Image: asked.image,
    Hostname: asked.name,
    Env: environmentOf(machine.env),
    // What the image runs by itself is replaced as a whole.
    ...(words.length > 0 ? { Entrypoint: words, Cmd: [] } : {}),
    Labels: {
      [OWNER_LABEL]: asked.owner,
      [WORKLOAD_LABEL]: asked.id,
      [TYPE_LABEL]: asked.type,
      [NETWORK_LABEL]: address.network,
      [HASH_LABEL]: hashOf(asked),
    },
    HostConfig: {
      NetworkMode: address.network,
      Memory: Number(machine.memory),
      MemorySwap: Number(machine.memory),
      // A share of time: an engine refuses more CPUs than there are, the grid does not.
      CpuPeriod: CPU_PERIOD_US,
      CpuQuota: machine.cpu * CPU_PERIOD_US,
      PidsLimit: MAX_PROCESSES,
      RestartPolicy: { Name: 'no' },
      LogConfig: { Type: 'json-file', Config: LOG },
      // Unlike `Binds`, these make no folder that is missing.
      Mounts: asked.mounts.map(({ source, target }) => ({
        Type: 'bind',
        Source: source,
        Target: target,
      })),
      ...(devices === undefined ? {} : { DeviceRequests: devices }),
    },
    NetworkingConfig: { EndpointsConfig: { [address.network]: endpointOf(address) } },
  }
}

/** Of a connection to a network, in the engine's words. */
export function endpointOf({ ip }: MachineAddress): object {
  return { IPAMConfig: { IPv4Address: ip } }
}

function wordsOf(entrypoint: string): string[] {
  const words = shellWords(entrypoint)
  if (words) return words
  throw new DriverError('failed', 'the entrypoint has a quote that is not closed')
}

/** No value is shown. */
function environmentOf(env: ReadonlyMap<string, string>): string[] {
  const entries: string[] = []
  for (const [name, value] of env) {
    if (name === '' || name.includes('=') || `${name}${value}`.includes('\0')) {
      const shown = JSON.stringify(name.slice(0, 100))
      throw new DriverError('failed', `no process can have the environment variable ${shown}`)
    }
    entries.push(`${name}=${value}`)
  }
  return entries.sort()
}
