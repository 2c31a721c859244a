import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'

/**
 * A word that marks what is this daemon's on an engine that others use too; made once and kept.
 *
 * @throws {Error} The system error when it can be neither read nor written.
 */
export async function ownerOf(stateDir: string): Promise<string> {
  const path = join(stateDir, 'owner')
  const kept = await readFile(path, 'utf8').catch(() => '')
  if (/^[0-9a-f]{16}\n$/.test(kept)) return kept.trim()
  const made = randomBytes(8).toString('hex')
  await writeFileAtomic(path, `${made}\n`)
  return made
}
