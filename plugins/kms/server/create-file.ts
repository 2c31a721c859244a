import { link, open, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { syncDirectory, temporaryBeside } from '../../../src/files/atomic-file.ts'

/**
 * Makes a small file that must not be there yet, so that a crash leaves the whole or none of it: a
 * temporary file in the same folder gets its name by a hard link, which unlike a rename takes no
 * other file's place.
 *
 * @param mode Permission bits.
 * @throws {Error} The system error; `EEXIST` when there is a file of that name.
 */
export async function createFile(
  path: string,
  bytes: Uint8Array,
  mode: 0o600 | 0o644,
): Promise<void> {
  const temporary = temporaryBeside(path)
  try {
    const file = await open(temporary, 'wx', mode)
    try {
      await file.writeFile(bytes)
      await file.chmod(mode)
      await file.sync()
    } finally {
      await file.close()
    }
    await link(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
  await syncDirectory(dirname(path))
}
