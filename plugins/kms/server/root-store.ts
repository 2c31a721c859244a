import { join } from 'node:path'
import * as v from 'valibot'
import { sameBytes } from '../../../src/attest/hex.ts'
import { errnoOf } from '../../../src/errors.ts'
import { syncDirectory } from '../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../src/files/make-folder.ts'
import type { RootKeys } from '../derivation/kms-keys.ts'
import { parseJson } from '../policy/json.ts'
import {
  CURRENT,
  isRootFile,
  isSecretFile,
  MAX_ROOT_VERSION,
  PENDING,
  ROOT_FILES,
  type RootFileName,
  versionFile,
} from './root-file-names.ts'
import { type RootFileContents, readRootFiles, writeRootFiles } from './root-files.ts'
import {
  DURABLE,
  incomplete,
  RootStoreError,
  readRootFile,
  removeRootLeftOvers,
  rootFilesIn,
  type StoreSteps,
  unusable,
} from './root-folder.ts'
import type { RootMaterial } from './root-material.ts'
import { clusterOf, writeCurrent, writeVersionFile } from './version-file.ts'

export { RootStoreError, type StoreSteps } from './root-folder.ts'

const Pending = v.object({ files: v.array(v.tuple([v.string(), v.string()])) })

/**
 * The root keys of version 0 in a folder; see `openRoots` for those of all versions.
 *
 * What it finds: no file means no keys yet. `root-keys.pending` means that the process which wrote
 * them ended too early; the rest is written now. All files mean keys, with `bootstrap-info.json`
 * where they were made here. Anything else means files were lost: nothing is made up for them.
 *
 * @returns Undefined where there are none.
 * @throws {RootStoreError} `ROOT_KEYS_INCOMPLETE`, `ROOT_KEYS_UNUSABLE`.
 * @throws {Error} The system error.
 */
export async function openRootKeys(
  folder: string,
  steps: StoreSteps = DURABLE,
): Promise<RootMaterial | undefined> {
  await removeRootLeftOvers(folder, [PENDING])
  await finish(folder, steps)
  const present = await rootFilesIn(folder)
  if (present.length === 0) return undefined
  const missing = ROOT_FILES.filter((file) => file.required && !present.includes(file.name))
  if (missing.length > 0) {
    const names = missing.map(({ name }) => name)
    throw incomplete(folder, names, present)
  }
  return unusable(folder, async () => {
    const names = ROOT_FILES.map(({ name }) => name).filter((name) => present.includes(name))
    const contents = names.map(async (name) => [name, await readRootFile(folder, name)] as const)
    return readRootFiles(new Map(await Promise.all(contents)))
  })
}

/**
 * Writes root keys for good. The folder is made, for its owner alone, where there is none.
 *
 * @param later Keys of the versions above 0, in order: all or none of them are written.
 * @param current The version that is the current one.
 * @throws {RangeError} For versions that do not follow each other from 1 on.
 * @throws {RootStoreError} `ROOT_KEYS_EXIST` when any file of any root keys is there already.
 * @throws {Error} The system error; once the keys are in the folder, the next
 *   {@link openRootKeys} writes what is missing.
 */
export async function createRootKeys(
  folder: string,
  material: RootMaterial,
  later: readonly RootKeys[] = [],
  steps: StoreSteps = DURABLE,
  current = 0,
): Promise<void> {
  assertInOrder(later, current)
  makeFolder(folder, 0o700)
  await refuseExisting(folder)
  const pending = join(folder, PENDING)
  const bytes = Buffer.from(writePending(contentsOf(material, later, current)))
  try {
    await steps.create(pending, bytes, 0o600)
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') throw alreadyThere(PENDING)
    throw error
  } finally {
    bytes.fill(0)
  }
  try {
    // Another process may have begun and ended since they were looked for.
    await refuseExisting(folder)
  } catch (error) {
    await steps.remove(pending)
    throw error
  }
  await finish(folder, steps)
}

function contentsOf(
  material: RootMaterial,
  later: readonly RootKeys[],
  current: number,
): RootFileContents {
  const cluster = clusterOf(material.root)
  return new Map([
    ...writeRootFiles(material),
    ...later.map((root) => [versionFile(root.version), writeVersionFile(root, cluster)] as const),
    ...(current === 0 ? [] : [[CURRENT, writeCurrent(current)] as const]),
  ])
}

function assertInOrder(later: readonly RootKeys[], current: number): void {
  const found = later.map(({ version }) => version)
  const inOrder = found.every((version, i) => version === i + 1)
  if (inOrder && found.length <= MAX_ROOT_VERSION && [0, ...found].includes(current)) return
  throw new RangeError(
    `Cannot write root keys: versions ${found.join(', ') || 'none'}, of which ${current} is to be ` +
      `the current one; expected 1 and what follows it, up to ${MAX_ROOT_VERSION}`,
  )
}

/** Writes what an earlier process did not get to, and forgets what is left to do. */
async function finish(folder: string, steps: StoreSteps): Promise<void> {
  const files = await pendingIn(folder)
  if (!files) return
  for (const [name, bytes] of files) {
    const mode = isSecretFile(name) ? 0o600 : 0o644
    await steps.create(join(folder, name), bytes, mode).catch(async (error) => {
      if (errnoOf(error) !== 'EEXIST') throw error
      if (sameBytes(await readRootFile(folder, name), bytes)) return
      const message = `Cannot use the root keys in "${folder}": ${name} is not of those in ${PENDING}`
      throw new RootStoreError('ROOT_KEYS_UNUSABLE', message)
    })
    if (isSecretFile(name)) bytes.fill(0)
  }
  await steps.remove(join(folder, PENDING))
  await syncDirectory(folder)
}

function pendingIn(folder: string): Promise<RootFileContents | undefined> {
  return unusable(folder, async () => {
    const bytes = await readRootFile(folder, PENDING).catch((error) => {
      if (errnoOf(error) === 'ENOENT') return undefined
      throw error
    })
    return bytes && readPending(bytes)
  })
}

async function refuseExisting(folder: string): Promise<void> {
  const [first] = await rootFilesIn(folder)
  if (first !== undefined) throw alreadyThere(first)
}

function alreadyThere(name: string): RootStoreError {
  const message = `KMS has already been bootstrapped: there is ${name}`
  return new RootStoreError('ROOT_KEYS_EXIST', message)
}

function writePending(contents: RootFileContents): string {
  const files = [...contents].map(([name, bytes]): [string, string] => {
    return [name, Buffer.from(bytes).toString('base64')]
  })
  return JSON.stringify({ files } satisfies v.InferOutput<typeof Pending>)
}

function readPending(bytes: Uint8Array): RootFileContents {
  const { files } = parseJson(Pending, new TextDecoder().decode(bytes))
  bytes.fill(0)
  const entries = files.map(([name, content]): [RootFileName, Uint8Array] => {
    if (!isRootFile(name)) throw new Error(`${PENDING} names a file that is none of the root keys'`)
    const decoded = Buffer.from(content, 'base64')
    const own = new Uint8Array(decoded)
    // Buffers share their memory with others, and this one holds a key.
    decoded.fill(0)
    return [name, own]
  })
  return new Map(entries)
}
