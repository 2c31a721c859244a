import type { ContainerSummary } from '../../../../src/engine/containers.ts'
import type { Engine } from '../../../../src/engine/engine.ts'
import { isEngineError } from '../../../../src/engine/error.ts'
import type { RegistryCredentials } from '../../../../src/engine/images.ts'
import { messageOf } from '../../../../src/errors.ts'
import type { MachineNetwork } from '../../model.ts'
import { discreet } from '../discreet.ts'
import { type Driver, DriverError, type HealthCheck, type Task } from '../driver.ts'
import { engineFailure } from '../engine-failure.ts'
import { claimGpus, type GpuClaims } from '../gpu-claims.ts'
import { OWNER_LABEL, WORKLOAD_LABEL } from '../names.ts'
import { privateAddress, publicAddress } from './address.ts'
import { CrashWatch, reasonOf } from './crash-watch.ts'
import { ensureImage, imageOf } from './image.ts'
import { HASH_LABEL, isOurs, label, removeMachines, TYPE_LABEL, unlessGone } from './labels.ts'
import { lastLines } from './logs.ts'
import { bindMounts } from './mounts.ts'
import { type Asked, bodyOf, endpointOf, hashOf } from './spec.ts'

export interface ContainerMachineOptions {
  readonly engine: Engine
  /** Who has what on this engine: the node id. */
  readonly owner: string
  /** Where disks and volumes are (`names.ts`). */
  readonly dataDir: string
  /** Default: no GPU is known. */
  readonly gpus?: GpuClaims
  /** Who pulls from a registry, by its host. Default: nobody in particular. */
  readonly credentials?: (registry: string) => RegistryCredentials | undefined
  /**
   * A network of the engine, made by the operator, on which public addresses are given to machines:
   * usually a macvlan. Default: none, and machines with a public address are refused.
   */
  readonly publicNetwork?: string
  /** For a machine to end by itself before it is removed. Default: 10. */
  readonly stopSeconds?: number
  /** Told of what a machine asks for and does not get. */
  readonly warn?: (message: string) => void
}

type MachineType = 'zmachine' | 'zmachine-light'

const STOP_SECONDS = 10
const PROBE_MS = 5000
/** In the words of Docker, and of Podman with either of its network programs. */
const IN_USE = /address already in use|not available in range|already allocated/i

