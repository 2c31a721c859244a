import { copyFile, readdir, readFile, rename, rm, rmdir, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, messageOf } from '../../../../src/errors.ts'
import { syncDirectory, TEMPORARY_PREFIX } from '../../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import type { DeploymentState } from './apply.ts'
import { Journal } from './journal.ts'
import { replay } from './replay.ts'

const TWIN = /^[1-9]\d{0,9}$/
const FILE = /^(\d{1,20})\.jsonl$/
const DAMAGED = /\.jsonl\.damaged-/

/** Journals read at the same time. */
const AT_ONCE = 16

/** Where the journal of a deployment is. */
export function journalPath(stateFolder: string, twinId: number, contractId: bigint): string {
  return join(stateFolder, String(twinId), `${contractId}.jsonl`)
}

/** A deployment that was found. */
export interface Found {
  readonly state: DeploymentState
  readonly journal: Journal
  /** It was repaired: the journal is to be written anew from its state. */
  readonly repaired: boolean
}

export interface FoundAll {
  readonly deployments: readonly Found[]
  /** What could not be read, or only in part; for the log. */
  readonly problems: readonly string[]
  /** Paths of journals that could not be read or moved: they must not be written over. */
  readonly unreadable: ReadonlySet<string>
  /** There are journals that were set aside: nobody knows what all should be here. */
  readonly incomplete: boolean
}

/**
 * Reads all journals below a folder, which is made. One that is damaged is copied aside, so that
 * nothing is lost, and read as far as it goes; one that cannot be read at all is moved aside. The
 * others are not touched by that.
 *
 * @throws {Error} The system error when the folder itself cannot be made or read.
 */
export async function readFolder(stateFolder: string): Promise<FoundAll> {
  makeFolder(stateFolder, 0o700)
  const deployments: Found[] = []
  const problems: string[] = []
  const unreadable = new Set<string>()
  let incomplete = false
  const files: { twin: string; name: string }[] = []
  for (const twin of await readdir(stateFolder)) {
    if (!TWIN.test(twin)) continue
    const names = await list(join(stateFolder, twin), problems)
    // Only the last step of erasing a deployment was missing.
    if (names.length === 0) await rmdir(join(stateFolder, twin)).catch(() => undefined)
    for (const name of names) {
      if (DAMAGED.test(name)) incomplete = true
      if (name.startsWith(TEMPORARY_PREFIX)) {
        await rm(join(stateFolder, twin, name), { force: true }).catch(() => undefined)
      } else if (FILE.test(name)) files.push({ twin, name })
    }
  }
  let next = 0
  const reader = async () => {
    for (let file = files[next++]; file; file = files[next++]) {
      const path = join(stateFolder, file.twin, file.name)
      try {
        const { found, aside } = await open(path)
        if (aside !== undefined) {
          incomplete = true
          problems.push(aside)
        }
        if (found) deployments.push(found)
      } catch (error) {
        unreadable.add(path)
        incomplete = true
        problems.push(`Cannot read the journal "${path}": ${messageOf(error)}`)
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, reader))
  if (incomplete) {
    problems.push(
      `Journals below "${stateFolder}" are set aside (*.damaged-*): nothing that drivers left behind is removed until they are gone`,
    )
  }
  return { deployments, problems, unreadable, incomplete }
}

async function open(path: string): Promise<{ found?: Found; aside?: string }> {
  const { state, size, torn, records, damage } = replay(await readFile(path))
  const broken = damage.length > 0
  if (state === undefined) {
    // A journal begins with a whole record: this one lost it, and nobody knows what runs.
    return { aside: await setAside(path, broken ? damage : ['it has no record'], rename) }
  }
  const { twinId, contractId } = state.header
  if (!path.endsWith(join('/', String(twinId), `${contractId}.jsonl`))) {
    throw new Error(`it is that of deployment ${twinId}-${contractId}`)
  }
  const found = { state, journal: Journal.existing(path, size, records), repaired: broken }
  if (broken) return { found, aside: await setAside(path, damage, copyFile) }
  if (torn > 0) await truncate(path, size)
  return { found }
}

async function setAside(
  path: string,
  damage: readonly string[],
  how: (from: string, to: string) => Promise<void>,
): Promise<string> {
  const aside = `${path}.damaged-${Date.now()}`
  await how(path, aside)
  await syncDirectory(join(path, '..'))
  return `The journal "${path}" is damaged (${damage.join('; ')}); as it was, it is kept in "${aside}"`
}

async function list(folder: string, problems: string[]): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') return []
    problems.push(`Cannot read the folder "${folder}": ${messageOf(error)}`)
    return []
  }
}
