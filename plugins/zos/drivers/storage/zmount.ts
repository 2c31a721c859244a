import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../../../../src/errors.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import { isOkay } from '../../model.ts'
import { type Driver, DriverError, type HealthCheck, type Task } from '../driver.ts'
import { vdiskFolder, vdiskPath } from '../names.ts'
import { createDisk, diskSize, growDisk } from './disk-file.ts'
import { fileName, leftOvers, temporaries } from './folders.ts'
import { keepAll } from './keep-all.ts'
import { PRIVATE } from './modes.ts'
import type { Mounter } from './mounter.ts'
import type { Pool } from './pool.ts'

export interface ZmountOptions {
  /** Shared with the other drivers that keep files there. */
  readonly pool: Pool
  /** Whether machines want the files of a disk in a folder, as containers do, not the disk itself. */
  readonly useFolders: boolean
  readonly mounter: Mounter
  /** Told what a person should look at. */
  readonly warn?: (text: string) => void
}

/**
 * Disks as sparse files `vdisks/<id>` of mode 0600, without privileges (spec zos §12.2). For
 * containers, each is formatted at its first use and mounted at `mounts/<id>`; where that is not
 * possible, plain folders stand there, whose size nothing enforces.
 */
export function createZmountDriver(options: ZmountOptions): Driver<'zmount'> {
  return new ZmountDriver(options)
}

class ZmountDriver implements Driver<'zmount'> {
  readonly type = 'zmount'
  readonly name = 'file'
  readonly #pool: Pool
  readonly #dataDir: string
  readonly #useFolders: boolean
  readonly #warn: (text: string) => void
  readonly #mounter: Mounter

  constructor({ pool, useFolders, mounter, warn }: ZmountOptions) {
    this.#pool = pool
    this.#dataDir = pool.dataDir
    this.#useFolders = useFolders
    this.#warn = warn ?? (() => undefined)
    this.#mounter = mounter
  }

  async probe(signal: AbortSignal) {
    try {
      makeFolder(join(this.#dataDir, 'vdisks'), PRIVATE)
      makeFolder(join(this.#dataDir, 'mounts'), PRIVATE)
      await this.#pool.free()
      // Opens and removes a file there.
      const trial = join(this.#dataDir, `trial-${process.pid}`)
      await rm(trial, { force: true })
      await createDisk(trial, 1n)
      await rm(trial)
    } catch (error) {
      const reason = `Cannot keep disks in "${this.#dataDir}": ${messageOf(error)}`
      return { able: false, reason } as const
    }
    const why = this.#useFolders ? await this.#mounter.probe(signal) : undefined
    if (why === undefined) return { able: true } as const
    return { able: true, warning: `The size of disks is not enforced: ${why}` } as const
  }

  async provision(task: Task<'zmount'>): Promise<unknown> {
    const data = { volume_id: task.id }
    const path = this.#path(task.id)
    const { size } = task.workload.data
    await attempt(task.id, data, async () => {
      const there = await diskSize(path)
      if (there === undefined) {
        await this.#pool.take(size, () => createDisk(path, size), { data })
      } else if (there < size) {
        // An update that was interrupted.
        await this.#pool.take(size - there, () => growDisk(path, size), { data })
      }
      await this.#attach(task.id, task.signal)
    })
    return data
  }

  async update(task: Task<'zmount'> & { readonly previous: { readonly size: bigint } }) {
    const { workload, previous } = task
    const { size } = workload.data
    // In the reference this object is not filled yet when it refuses.
    const refuse = (kind: 'unchanged' | 'no-action', why: string): never => {
      throw new DriverError(kind, why, { data: { volume_id: '' } })
    }
    if (size === previous.size) refuse('no-action', 'the disk has this size')
    if (size < previous.size) refuse('unchanged', 'not safe to shrink a disk')
    if (isMounted(task)) refuse('unchanged', 'disk is mounted, please delete the VM first')
    const data = { volume_id: task.id }
    const path = this.#path(task.id)
    await attempt(task.id, data, async () => {
      const there = await diskSize(path)
      if (there === undefined) throw new DriverError('unchanged', 'the disk is gone', { data })
      const grow = () => growDisk(path, size)
      if (there < size) await this.#pool.take(size - there, grow, { data, kind: 'unchanged' })
      await this.#attach(task.id, task.signal)
    })
    return data
  }

  async deprovision(task: Task<'zmount'>): Promise<void> {
    await attempt(task.id, undefined, () => this.#remove(task.id))
  }

  async health(task: Task<'zmount'>): Promise<readonly HealthCheck[]> {
    const path = this.#path(task.id)
    const size = await diskSize(path).catch(() => undefined)
    const whole = size !== undefined && size >= task.workload.data.size
    const message = size === undefined ? 'there is no disk' : `the disk has ${size} bytes`
    const checks: HealthCheck[] = [{ name: 'disk', ok: whole, message, evidence: path }]
    if (this.#useFolders) {
      const folder = vdiskFolder(this.#dataDir, task.id)
      const ok = await this.#mounter.attached(folder).catch(() => false)
      const where = ok ? 'its files are in place' : 'its files are not in place'
      checks.push({ name: 'files', ok, message: where, evidence: folder })
    }
    return checks
  }

  async sweep(wanted: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const disks = join(this.#dataDir, 'vdisks')
    for (const path of await temporaries(disks)) await rm(path, { force: true })
    const gone = new Set([
      ...(await leftOvers(disks, wanted)),
      ...(await leftOvers(join(this.#dataDir, 'mounts'), wanted)),
    ])
    if (keepAll(wanted, [...gone], this.#dataDir, this.#warn)) return
    for (const id of gone) {
      if (signal.aborted) return
      await this.#remove(id).catch((error) => {
        this.#warn(`Cannot remove left-over disk ${id}: ${messageOf(error)}`)
      })
    }
  }

  async #attach(id: string, signal: AbortSignal): Promise<void> {
    if (!this.#useFolders) return
    await this.#mounter.attach(this.#path(id), vdiskFolder(this.#dataDir, id), signal)
  }

  async #remove(id: string): Promise<void> {
    const path = this.#path(id)
    // Also where folders are not used any more: a mount outlives a change of the configuration.
    await this.#mounter.detach(vdiskFolder(this.#dataDir, id))
    await rm(path, { force: true })
  }

  #path(id: string): string {
    return vdiskPath(this.#dataDir, fileName(id))
  }
}

/** Whether a machine that runs, or will when its pause ends, has the disk. */
function isMounted({ workload: { name }, deployment, resultOf }: Task<'zmount'>): boolean {
  return deployment.workloads.some((machine) => {
    if (machine.type !== 'zmachine' && machine.type !== 'zmachine-light') return false
    const result = resultOf(machine.name)
    return result && isOkay(result) && machine.data.mounts.some((mount) => mount.name === name)
  })
}

/** Everything that is not said yet becomes a {@link DriverError}. */
async function attempt(id: string, data: unknown, work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (cause) {
    if (cause instanceof DriverError) throw cause
    const message = `Cannot keep disk ${id}: ${messageOf(cause)}`
    throw new DriverError('failed', message, { cause, data })
  }
}
