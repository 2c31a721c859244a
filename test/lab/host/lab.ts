import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/** The project's root. */
export const PROJECT = resolve(import.meta.dirname, '../../..')

/** The lab's part of the project. */
export const SOURCES = join(PROJECT, 'test/lab')

/** Where the lab keeps what it fetched and built, unless told otherwise. */
export function defaultFolder(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'cvmd-lab')
}

/**
 * A folder made once and kept: `make` fills a temporary one, which gets its name only when
 * complete, so that an interrupted run leaves nothing half done.
 */
export function once(folder: string, make: (into: string) => void): string {
  if (existsSync(folder)) return folder
  const part = `${folder}.part`
  rmSync(part, { recursive: true, force: true })
  mkdirSync(part, { recursive: true })
  make(part)
  renameSync(part, folder)
  return folder
}

/** Sixteen hex digits that change with any file of a folder. */
export function digestOf(folder: string): string {
  const hash = createHash('sha256')
  for (const name of readdirSync(folder).sort()) {
    hash.update(`${name}\0`).update(readFileSync(join(folder, name)))
  }
  return hash.digest('hex').slice(0, 16)
}