/** Machines as containers (spec §12.2): one each, named after its workload. */
export function createContainerMachineDriver<T extends MachineType>(
  type: T,
  options: ContainerMachineOptions,
): Driver<T> {
  const { engine, owner, gpus, warn = () => {}, stopSeconds = STOP_SECONDS } = options
  const { containers, networks } = engine
  const watch = new CrashWatch({ engine, owner })

  /** All containers of a workload: more than one only after somebody's intervention. */
  const find = (id: string, signal: AbortSignal) =>
    containers.list({
      labels: [label(OWNER_LABEL, owner), label(WORKLOAD_LABEL, id)],
      signal,
    })

  const resolve = (task: Task<T>): Asked => {
    const { workload, id } = task
    const machine = workload.data
    if (machine.corex) {
      throw new DriverError('failed', 'corex is not offered: machines are containers here')
    }
    const { publicIp = '' } = machine.network as Partial<MachineNetwork>
    const ip = publicAddress(publicIp, task)
    if (publicIp !== '' && (ip === undefined || options.publicNetwork === undefined)) {
      const reason = 'public ipv4 is requested, but not supported on this node'
      throw new DriverError('failed', `${reason}: no network for public addresses is configured`)
    }
    return {
      id,
      owner,
      type,
      name: workload.name,
      image: imageOf(machine.flist),
      machine,
      address: privateAddress(machine, task),
      publicAddress: ip === undefined ? undefined : { network: options.publicNetwork ?? '', ip },
      mounts: bindMounts(machine.mounts, task, options.dataDir),
      devices: machine.gpu.length > 0 ? gpus?.deviceRequests(machine.gpu) : undefined,
    }
  }

  /** Makes it and starts it; leaves nothing when that fails. */
  const make = async (asked: Asked, task: Task<T>): Promise<string> => {
    const { signal } = task
    await ensureImage(options, asked.image, task)
    const container = await create(asked, signal)
    try {
      const { publicAddress: at } = asked
      if (at) await networks.connect(at.network, container, endpointOf(at), { signal })
      await start(container, task)
      return container
    } catch (error) {
      await containers.remove(container, { force: true, volumes: true }).catch(() => {})
      throw error
    }
  }

  const create = async (asked: Asked, signal: AbortSignal): Promise<string> => {
    try {
      return (await containers.create(asked.id, bodyOf(asked), { signal })).Id
    } catch (error) {
      // Podman says 500 to a name in use.
      const taken =
        isEngineError(error, 'ENGINE_CONFLICT') || /already in use/.test(messageOf(error))
      if (!taken) throw error
      const reason = `the container engine has a container "${asked.id}" that is not this node's`
      throw new DriverError('failed', `${reason}: remove or rename it`, { cause: error })
    }
  }

  const start = async (container: string, task: Task<T>): Promise<void> => {
    const { signal, workload } = task
    try {
      await containers.start(container, { signal })
    } catch (error) {
      if (!IN_USE.test(messageOf(error))) throw error
      const [{ ip = '' } = {}] = workload.data.network.interfaces
      throw new DriverError('failed', `ip ${ip} is in use by another machine`, { cause: error })
    }
    const { State } = await containers.inspect(container, { signal })
    if (State.Running) return
    const secrets = [...workload.data.env.values()]
    throw new DriverError('failed', await reasonOf(engine, container, State, secrets, signal))
  }

  /** Takes over what is there, if it is what is asked for. */
  const takeOver = async (
    found: readonly ContainerSummary[],
    asked: Asked,
    task: Task<T>,
  ): Promise<string | undefined> => {
    const [one, ...others] = found
    if (!one || others.length > 0 || one.Labels[HASH_LABEL] !== hashOf(asked)) return undefined
    switch (one.State) {
      case 'running':
        return one.Id
      case 'paused':
        await containers.unpause(one.Id, { signal: task.signal })
        return one.Id
      case 'exited':
      // Podman's word.
      case 'stopped':
        // After a restart of the host or the engine; its files are kept.
        await start(one.Id, task)
        return one.Id
      default:
        // Never started: how far it was made is not known.
        return undefined
    }
  }

  const ensure = async (task: Task<T>): Promise<unknown> => {
    const { id, workload, signal } = task
    const [{ ip = '' } = {}] = workload.data.network.interfaces
    const result = resultOf(type, id, ip)
    try {
      await claimGpus(task, gpus)
      const asked = resolve(task)
      const found = await find(id, signal)
      let container = await takeOver(found, asked, task)
      if (container === undefined) {
        await removeMachines(engine, owner, [label(WORKLOAD_LABEL, id)], { signal })
        container = await make(asked, task)
      }
      watch.runs(id, { container, secrets: [...workload.data.env.values()] })
      tellLacks(task)
      return result
    } catch (error) {
      watch.forget(id)
      const failure = engineFailure(error, result)
      // While the engine is away, what ran may run.
      if (failure.kind === 'transient') throw failure
      await releaseGpus(task).catch((thrown) => {
        throw engineFailure(thrown, result)
      })
      throw failure
    }
  }

  /** One that ran before may not go on with devices that it has no claim on. */
  const releaseGpus = async ({ id, workload, resultOf, signal }: Task<T>): Promise<void> => {
    if (workload.data.gpu.length === 0) return
    const isNew = resultOf(workload.name)?.state === 'init'
    for (const { Id } of isNew ? [] : await find(id, signal)) {
      await unlessGone(containers.stop(Id, { seconds: 0, signal }))
    }
    gpus?.release(id)
  }

  const tellLacks = ({ id, workload }: Task<T>): void => {
    const { mycelium, planetary } = workload.data.network as Partial<MachineNetwork>
    if (planetary) warn(`${type} ${id}: there is no planetary network here`)
    if (mycelium) warn(`${type} ${id}: there is no mycelium here`)
  }

  const driver: Driver<T> = {
    type,
    name: 'container',
    probe: async (signal) => {
      try {
        await engine.ping({ signal, deadlineMs: PROBE_MS })
        return { able: true }
      } catch (error) {
        return { able: false, reason: messageOf(error) }
      }
    },
    provision: (task) => watch.during(task.id, () => ensure(task)),
    // Also after a restart of the engine, which ends what was paused.
    resume: (task) =>
      watch.during(task.id, async () => {
        await ensure(task)
      }),
    pause: (task) =>
      watch.during(task.id, async () => {
        const { id, signal } = task
        watch.forget(id)
        try {
          const [machine] = await find(id, signal)
          if (machine?.State === 'paused') return
          if (machine?.State !== 'running') throw new DriverError('failed', 'machine does not run')
          await containers.pause(machine.Id, { signal })
        } catch (error) {
          throw engineFailure(error)
        }
      }),
    deprovision: (task) =>
      watch.during(task.id, async () => {
        const { id, signal } = task
        watch.forget(id)
        try {
          await removeMachines(engine, owner, [label(WORKLOAD_LABEL, id)], { signal, stopSeconds })
        } catch (error) {
          throw engineFailure(error)
        }
        gpus?.release(id)
      }),
    health: (task) => checks(engine, find(task.id, task.signal), task),
    logs: async ({ id, workload, signal }, lines) => {
      const [machine] = await find(id, signal)
      if (!machine) return ''
      const secrets = [...workload.data.env.values()]
      return (await lastLines(engine, machine.Id, lines, secrets, signal)).join('\n')
    },
    watch: (crashed, signal) => watch.watch(crashed, signal),
    sweep: async (wanted, signal) => {
      const only = (labels: Readonly<Record<string, string>>) =>
        isOurs(labels, owner) && !wanted.has(labels[WORKLOAD_LABEL] ?? '')
      await removeMachines(engine, owner, [label(TYPE_LABEL, type)], { signal, only })
    },
  }
  const places = [engine.socketPath, options.dataDir, ...ENGINE_FOLDERS]
  return discreet(driver, { places, warn })
}

