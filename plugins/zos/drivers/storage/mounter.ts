import { dirname } from 'node:path'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import { DriverError } from '../driver.ts'
import type { RunTool } from '../tools.ts'
import { contentOf } from './file-system.ts'
import { found } from './folders.ts'
import { LoopMounts } from './loop-mounts.ts'
import { PRIVATE, VISIBLE } from './modes.ts'

/** Brings the files of a disk to where containers find them. */
export interface Mounter {
  /** Whether disks are really mounted, so that their size holds; else why not. Never throws. */
  probe(signal?: AbortSignal): Promise<string | undefined>
  /**
   * Makes the files of a disk be at a folder, formatting a blank disk and letting its file system
   * grow with the file. When they are there already, nothing changes.
   *
   * @param file The disk: a regular file.
   * @param folder Made when it is not there.
   * @throws {DriverError}
   */
  attach(file: string, folder: string, signal?: AbortSignal): Promise<void>
  /** Takes them away and removes the folder; what is not there is no error. */
  detach(folder: string): Promise<void>
  /** Whether they are there. */
  attached(folder: string): Promise<boolean>
}

/**
 * How the files of a disk get to containers. `auto`: mounted where that works, plain folders where it
 * does not. `folder`: always plain folders, as where the container engine would not see the mounts.
 */
export type DiskMounting = 'auto' | 'folder'

export interface MounterOptions {
  readonly run: RunTool
  /** Where mounting is tried out. */
  readonly dataDir: string
  /** Default `auto`. */
  readonly mounting?: DiskMounting | undefined
}

/** The {@link Mounter} of this host; what it can do is tried out once, when it is first asked. */
export function createMounter({ run, dataDir, mounting = 'auto' }: MounterOptions): Mounter {
  const mounts = new LoopMounts(run, dataDir)
  let tried: string | true | undefined
  const probe = async (signal?: AbortSignal): Promise<string | undefined> => {
    if (mounting === 'folder') return 'plain folders are configured'
    if (tried === undefined) {
      const why = await mounts.probe(signal)
      if (signal?.aborted) return why
      tried = why ?? true
    }
    return tried === true ? undefined : tried
  }
  return {
    probe,
    async attach(file, folder, signal) {
      if (await mounts.mounted(folder)) return mounts.attach(file, folder, signal)
      const why = await probe()
      return why === undefined ? mounts.attach(file, folder, signal) : plain(file, folder, why)
    },
    // What stands there may be from before the host, or its configuration, changed.
    detach: (folder) => mounts.detach(folder),
    async attached(folder) {
      return (
        (await mounts.mounted(folder)) ||
        ((await probe()) !== undefined && (await isFolder(folder)))
      )
    },
  }
}

/** A plain folder stands for the disk, whose size nothing enforces. */
async function plain(file: string, folder: string, why: string): Promise<void> {
  if ((await contentOf(file)).kind !== 'blank') {
    // An empty folder would look as if the files were lost.
    throw new DriverError(
      'transient',
      `Cannot use disk "${file}": its files are inside, and it cannot be mounted: ${why}`,
    )
  }
  makeFolder(dirname(folder), PRIVATE)
  makeFolder(folder, VISIBLE)
}

async function isFolder(path: string): Promise<boolean> {
  return (await found(path))?.isDirectory() ?? false
}
