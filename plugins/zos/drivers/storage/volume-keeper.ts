import { chmod, mkdir, rename, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { messageOf } from '../../../../src/errors.ts'
import { temporaryBeside } from '../../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import type { RunTool } from '../tools.ts'
import { found } from './folders.ts'
import { PRIVATE, VISIBLE } from './modes.ts'
import { removeTree } from './remove-tree.ts'

/** Makes folders of a size, as well as the file system can. */
export interface VolumeKeeper {
  /** Whether a size is enforced; else why not. Never throws. */
  probe(signal?: AbortSignal): Promise<string | undefined>
  /** Makes a folder that holds so many bytes at most; a crash leaves it whole or not at all. */
  create(path: string, size: bigint): Promise<void>
  /** Gives an existing folder a size. */
  limit(path: string, size: bigint): Promise<void>
  remove(path: string): Promise<void>
  /** Bytes that a folder holds; undefined where that would have to be counted. */
  used(path: string): Promise<bigint | undefined>
  /** Bytes that existing folders may still take; those without an enforced size count nothing. */
  unused(): Promise<bigint>
}

/** BTRFS_SUPER_MAGIC, include/uapi/linux/magic.h. */
const BTRFS = 0x9123683en

const TRIAL_BYTES = 16n * 1024n * 1024n

/**
 * Subvolumes with a quota where the folder is on btrfs and that works, else plain folders; tried out
 * once, when it is first asked. Existing volumes keep what they are.
 *
 * @param dataDir On the file system that holds the volumes; must be there.
 */
export function createVolumeKeeper(run: RunTool, dataDir: string): VolumeKeeper {
  let tried: string | true | undefined
  const probe = async (signal?: AbortSignal): Promise<string | undefined> => {
    if (tried === undefined) {
      const why = await trySubvolumes(run, dataDir, signal)
      if (signal?.aborted) return why
      tried = why ?? true
    }
    return tried === true ? undefined : tried
  }
  return {
    probe,
    async create(path, size) {
      makeFolder(dirname(path), PRIVATE)
      const temporary = temporaryBeside(path)
      if ((await probe()) !== undefined) await mkdir(temporary, { mode: VISIBLE })
      else await createSubvolume(run, temporary, size)
      await chmod(temporary, VISIBLE)
      await rename(temporary, path)
    },
    async limit(path, size) {
      if ((await probe()) === undefined && (await isSubvolume(path)))
        await limit(run, path, String(size))
    },
    async remove(path) {
      if ((await probe()) === undefined && (await isSubvolume(path)))
        await removeSubvolume(run, path)
      else await removeTree(run, path)
    },
    async used(path) {
      if ((await probe()) !== undefined || !(await isSubvolume(path))) return undefined
      return groups(await run(['btrfs', 'qgroup', 'show', '--raw', '-r', '-F', path]))[0]?.used
    },
    async unused() {
      if ((await probe()) !== undefined) return 0n
      const all = groups(await run(['btrfs', 'qgroup', 'show', '--raw', '-r', dataDir]))
      const left = all.map(({ used, limit = used }) => limit - used)
      return left.reduce((sum, bytes) => (bytes > 0n ? sum + bytes : sum), 0n)
    },
  }
}

async function trySubvolumes(
  run: RunTool,
  dataDir: string,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const trial = join(dataDir, 'trial-volume')
  try {
    if ((await statfs(dataDir, { bigint: true })).type !== BTRFS)
      return 'the file system is not btrfs'
    await run(['btrfs', 'quota', 'enable', dataDir], { signal })
    if (await found(trial)) await removeSubvolume(run, trial)
    await createSubvolume(run, trial, TRIAL_BYTES)
    await removeSubvolume(run, trial)
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

async function createSubvolume(run: RunTool, path: string, size: bigint): Promise<void> {
  await run(['btrfs', 'subvolume', 'create', path])
  try {
    await limit(run, path, String(size))
  } catch (error) {
    await removeSubvolume(run, path)
    throw error
  }
}

/** By the number of its group from outside: in a full subvolume even this would exceed the quota. */
async function limit(run: RunTool, path: string, size: string): Promise<string> {
  const group = `0/${(await run(['btrfs', 'inspect-internal', 'rootid', path])).trim()}`
  await run(['btrfs', 'qgroup', 'limit', size, group, dirname(path)])
  return group
}

async function removeSubvolume(run: RunTool, path: string): Promise<void> {
  // Else the group, which may outlive the volume, would go on to count as a promise.
  const group = await limit(run, path, 'none')
  try {
    await run(['btrfs', 'subvolume', 'delete', path])
  } catch {
    // A machine may have made subvolumes in it; rm(1) removes those as the folders they look like.
    await removeTree(run, path, true)
  }
  // Kernels that clean up later refuse now: an empty group that stays harms nobody.
  await run(['btrfs', 'qgroup', 'destroy', group, dirname(path)]).catch(() => undefined)
}

/** The root of a subvolume has this number, and no plain folder has (BTRFS_FIRST_FREE_OBJECTID). */
async function isSubvolume(path: string): Promise<boolean> {
  return (await found(path))?.ino === 256n
}

/**
 * The table of `btrfs qgroup show --raw -r`: id, referenced, exclusive, limit of the first or `none`,
 * and the path in newer versions.
 */
function groups(table: string): { used: bigint; limit: bigint | undefined }[] {
  return table.split('\n').flatMap((line) => {
    const found = /^\d+\/\d+ +(\d+) +\d+ +(\d+|none)\b/.exec(line.trim())
    if (!found) return []
    const [, used = '0', limit = 'none'] = found
    return [{ used: BigInt(used), limit: limit === 'none' ? undefined : BigInt(limit) }]
  })
}
