import { constants } from 'node:fs'
import { open, readdir, rm, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../../src/errors.ts'
import type { LockFolders } from './folders.ts'
import { identityOf, isMark, LOCK_CONTENT, LOCK_MODE, look, SUPERVISOR_UID } from './lock-file.ts'
import { LOCK_NAMES } from './names.ts'

/**
 * Removes the locks that an earlier process left when it was killed: those that have a mark, and
 * those that balena's own supervisor made (its owner, mode and content). To be called while
 * nothing is locked.
 *
 * An app that runs as uid 65534 and locks with lockfile(1) makes the same as balena's supervisor,
 * and loses its lock here, as it does there (spec §8.3).
 *
 * @returns What was removed.
 * @throws {Error} The system error.
 */
export async function removeLeftOvers(folders: LockFolders): Promise<string[]> {
  const names = (await readdir(folders.root)).filter(isMark)
  const marks = names.map((name) => join(folders.root, name))
  const ours = new Set<string>()
  for (const mark of marks) {
    const found = await look(mark)
    if (found) ours.add(identityOf(found))
  }
  const removed: string[] = []
  let hidden = false
  for (const path of await lockPaths(folders)) {
    const found = await look(path).catch((error) => {
      // Without root a container can shut us out of its folder; that must not stop the others.
      if (errnoOf(error) !== 'EACCES') throw error
      hidden = true
    })
    if (!found?.isFile()) continue
    if (!ours.has(identityOf(found)) && !(await isBalenas(path))) continue
    await unlink(path)
    removed.push(path)
  }
  // Last: after a crash in between the locks can still be told.
  if (!hidden) for (const mark of marks) await rm(mark, { force: true })
  return removed
}

/** Every place where a lock can be. */
async function lockPaths(folders: LockFolders): Promise<string[]> {
  const paths: string[] = []
  for (const appId of await folders.apps()) {
    for (const service of await folders.services(appId)) {
      for (const name of LOCK_NAMES) paths.push(join(folders.path(appId, service), name))
    }
  }
  return paths
}

async function isBalenas(path: string): Promise<boolean> {
  try {
    // Not blocked by a FIFO that took the file's place.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    const file = await open(path, flags)
    try {
      const { uid, mode, size } = await file.stat()
      if (uid !== SUPERVISOR_UID || (mode & 0o7777) !== LOCK_MODE) return false
      if (size !== LOCK_CONTENT.length) return false
      return (await file.readFile('utf8')) === LOCK_CONTENT
    } finally {
      await file.close()
    }
  } catch (error) {
    // It is not readable for us, or changed just now: then it is not ours to remove.
    if (errnoOf(error) !== undefined) return false
    throw error
  }
}
