import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { removeLeftOvers, TEMPORARY_PREFIX } from '../../../src/files/atomic-file.ts'
import { readSecretFile } from '../agent/secret-file.ts'
import { createFile } from './create-file.ts'
import { isRootFile, isSecretFile, orderOf, type RootFileName } from './root-file-names.ts'

/** Why a folder's root keys are not used. */
export class RootStoreError extends Error {
  override readonly name = 'RootStoreError'
  /**
   * `ROOT_KEYS_EXIST`: there are some, and none are ever overwritten. `ROOT_KEYS_INCOMPLETE`: files
   * are missing that were there. `ROOT_KEYS_UNUSABLE`: damaged, not of one piece, or open to others.
   * `ROOT_VERSION_UNKNOWN`: there is no such version. `ROOT_VERSION_DIFFERS`: keys of the same
   * version are others elsewhere. `ROOT_VERSIONS_FULL`: no more versions are kept.
   */
  readonly code:
    | 'ROOT_KEYS_EXIST'
    | 'ROOT_KEYS_INCOMPLETE'
    | 'ROOT_KEYS_UNUSABLE'
    | 'ROOT_VERSION_UNKNOWN'
    | 'ROOT_VERSION_DIFFERS'
    | 'ROOT_VERSIONS_FULL'

  constructor(code: RootStoreError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** What changes the folder, each step whole or not at all. Tests give one that fails. */
export interface StoreSteps {
  create(path: string, bytes: Uint8Array, mode: 0o600 | 0o644): Promise<void>
  remove(path: string): Promise<void>
}

export const DURABLE: StoreSteps = {
  create: createFile,
  remove: (path) => rm(path, { force: true }),
}

/** Evidence of some kilobytes, in hex, is the largest part of any of them. */
const MAX_FILE_BYTES = 4 * 1024 * 1024

/** Names of the files of root keys in a folder, in the order they are written. */
export async function rootFilesIn(folder: string): Promise<RootFileName[]> {
  const names = await namesIn(folder)
  return names.filter(isRootFile).sort((a, b) => orderOf(a) - orderOf(b))
}

/**
 * Removes what processes that were killed left half written beside files of root keys.
 *
 * @param others Names of further files that are written there.
 */
export async function removeRootLeftOvers(
  folder: string,
  others: readonly string[],
): Promise<void> {
  const found = (await namesIn(folder))
    .filter((name) => name.startsWith(TEMPORARY_PREFIX))
    .map((name) => name.slice(name.indexOf('.', 1) + 1))
    .filter((name) => isRootFile(name) || others.includes(name))
  for (const name of new Set(found)) await removeLeftOvers(join(folder, name))
}

/**
 * Reads one file of the folder, a secret one only if nobody else may.
 *
 * @throws {Error} The system error, or naming the file that is too large or open to others.
 */
export function readRootFile(folder: string, name: string): Promise<Uint8Array> {
  const path = join(folder, name)
  if (isSecretFile(name)) return readSecretFile(path, MAX_FILE_BYTES)
  return readFile(path).then((bytes) => new Uint8Array(bytes))
}

/** Does something with the folder's files; what fails is that they cannot be used. */
export async function unusable<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const message = `Cannot use the root keys in "${folder}": ${messageOf(cause)}`
    throw new RootStoreError('ROOT_KEYS_UNUSABLE', message, { cause })
  }
}

/** Files that were there are lost, as others tell that are there. */
export function incomplete(
  folder: string,
  missing: readonly string[],
  beside: readonly string[],
): RootStoreError {
  return new RootStoreError(
    'ROOT_KEYS_INCOMPLETE',
    `Cannot use the root keys in "${folder}": ${missing.join(', ')} missing beside ` +
      `${beside.join(', ')}; bring back the whole folder from a copy`,
  )
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
