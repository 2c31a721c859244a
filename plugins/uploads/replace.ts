import type { BigIntStats } from 'node:fs'
import { constants } from 'node:fs'
import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errnoOf } from '../../src/errors.ts'
import { syncDirectory, temporaryBeside } from '../../src/files/atomic-file.ts'
import { copy } from './chunks.ts'
import type { Owner } from './owner.ts'
import { moved, sameFile, type Target } from './target.ts'

/** What rename says of a mount point, another file system, a sticky or a read-only folder. */
const CANNOT_RENAME = new Set(['EBUSY', 'EXDEV', 'EPERM', 'EACCES', 'EROFS'])

/** New content on its way to a target. */
export interface Staged {
  readonly path: string
  readonly handle: FileHandle
  /** In the target's folder, so that a rename can publish it. */
  readonly beside: boolean
}

/** What the configuration wants of a file; undefined keeps what the old one has. */
export interface Attributes {
  /** Permission bits; a file that is new gets what the umask leaves of 0644. */
  readonly mode: number | undefined
  readonly owner: Owner | undefined
}

/**
 * Opens an empty temporary file for new content: beside the target, or, where the target can be
 * written but its folder cannot, in the plugin's own folder.
 *
 * @throws {Error} The system error.
 */
export async function stage(
  target: Target,
  attributes: Attributes,
  spool: string,
): Promise<Staged> {
  // Private until it has the old file's mode; the umask's share can only be had from open(2).
  const fresh = target.existing === undefined && attributes.mode === undefined
  const path = temporaryBeside(target.path)
  try {
    return { path, handle: await open(path, 'wx+', fresh ? 0o644 : 0o600), beside: true }
  } catch (error) {
    if (!target.existing || !CANNOT_RENAME.has(errnoOf(error) ?? '')) throw error
  }
  const spooled = temporaryBeside(spool)
  return { path: spooled, handle: await open(spooled, 'wx+', 0o600), beside: false }
}

/** Removes what {@link stage} made, unless it was published. */
export async function discard(staged: Staged): Promise<void> {
  await staged.handle.close()
  await rm(staged.path, { force: true })
}

/**
 * Puts staged content in the target's place by a rename: whoever opens the path, or starts after a
 * crash, finds the old or the new content. Where a rename is impossible (a mount point) or would
 * show (another hard link, an owner that only root may give), the old file is overwritten.
 *
 * @returns Whether it was a rename, and so atomic.
 * @throws {Error} The system error.
 */
export async function publish(
  staged: Staged,
  target: Target,
  attributes: Attributes,
  name: string,
): Promise<boolean> {
  const { existing } = target
  const renamable = staged.beside && (existing?.nlink ?? 1n) === 1n
  if (renamable && (await inherit(staged.handle, existing, attributes))) {
    await staged.handle.sync()
    if (await renamed(staged.path, target)) {
      await assertIs(staged.handle, target.path, name)
      await syncFolder(dirname(target.path))
      return true
    }
  }
  await overwrite(staged.handle, target, attributes, name)
  return false
}

async function renamed(from: string, { path, existing }: Target): Promise<boolean> {
  try {
    await rename(from, path)
    return true
  } catch (error) {
    if (existing && CANNOT_RENAME.has(errnoOf(error) ?? '')) return false
    throw error
  }
}

/**
 * Gives a file the configured owner and mode, or else its predecessor's.
 *
 * @returns False where the predecessor's owner is one that only root may give.
 */
async function inherit(
  handle: FileHandle,
  existing: BigIntStats | undefined,
  { mode, owner }: Attributes,
): Promise<boolean> {
  const now = await handle.stat({ bigint: true })
  const uid = owner?.uid ?? Number(existing?.uid ?? now.uid)
  const gid = owner && owner.gid !== -1 ? owner.gid : Number(existing?.gid ?? now.gid)
  if (uid !== Number(now.uid) || gid !== Number(now.gid)) {
    try {
      await handle.chown(uid, gid)
    } catch (error) {
      if (!owner && errnoOf(error) === 'EPERM') return false
      throw error
    }
  }
  // After the owner: chown(2) clears the set-user-ID bit.
  const bits = mode ?? (existing && Number(existing.mode & 0o7777n))
  if (bits !== undefined) await handle.chmod(bits)
  return true
}

/**
 * Overwrites a file in place. What lies beyond the old end is written first: on a full disk the
 * file is cut back to what it was, and from then on nothing needs new space.
 */
async function overwrite(
  from: FileHandle,
  { path, existing }: Target,
  { mode, owner }: Attributes,
  name: string,
): Promise<void> {
  const handle = await open(path, constants.O_WRONLY | constants.O_NOFOLLOW)
  try {
    const found = await handle.stat({ bigint: true })
    if (!existing || !sameFile(found, existing)) throw moved(name, path)
    // Before the content: a refused owner leaves the file as it was.
    if (owner) await handle.chown(owner.uid, owner.gid)
    if (mode !== undefined) await handle.chmod(mode)
    const before = Number(found.size)
    const after = Number((await from.stat()).size)
    try {
      await copy(from, handle, { range: { start: before, end: after } })
      await handle.sync()
    } catch (error) {
      await handle.truncate(before)
      throw error
    }
    await copy(from, handle, { range: { start: 0, end: Math.min(before, after) } })
    await handle.truncate(after)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** A folder that was exchanged during the rename is noticed here. */
async function assertIs(handle: FileHandle, path: string, name: string): Promise<void> {
  const [wanted, found] = await Promise.all([
    handle.stat({ bigint: true }),
    lstat(path, { bigint: true }),
  ])
  if (!sameFile(wanted, found)) throw moved(name, path)
}

/** A folder one may write but not read cannot be opened, and so not be synced. */
async function syncFolder(folder: string): Promise<void> {
  try {
    await syncDirectory(folder)
  } catch (error) {
    if (errnoOf(error) !== 'EACCES') throw error
  }
}