/** Where engines keep what they like to quote. */
const ENGINE_FOLDERS = [
  '/run/containerd',
  '/run/containers',
  '/run/docker',
  '/var/lib/containers',
  '/var/lib/docker',
]

/** §4.3 */
function resultOf(type: MachineType, id: string, ip: string) {
  const common = { mycelium_ip: '', console_url: '' }
  return type === 'zmachine' ? { id, ip, planetary_ip: '', ...common } : { id, ip, ...common }
}

async function checks(
  { containers }: Engine,
  found: Promise<readonly ContainerSummary[]>,
  { workload, signal }: Task<MachineType>,
): Promise<HealthCheck[]> {
  try {
    const [machine] = await found
    if (!machine) return [{ name: 'container', ok: false, message: 'there is no container' }]
    const { State, NetworkSettings } = await containers.inspect(machine.Id, { signal })
    const [{ ip = '' } = {}] = workload.data.network.interfaces
    const addresses = Object.values(NetworkSettings.Networks).map((one) => one.IPAddress)
    const hasAddress = addresses.includes(ip)
    return [
      {
        name: 'container',
        ok: State.Status === 'running',
        message: `the container is ${State.Status}`,
        evidence: `started at ${State.StartedAt}, exit code ${State.ExitCode}`,
      },
      {
        name: 'address',
        ok: hasAddress,
        message: hasAddress ? 'it has its private address' : 'it does not have its address',
        evidence: addresses.filter((one) => one !== '').join(', '),
      },
    ]
  } catch (error) {
    return [{ name: 'container', ok: false, message: messageOf(error) }]
  }
}
