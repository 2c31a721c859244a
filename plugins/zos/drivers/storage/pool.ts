import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import { DriverError } from '../driver.ts'
import { found, namesIn } from './folders.ts'
import { PRIVATE } from './modes.ts'

/** As the reference says it, whatever the disks are made of (vectors `changes.json`). */
export const NO_SPACE = 'not enough space left in pools of this type ssd'

/** Bytes that are promised in an lstat's unit. */
const BLOCK = 512n

/** The folder with all disks and volumes, and how much of its file system is still to be given. */
export interface Pool {
  readonly dataDir: string
  /** Bytes that nothing has, and nothing was promised. */
  free(): Promise<bigint>
  /**
   * Runs work that takes space, one at a time, after a look at whether there is enough.
   *
   * @throws {DriverError} {@link NO_SPACE}
   */
  take<T>(bytes: bigint, work: () => Promise<T>, options?: TakeOptions): Promise<T>
  /** Counts what somebody else promised and did not give yet, in bytes. */
  alsoPromised(source: () => Promise<bigint>): void
}

export interface TakeOptions {
  /** `result.data` of the error. */
  readonly data?: unknown
  /** Default `failed`. */
  readonly kind?: DriverError['kind']
}

export interface PoolOptions {
  /** Absolute; made when it is not there, with mode 0700. */
  readonly dataDir: string
  /** Promises more than there is; default false. */
  readonly overcommit?: boolean | undefined
  /** Free bytes of the file system; default: what statfs(2) says an ordinary user may have. */
  readonly freeBytes?: (folder: string) => Promise<bigint>
}

/**
 * One for all drivers that keep files in a data folder: what one of them promised, another must not.
 *
 * Disks are sparse files, so what they do not fill yet is still free for the file system, but not for
 * the next disk. Volumes say themselves what they may still hold.
 */
export function createPool(options: PoolOptions): Pool {
  const { dataDir, overcommit = false, freeBytes = freeOf } = options
  let last: Promise<unknown> = Promise.resolve()
  const others: (() => Promise<bigint>)[] = []
  const free = async () => {
    makeFolder(dataDir, PRIVATE)
    let left = (await freeBytes(dataDir)) - (await unwritten(join(dataDir, 'vdisks')))
    for (const promised of others) left -= await promised()
    return left
  }
  return {
    dataDir,
    free,
    alsoPromised: (source) => void others.push(source),
    take(bytes, work, { data, kind = 'failed' } = {}) {
      const next = last.then(async () => {
        // What no file can be.
        const absurd = bytes > BigInt(Number.MAX_SAFE_INTEGER)
        if (absurd || (!overcommit && bytes > (await free()))) {
          throw new DriverError(kind, NO_SPACE, { data })
        }
        return work()
      })
      last = next.catch(() => undefined)
      return next
    },
  }
}

async function freeOf(folder: string): Promise<bigint> {
  const { bavail, bsize } = await statfs(folder, { bigint: true })
  return bavail * bsize
}

/** Bytes of disks that have no room on the file system yet. */
async function unwritten(folder: string): Promise<bigint> {
  let total = 0n
  for (const name of await namesIn(folder)) {
    const file = await found(join(folder, name))
    if (!file?.isFile()) continue
    const missing = file.size - file.blocks * BLOCK
    if (missing > 0n) total += missing
  }
  return total
}
