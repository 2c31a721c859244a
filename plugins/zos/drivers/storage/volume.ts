import { join } from 'node:path'
import { messageOf } from '../../../../src/errors.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import { type Driver, DriverError, type HealthCheck, type Task } from '../driver.ts'
import { volumePath } from '../names.ts'
import { fileName, found, leftOvers } from './folders.ts'
import { keepAll } from './keep-all.ts'
import { PRIVATE } from './modes.ts'
import type { Pool } from './pool.ts'
import type { VolumeKeeper } from './volume-keeper.ts'

export interface VolumeOptions {
  /** Shared with the other drivers that keep files there. */
  readonly pool: Pool
  readonly keeper: VolumeKeeper
  /** Told what a person should look at. */
  readonly warn?: (text: string) => void
}

/**
 * Volumes as folders `volumes/<id>` (spec zos §12.2), mode 0755 and owned by the daemon's user, as the
 * container engine makes its own: a program in a container that is not root has to be given its folder
 * by one that is. On btrfs each is a subvolume that cannot hold more than its size.
 */
export function createVolumeDriver({ pool, keeper, warn }: VolumeOptions): Driver<'volume'> {
  const { dataDir } = pool
  const folder = join(dataDir, 'volumes')
  const tell = warn ?? (() => undefined)
  pool.alsoPromised(() => keeper.unused())
  const pathOf = (id: string) => volumePath(dataDir, fileName(id))

  return {
    type: 'volume',
    name: 'folder',

    async probe(signal) {
      try {
        makeFolder(folder, PRIVATE)
        await pool.free()
        const why = await keeper.probe(signal)
        if (why === undefined) return { able: true }
        return { able: true, warning: `The size of volumes is not enforced: ${why}` }
      } catch (error) {
        return { able: false, reason: `Cannot keep volumes in "${dataDir}": ${messageOf(error)}` }
      }
    },

    async provision(task) {
      const path = pathOf(task.id)
      const { size } = task.workload.data
      await attempt(task.id, async () => {
        const there = await isThere(path)
        // An existing one counts with what it holds already.
        if (there) await keeper.limit(path, size)
        else await pool.take(size, () => keeper.create(path, size))
      })
      return { id: task.id }
    },

    async update(task) {
      const path = pathOf(task.id)
      const { size } = task.workload.data
      const old = task.previous.size
      if (size < old) {
        throw new DriverError(
          'failed',
          `cannot shrink volume to be less than provisioned space. old: ${old}, requested: ${size}`,
        )
      }
      await attempt(task.id, async () => {
        if (!(await isThere(path))) throw new DriverError('failed', 'the volume is gone')
        await pool.take(size - old, () => keeper.limit(path, size))
      })
      return { id: task.id }
    },

    async deprovision(task) {
      const path = pathOf(task.id)
      await attempt(task.id, async () => {
        if (await isThere(path)) await keeper.remove(path)
      })
    },

    async health(task): Promise<readonly HealthCheck[]> {
      const path = pathOf(task.id)
      const ok = await isThere(path).catch(() => false)
      const used = ok ? await keeper.used(path).catch(() => undefined) : undefined
      const message = ok
        ? `the volume is there${used === undefined ? '' : ` and holds ${used} bytes`}`
        : 'there is no volume'
      return [{ name: 'folder', ok, message, evidence: path }]
    },

    async sweep(wanted, signal) {
      const gone = await leftOvers(folder, wanted)
      if (keepAll(wanted, gone, dataDir, tell)) return
      for (const id of gone) {
        if (signal.aborted) return
        await keeper.remove(pathOf(id)).catch((error) => {
          tell(`Cannot remove left-over volume ${id}: ${messageOf(error)}`)
        })
      }
    },
  }
}

/** @throws {Error} When something that is no folder is there, such as a link. */
async function isThere(path: string): Promise<boolean> {
  const stats = await found(path)
  if (stats && !stats.isDirectory()) throw new Error(`"${path}" is no folder, remove it`)
  return stats !== undefined
}

async function attempt(id: Task['id'], work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (cause) {
    if (cause instanceof DriverError) throw cause
    throw new DriverError('failed', `Cannot keep volume ${id}: ${messageOf(cause)}`, { cause })
  }
}
