import { readlink, rename, rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf, messageOf } from '../../../../src/errors.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import { DriverError } from '../driver.ts'
import type { HostCommands } from '../host-commands.ts'
import { removeLink } from '../network-host/links.ts'
import { isMachineApiError, type MachineApi, machineApi, type VmState } from './api.ts'
import type { Asked } from './asked.ts'
import { seedImage } from './cloud-init.ts'
import { endHypervisor, TERM_MS } from './end-hypervisor.ts'
import { endLasting, type LastingProcess, startLasting } from './lasting-process.ts'
import type {
  MachineFiles,
  MachineRecord,
  MachineStore,
  MachineType,
  ProcessMark,
} from './machine-files.ts'
import { makeRootDisk, type RootImageOptions } from './root-image.ts'
import { lastLogLines } from './serial-log.ts'
import { macOf, makeTap } from './taps.ts'
import { oldProblem } from './versions.ts'
import { NO_PAYLOAD, type VmPayload, vmConfig } from './vm-config.ts'

export interface MachinesOptions extends RootImageOptions {
  readonly type: MachineType
  readonly store: MachineStore
  readonly host: HostCommands
  /** Program of the hypervisor. */
  readonly hypervisor: readonly string[]
  readonly virtiofsd: readonly string[]
  readonly payload: VmPayload | undefined
  /** For a machine to switch itself off before it is switched off. */
  readonly graceMs: number
  readonly quickMs?: number | undefined
}

/** What the work for one task may tell, and what ends it. */
export interface Progress {
  progress(text: string): void
  readonly signal: AbortSignal
}

/** For a hypervisor to listen, and for virtiofsd. */
const START_MS = 15_000
const POLL_MS = 50

/** The machines of one type on this host: a process each, that outlives the daemon. */
export class Machines {
  readonly #options: MachinesOptions

  constructor(options: MachinesOptions) {
    this.#options = options
  }

  api(id: string): MachineApi {
    const { store, quickMs } = this.#options
    return machineApi({ socketPath: store.files(id).socket, quickMs })
  }

  /**
   * How a machine is.
   *
   * @returns Undefined when it has no process, or one without a machine in it.
   * @throws {MachineApiError} When it does not answer as it should.
   */
  async state(id: string, signal?: AbortSignal): Promise<VmState | undefined> {
    try {
      return await this.api(id).state(signal)
    } catch (error) {
      if (isMachineApiError(error, 'GONE')) return undefined
      throw error
    }
  }

