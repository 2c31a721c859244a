import { messageOf } from '../../../../src/errors.ts'
import { discreet } from '../discreet.ts'
import { type Driver, DriverError, type HealthCheck, type Task } from '../driver.ts'
import { claimGpus, type GpuClaims } from '../gpu-claims.ts'
import { hostCommands } from '../host-commands.ts'
import { findLink } from '../network-host/links.ts'
import { isMachineApiError } from './api.ts'
import { type AskedOptions, askedOf } from './asked.ts'
import { type MachineType, machineStore } from './machine-files.ts'
import { Machines } from './machines.ts'
import { probeHypervisor } from './probe.ts'
import type { RootImageOptions } from './root-image.ts'
import { boundLog } from './serial-log.ts'
import type { VmPayload } from './vm-config.ts'
import { MachineWatch } from './watch.ts'

export interface CloudHypervisorOptions extends RootImageOptions, AskedOptions {
  /** Of all machines' own disks, logs and records; may be shared by both types. */
  readonly folder: string
  /** Of sockets: at most 84 bytes, on a file system that has sockets. */
  readonly runFolder: string
  /**
   * What machines start with: usually `{ firmware: '/usr/share/…/hypervisor-fw' }`. Left out, the
   * probe says that it is missing.
   */
  readonly payload: VmPayload | undefined
  /** Default: no GPU is known. */
  readonly gpus?: GpuClaims | undefined
  /** Program and its first arguments. Default: `['cloud-hypervisor']`. */
  readonly hypervisor?: readonly string[] | undefined
  /** Default: `['virtiofsd']`. */
  readonly virtiofsd?: readonly string[] | undefined
  /** Default: `/dev/kvm`. */
  readonly kvmPath?: string | undefined
  /** Program and arguments in front of `ip` and the probes: `['sudo', '-n']`. */
  readonly prefix?: readonly string[]
  /** For a machine to switch itself off when it is removed. Default: 5000. */
  readonly graceMs?: number | undefined
  /** Between looks at the machines. Default: 5000. */
  readonly watchMs?: number | undefined
  /** Room that a serial log may take before it is cut. Default: 16 MiB. */
  readonly maxLogBytes?: number | undefined
  /** For quick calls of the hypervisor. Default: 10 s. */
  readonly quickMs?: number | undefined
  /** Told of what a machine asks for and does not get. */
  readonly warn?: ((message: string) => void) | undefined
}

const GRACE_MS = 5000
const WATCH_MS = 5000
const MAX_LOG_BYTES = 16 * 1024 * 1024

/**
 * Machines as virtual machines of cloud-hypervisor (spec zos §12), one process each in a session of
 * its own: they go on when the daemon ends, and are taken over by the next one.
 */
