import { randomBytes } from 'node:crypto'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** Prefix of every temporary file cvmd makes beside a target, so that left-overs can be found. */
export const TEMPORARY_PREFIX = '.cvmd-'

/** A fresh name for a temporary file beside `path`: same folder, so that rename is atomic. */
export function temporaryBeside(path: string): string {
  const unique = randomBytes(6).toString('hex')
  return join(dirname(path), `${TEMPORARY_PREFIX}${basename(path).slice(0, 200)}.${unique}`)
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
