import { randomBytes } from 'node:crypto'
import { type FileHandle, lstat, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** Prefix of every temporary file cvmd makes beside a target, so that left-overs can be found. */
export const TEMPORARY_PREFIX = '.cvmd-'

/**
 * A fresh name for a temporary file beside `path`: same folder, so that rename is atomic. The end
 * of the name is kept, because programs that check a file go by its extension.
 */
export function temporaryBeside(path: string): string {
  return join(dirname(path), `${TEMPORARY_PREFIX}${randomBytes(6).toString('hex')}.${suffix(path)}`)
}

/**
 * Removes the temporary files that an earlier process left beside `path` when it was killed: ours
 * by name, and last written before this process started.
 *
 * @returns What was removed.
 * @throws {Error} The system error when the folder cannot be read, or a file cannot be removed.
 */
export async function removeLeftOvers(path: string): Promise<string[]> {
  const folder = dirname(path)
  const removed: string[] = []
  for (const name of await readdir(folder)) {
    const rest = name.slice(TEMPORARY_PREFIX.length)
    if (!name.startsWith(TEMPORARY_PREFIX) || !/^[0-9a-f]{12}\./.test(rest)) continue
    if (rest.slice(13) !== suffix(path)) continue
    const temporary = join(folder, name)
    // One of this process may just have been renamed to where it belongs.
    const found = await lstat(temporary).catch(() => undefined)
    if (!found || found.mtimeMs >= performance.timeOrigin) continue
    await rm(temporary, { force: true })
    removed.push(temporary)
  }
  return removed
}

/** 64 UTF-16 units are at most 192 bytes: with the prefix well below the 255 of a file name. */
function suffix(path: string): string {
  return basename(path).slice(-64)
}

/** Makes the entries of a folder durable. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/**
 * Replaces a small file so that a crash leaves the old or the new content, never a mix: temporary
 * file in the same folder, fsync, rename, fsync of the folder.
 *
 * @param mode Permission bits of the new file.
 * @throws {Error} The system error; the old file is untouched and the temporary one removed.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  mode = 0o600,
): Promise<void> {
  const temporary = temporaryBeside(path)
  let handle: FileHandle | undefined
  try {
    handle = await open(temporary, 'wx', mode)
    await handle.writeFile(data)
    await handle.chmod(mode)
    await handle.sync()
    await handle.close()
    handle = undefined
    await rename(temporary, path)
  } catch (error) {
    await handle?.close()
    await rm(temporary, { force: true })
    throw error
  }
  await syncDirectory(dirname(path))
}
