import { discreet } from '../discreet.ts'
import type { Driver } from '../driver.ts'
import { type RunTool, runTool } from '../tools.ts'
import { createMounter, type DiskMounting } from './mounter.ts'
import { createPool } from './pool.ts'
import { createVolumeDriver } from './volume.ts'
import { createVolumeKeeper } from './volume-keeper.ts'
import { createZmountDriver } from './zmount.ts'

export interface StorageOptions {
  /** Absolute; disks are in `vdisks` and `mounts` of it, volumes in `volumes`. */
  readonly dataDir: string
  /** Whether machines are containers, which want the files of a disk in a folder. */
  readonly useFolders: boolean
  /** See {@link DiskMounting}; default `auto`. */
  readonly mounting?: DiskMounting | undefined
  /** Gives away more space than there is; default false. */
  readonly overcommit?: boolean | undefined
  readonly run?: RunTool | undefined
  /** Told what a person should look at. */
  readonly warn?: ((text: string) => void) | undefined
}

/** The drivers that keep files, which share what space there is. */
export function createStorageDrivers(options: StorageOptions): {
  readonly zmount: Driver<'zmount'>
  readonly volume: Driver<'volume'>
} {
  const { dataDir, useFolders, mounting, overcommit, run = runTool, warn } = options
  const pool = createPool({ dataDir, overcommit })
  const mounter = createMounter({ run, dataDir, mounting })
  const keeper = createVolumeKeeper(run, dataDir)
  const tell = warn === undefined ? {} : { warn }
  const shown = { places: [dataDir], warn }
  return {
    zmount: discreet(createZmountDriver({ pool, useFolders, mounter, ...tell }), shown),
    volume: discreet(createVolumeDriver({ pool, keeper, ...tell }), shown),
  }
}
