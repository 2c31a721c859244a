import { randomBytes } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { link, lstat, open, rm, rmdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../../src/errors.ts'
import { TEMPORARY_PREFIX } from '../../../src/files/atomic-file.ts'

/** The owner that tells a container, and balena's own tools, whose lock it is (spec §8.3). */
export const SUPERVISOR_UID = 65_534

/** What procmail's lockfile(1) makes: mode and content (spec §8.3). */
export const LOCK_MODE = 0o444
export const LOCK_CONTENT = '0'

/** Names of marks in the root; see {@link HeldFile}. */
const MARK = /^\.cvmd-[0-9a-f]{12}\.lock$/

/** How often a foreign lock that comes back is removed again. */
const FORCE_ATTEMPTS = 3

/** A lock file that is ours. */
export interface HeldFile {
  readonly path: string
  /**
   * A second name of the same file, in the root, where no container sees it. It outlives a crash
   * and so proves later that the lock was ours, whoever owns it.
   */
  readonly mark: string
  /** Tells the file from one that somebody put in its place. */
  readonly identity: string
}

/** Whether a file in the root is a mark. */
export function isMark(name: string): boolean {
  return MARK.test(name)
}

/** What tells one file from another while it exists. */
export function identityOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`
}

/** What is at a path, no link followed; undefined when nothing is. */
export async function look(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/**
 * Takes a lock if it is free. The file is made whole under its mark and gets its name by link(2),
 * which follows no link and replaces nothing.
 *
 * @param owner Numeric owner to give it; undefined leaves it ours.
 * @returns Undefined when anything has that name.
 * @throws {Error} The system error.
 */
export async function takeFile(
  root: string,
  path: string,
  owner: number | undefined,
): Promise<HeldFile | undefined> {
  const mark = join(root, `${TEMPORARY_PREFIX}${randomBytes(6).toString('hex')}.lock`)
  const identity = await makeMark(mark, owner)
  try {
    await link(mark, path)
    return { path, mark, identity }
  } catch (error) {
    await rm(mark, { force: true })
    if (errnoOf(error) === 'EEXIST') return undefined
    throw error
  }
}

/** Takes a lock, removing one that is in the way. As {@link takeFile}. */
export async function forceFile(
  root: string,
  path: string,
  owner: number | undefined,
): Promise<HeldFile | undefined> {
  for (let attempt = 1; ; attempt++) {
    const held = await takeFile(root, path, owner)
    if (held || attempt > FORCE_ATTEMPTS || !(await removeForeign(path))) return held
  }
}

/**
 * Gives a lock back. What an app put in its place meanwhile stays.
 *
 * @throws {Error} The system error.
 */
export async function releaseFile({ path, mark, identity }: HeldFile): Promise<void> {
  const found = await look(path)
  // Its folder may go in the same moment, with the app.
  if (found && identityOf(found) === identity) await rm(path, { force: true })
  await rm(mark, { force: true })
}

/** Removes a file, a link itself, or an empty folder; false when it is a folder with content. */
async function removeForeign(path: string): Promise<boolean> {
  try {
    const found = await look(path)
    if (found?.isDirectory()) await rmdir(path)
    else if (found) await unlink(path)
    return true
  } catch (error) {
    const code = errnoOf(error) ?? ''
    if (['ENOTEMPTY', 'EEXIST', 'EBUSY'].includes(code)) return false
    // It changed from one to the other in between: look again.
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(code)) return true
    throw error
  }
}

async function makeMark(mark: string, owner: number | undefined): Promise<string> {
  const file = await open(mark, 'wx', LOCK_MODE)
  try {
    await file.writeFile(LOCK_CONTENT)
    if (owner !== undefined) await file.chown(owner, owner)
    await file.chmod(LOCK_MODE)
    return identityOf(await file.stat({ bigint: true }))
  } catch (error) {
    await rm(mark, { force: true })
    throw error
  } finally {
    await file.close()
  }
}
