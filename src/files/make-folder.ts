import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { errnoOf } from '../errors.ts'

/**
 * Makes a folder and those above it; one that is there already is left as it is.
 *
 * Stands in for the `recursive` option, with which Node 20 never returns where the kernel answers
 * ENOENT although the parent exists (as below /proc).
 *
 * @param mode Permission bits of the folders that are made, under the umask.
 * @throws {Error} The system error.
 */
export function makeFolder(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    const code = errnoOf(error)
    if (code === 'EEXIST' && statSync(path).isDirectory()) return
    const parent = dirname(path)
    const orphan = code === 'ENOENT' && !statSync(parent, { throwIfNoEntry: false })
    if (!orphan || parent === path) throw error
    makeFolder(parent, mode)
    mkdirSync(path, { mode })
  }
}