  /**
   * Starts a machine that does not run, with the disk it had, or a new one from its image.
   *
   * @param ended Called when its process ends while this daemon runs.
   * @throws {DriverError} Nothing of it runs then.
   */
  async start(asked: Asked, task: Progress, ended: () => void): Promise<void> {
    const { store, type } = this.#options
    const files = store.files(asked.id)
    await this.halt(asked.id, 0)
    const taps = asked.taps.map((tap) => tap.name)
    let record: MachineRecord = { type, taps, shares: [], hypervisor: undefined }
    await store.write(asked.id, record)
    const note = async (more: Partial<MachineRecord>) => {
      record = { ...record, ...more }
      await store.write(asked.id, record)
    }
    try {
      await this.#prepare(asked, files, task)
      for (const [index, { folder }] of asked.shares.entries()) {
        const socket = files.shareSocket(index)
        const argv = [...this.#options.virtiofsd, '--socket-path', socket, '--shared-dir', folder]
        const process = await this.#launch(argv, socket, files)
        await note({ shares: [...record.shares, markOf(process)] })
        await this.#appears(process, socket, task.signal, files)
      }
      await rm(files.socket, { force: true })
      const argv = [...this.#options.hypervisor, '--api-socket', files.socket]
      const process = await this.#launch(argv, files.socket, files)
      await note({ hypervisor: markOf(process) })
      await this.#boot(asked, files, process, task.signal)
      process.onEnd(ended)
      if (process.ended()) ended()
    } catch (error) {
      await this.halt(asked.id, 0).catch(() => {})
      throw failure(error)
    }
  }

  /**
   * Ends the processes of a machine and removes its network cards; its disks stay.
   *
   * @param graceMs For the machine to switch itself off.
   */
  async halt(id: string, graceMs: number): Promise<void> {
    const { store, host } = this.#options
    const record = await store.read(id)
    const files = store.files(id)
    await endHypervisor(this.api(id), record?.hypervisor, graceMs)
    for (const mark of record?.shares ?? []) await endLasting(mark, TERM_MS)
    for (const [index] of (record?.shares ?? []).entries()) {
      await rm(files.shareSocket(index), { force: true })
    }
    await rm(files.socket, { force: true })
    for (const tap of record?.taps ?? []) await removeLink(host, tap)
  }

  /** Removes a machine with its disk. */
  async remove(id: string): Promise<void> {
    await this.halt(id, this.#options.graceMs)
    await this.#options.store.remove(id)
  }

  /** Last lines the machine wrote, or its hypervisor when there are none. */
  async lines(id: string, lines: number, secrets: readonly string[]): Promise<string> {
    const { serialLog, hypervisorLog } = this.#options.store.files(id)
    const text = await lastLogLines(serialLog, lines, secrets)
    return text === '' ? lastLogLines(hypervisorLog, lines, secrets) : text
  }

  /** Everything but the processes. */
  async #prepare(asked: Asked, files: MachineFiles, task: Progress): Promise<void> {
    const { host } = this.#options
    for (const slot of asked.devices) await refuseBound(slot)
    if (!(await exists(files.rootDisk))) {
      await makeRootDisk(asked.image, files.rootDisk, asked.rootSize, this.#options, task)
    }
    await rm(files.seedDisk, { force: true })
    await writeFile(files.seedDisk, seedImage(asked.seed), { mode: 0o600, flag: 'wx' })
    await rm(files.hypervisorLog, { force: true })
    // A new file for each start: who follows the log sees that it is another one.
    await rename(files.serialLog, `${files.serialLog}.1`).catch(ignoreMissing)
    const commands = host.until(task.signal)
    for (const tap of asked.taps) await makeTap(commands, tap)
  }

  async #launch(
    argv: readonly string[],
    socket: string,
    { folder, hypervisorLog }: MachineFiles,
  ): Promise<LastingProcess> {
    makeFolder(folder, 0o700)
    await rm(socket, { force: true })
    try {
      return await startLasting(argv, hypervisorLog)
    } catch (error) {
      const why = errnoOf(error) === 'ENOENT' ? 'it is not installed' : messageOf(error)
      throw new DriverError('failed', `Cannot start "${argv[0]}": ${why}`)
    }
  }

  async #boot(
    asked: Asked,
    files: MachineFiles,
    process: LastingProcess,
    signal: AbortSignal,
  ): Promise<void> {
    const api = this.api(asked.id)
    const version = await this.#answers(api, process, signal, files)
    const problem = oldProblem(version)
    if (problem !== undefined) throw new DriverError('failed', problem)
    const { payload } = this.#options
    if (payload === undefined)
      throw new DriverError('failed', `Cannot start the machine: ${NO_PAYLOAD}`)
    const config = vmConfig({
      cpus: asked.cpus,
      memory: asked.memory,
      payload,
      disks: [
        { path: files.rootDisk, readonly: false },
        ...asked.disks.map((path) => ({ path, readonly: false })),
        { path: files.seedDisk, readonly: true },
      ],
      nics: asked.taps.map(({ name }) => ({ tap: name, mac: macOf(name) })),
      shares: asked.shares.map(({ tag }, index) => ({ tag, socket: files.shareSocket(index) })),
      devices: asked.devices,
      serialLog: files.serialLog,
    })
    try {
      await api.create(config, signal)
      await api.boot(signal)
      const state = await api.state(signal)
      if (state === 'Running') return
      throw new DriverError('failed', `Cannot start the machine: it is ${state ?? 'gone'} at once`)
    } catch (error) {
      signal.throwIfAborted()
      if (!isMachineApiError(error)) throw error
      throw await this.#withLog(`Cannot start the machine: ${messageOf(error)}`, error, files)
    }
  }

  /** Waits until the hypervisor answers; its version. */
  async #answers(
    api: MachineApi,
    process: LastingProcess,
    signal: AbortSignal,
    files: MachineFiles,
  ): Promise<string> {
    const latest = performance.now() + START_MS
    for (;;) {
      try {
        return await api.ping(signal)
      } catch (error) {
        signal.throwIfAborted()
        const waiting = isMachineApiError(error, 'GONE') && !process.ended()
        if (waiting && performance.now() < latest) await sleep(POLL_MS, undefined, { signal })
        else {
          const why = process.ended() ? 'the hypervisor ended at once' : messageOf(error)
          throw await this.#withLog(`Cannot start the machine: ${why}`, error, files)
        }
      }
    }
  }

  /** Waits for the socket of virtiofsd; connecting would use its only connection up. */
  async #appears(
    process: LastingProcess,
    socket: string,
    signal: AbortSignal,
    files: MachineFiles,
  ): Promise<void> {
    const latest = performance.now() + START_MS
    while (!(await exists(socket))) {
      if (process.ended() || performance.now() >= latest) {
        throw await this.#withLog('Cannot share a volume: virtiofsd does not run', undefined, files)
      }
      await sleep(POLL_MS, undefined, { signal })
    }
  }

  /** An error with what the hypervisor said last. It was told no secrets. */
  async #withLog(message: string, cause: unknown, files: MachineFiles): Promise<DriverError> {
    const said = await lastLogLines(files.hypervisorLog, 3, []).catch(() => '')
    const tail = said === '' ? '' : `; it says: ${said.replace(/\s+/g, ' ').slice(0, 500)}`
    return new DriverError('failed', `${message}${tail}`, { cause })
  }
}

function markOf({ pid, started }: ProcessMark): ProcessMark {
  return { pid, started }
}

async function exists(path: string): Promise<boolean> {
  return readlink(path).then(
    () => true,
    (error) => errnoOf(error) === 'EINVAL',
  )
}

/** A device that the host uses cannot be given away. Where /sys is not shown, nobody can tell. */
async function refuseBound(slot: string): Promise<void> {
  const driver = await readlink(`/sys/bus/pci/devices/${slot}/driver`).then(
    basename,
    () => undefined,
  )
  if (driver === undefined || driver === 'vfio-pci') return
  const remedy = 'bind it to vfio-pci'
  throw new DriverError(
    'failed',
    `Cannot pass on device ${slot}: driver "${driver}" of this node has it; ${remedy}`,
  )
}

function failure(error: unknown): unknown {
  if (error instanceof DriverError) return error
  if (isMachineApiError(error)) {
    return new DriverError('failed', `Cannot start the machine: ${messageOf(error)}`, {
      cause: error,
    })
  }
  const errno = errnoOf(error)
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new DriverError('failed', 'Cannot start the machine: no space is left on this node', {
      cause: error,
    })
  }
  return error
}

function ignoreMissing(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error
}