export function createCloudHypervisorDriver<T extends MachineType>(
  type: T,
  options: CloudHypervisorOptions,
): Driver<T> {
  const { gpus, warn = () => {}, payload } = options
  const host = hostCommands(options.prefix)
  const store = machineStore(options.folder, options.runFolder)
  const hypervisor = options.hypervisor ?? ['cloud-hypervisor']
  const virtiofsd = options.virtiofsd ?? ['virtiofsd']
  const { graceMs = GRACE_MS, maxLogBytes = MAX_LOG_BYTES } = options
  const machines = new Machines({ ...options, type, store, host, hypervisor, virtiofsd, graceMs })
  const watch = new MachineWatch({
    machines,
    intervalMs: options.watchMs ?? WATCH_MS,
    tend: (id) => boundLog(store.files(id).serialLog, maxLogBytes),
  })

  /** Whether it runs already, or can be made to without a new start. */
  const takeOver = async ({ id, signal }: Task<T>): Promise<boolean> => {
    if ((await store.read(id)) === undefined) return false
    try {
      const state = await machines.state(id, signal)
      if (state === 'Paused') await machines.api(id).resume(signal)
      return state === 'Running' || state === 'Paused'
    } catch (error) {
      // A hypervisor that does not answer is ended and started again.
      if (isMachineApiError(error)) return false
      throw error
    }
  }

  const ensure = async (task: Task<T>): Promise<unknown> => {
    const { id, workload } = task
    const [{ ip = '' } = {}] = workload.data.network.interfaces
    const result = resultOf(type, id, ip)
    try {
      await claimGpus(task, gpus)
      if (!(await takeOver(task))) {
        await machines.start(askedOf(task, options), task, () => watch.hint())
      }
      watch.runs(id, [...workload.data.env.values()])
      const { mycelium, planetary = false } = workload.data.network as Partial<
        Task<'zmachine'>['workload']['data']['network']
      >
      if (planetary) warn(`${type} ${id}: there is no planetary network here`)
      if (mycelium) warn(`${type} ${id}: there is no mycelium here`)
      return result
    } catch (error) {
      watch.forget(id)
      const failure = withData(error, result)
      if (failure.kind !== 'transient') {
        // One that ran before may not go on with devices that it has no claim on.
        await machines.halt(id, 0).catch(() => {})
        gpus?.release(id)
      }
      throw failure
    }
  }

  const control = (name: 'pause' | 'resume', done: 'Paused' | 'Running') => (task: Task<T>) =>
    watch.during(task.id, async () => {
      const { id, signal } = task
      try {
        const state = await machines.state(id, signal)
        if (state === done) return
        if (state === undefined || state === 'Shutdown' || state === 'Created') {
          if (name === 'pause') throw new DriverError('failed', 'machine does not run')
          await ensure(task)
          return
        }
        await machines.api(id)[name](signal)
      } catch (error) {
        throw withData(error, undefined)
      }
    })

  const driver: Driver<T> = {
    type,
    name: 'cloud-hypervisor',
    probe: (signal) =>
      probeHypervisor({
        commands: host,
        signal,
        hypervisor,
        virtiofsd,
        kvmPath: options.kvmPath ?? '/dev/kvm',
        payload,
        runFolder: options.runFolder,
      }).catch((error) => ({ able: false as const, reason: messageOf(error) })),
    provision: (task) => watch.during(task.id, () => ensure(task)),
    pause: control('pause', 'Paused'),
    resume: control('resume', 'Running'),
    deprovision: (task) =>
      watch.during(task.id, async () => {
        watch.forget(task.id)
        await machines.remove(task.id)
        gpus?.release(task.id)
      }),
    health: (task) => checks(task),
    logs: ({ id, workload }, lines) => machines.lines(id, lines, [...workload.data.env.values()]),
    watch: (crashed, signal) => watch.watch(crashed, signal),
    async sweep(wanted) {
      for (const id of await store.all()) {
        if (wanted.has(id)) continue
        const record = await store.read(id)
        if (record === undefined || record.type === type) await machines.remove(id)
      }
    },
  }
  const { folder, runFolder, dataDir, imageDir } = options
  const programs = [hypervisor[0], virtiofsd[0], ...Object.values(payload ?? {})]
  return discreet(driver, { places: [folder, runFolder, dataDir, imageDir, ...programs], warn })

  async function checks({ id, signal }: Task<T>): Promise<readonly HealthCheck[]> {
    const record = await store.read(id)
    if (record === undefined) {
      return [{ name: 'machine', ok: false, message: 'there is no machine' }]
    }
    const state = await machines.state(id, signal).catch((error) => messageOf(error))
    const machine: HealthCheck = {
      name: 'machine',
      ok: state === 'Running' || state === 'Paused',
      message: `the machine is ${state ?? 'gone'}`,
      ...(record.hypervisor && { evidence: `process ${record.hypervisor.pid}` }),
    }
    const cards = record.taps.map(async (name): Promise<HealthCheck> => {
      const link = await findLink(host.until(signal), name)
      const ok = link?.master !== undefined
      const message = ok ? `it is on bridge ${link?.master}` : 'it is on no bridge'
      return { name: `network card ${name}`, ok, message }
    })
    return [machine, ...(await Promise.all(cards))]
  }
}

/** §4.3 */
function resultOf(type: MachineType, id: string, ip: string) {
  const common = { mycelium_ip: '', console_url: '' }
  return type === 'zmachine' ? { id, ip, planetary_ip: '', ...common } : { id, ip, ...common }
}

/** What was thrown as a driver's error, with what was known when it failed. */
function withData(thrown: unknown, data: unknown): DriverError {
  if (thrown instanceof DriverError) {
    if (data === undefined || thrown.data !== undefined) return thrown
    return new DriverError(thrown.kind, thrown.message, { cause: thrown.cause, data })
  }
  const interrupted = thrown instanceof Error && /^(Abort|Timeout)Error$/.test(thrown.name)
  const kind = interrupted || isMachineApiError(thrown, 'SILENT') ? 'transient' : 'failed'
  return new DriverError(kind, messageOf(thrown), { cause: thrown, data })
}
