import { lstat, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { sameBytes } from '../../../src/attest/hex.ts'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { removeLeftOvers, syncDirectory } from '../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../src/files/make-folder.ts'
import { readSecretFile } from '../agent/secret-file.ts'
import { parseJson } from '../policy/json.ts'
import { createFile } from './create-file.ts'
import {
  ROOT_FILES,
  type RootFileContents,
  type RootFileName,
  readRootFiles,
  writeRootFiles,
} from './root-files.ts'
import type { RootMaterial } from './root-material.ts'

/** Why a folder's root keys are not used. */
export class RootStoreError extends Error {
  override readonly name = 'RootStoreError'
  /**
   * `ROOT_KEYS_EXIST`: there are some, and none are ever overwritten. `ROOT_KEYS_INCOMPLETE`: files
   * are missing that were there. `ROOT_KEYS_UNUSABLE`: damaged, not of one piece, or open to others.
   */
  readonly code: 'ROOT_KEYS_EXIST' | 'ROOT_KEYS_INCOMPLETE' | 'ROOT_KEYS_UNUSABLE'

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

const DURABLE: StoreSteps = { create: createFile, remove: (path) => rm(path, { force: true }) }

/**
 * Everything that is about to be written, in one file: once it is there, the keys are. A start
 * that finds it goes on where the last one stopped.
 */
const PENDING = 'root-keys.pending'

const Pending = v.object({ files: v.array(v.tuple([v.string(), v.string()])) })

/** Evidence of some kilobytes, in hex, is the largest part of any of them. */
const MAX_FILE_BYTES = 4 * 1024 * 1024

/**
 * The root keys in a folder.
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
  if (!(await exists(folder))) return undefined
  for (const name of [PENDING, ...ROOT_FILES.map((file) => file.name)]) {
    await removeLeftOvers(join(folder, name))
  }
  await finish(folder, steps)
  const present = await presentFiles(folder)
  if (present.length === 0) return undefined
  const missing = ROOT_FILES.filter((file) => file.required && !present.includes(file.name))
  if (missing.length > 0) {
    throw new RootStoreError(
      'ROOT_KEYS_INCOMPLETE',
      `Cannot use the root keys in "${folder}": ${missing.map(({ name }) => name).join(', ')} ` +
        `missing beside ${present.join(', ')}; bring back the whole folder from a copy`,
    )
  }
  return unusable(folder, async () => {
    const contents = present.map(async (name) => [name, await readRootFile(folder, name)] as const)
    return readRootFiles(new Map(await Promise.all(contents)))
  })
}

/**
 * Writes root keys for good. The folder is made, for its owner alone, where there is none.
 *
 * @throws {RootStoreError} `ROOT_KEYS_EXIST` when any file of any root keys is there already.
 * @throws {Error} The system error; once the keys are in the folder, the next
 *   {@link openRootKeys} writes what is missing.
 */
export async function createRootKeys(
  folder: string,
  material: RootMaterial,
  steps: StoreSteps = DURABLE,
): Promise<void> {
  makeFolder(folder, 0o700)
  await refuseExisting(folder)
  const pending = join(folder, PENDING)
  const bytes = Buffer.from(writePending(writeRootFiles(material)))
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

/** Writes what an earlier process did not get to, and forgets what is left to do. */
async function finish(folder: string, steps: StoreSteps): Promise<void> {
  const path = join(folder, PENDING)
  if (!(await exists(path))) return
  const files = await unusable(folder, async () => readPending(await readRootFile(folder, PENDING)))
  for (const [name, bytes] of files) {
    const mode = isSecret(name) ? 0o600 : 0o644
    await steps.create(join(folder, name), bytes, mode).catch(async (error) => {
      if (errnoOf(error) !== 'EEXIST') throw error
      if (sameBytes(await readRootFile(folder, name), bytes)) return
      const message = `Cannot use the root keys in "${folder}": ${name} is not of those in ${PENDING}`
      throw new RootStoreError('ROOT_KEYS_UNUSABLE', message)
    })
    if (isSecret(name)) bytes.fill(0)
  }
  await steps.remove(path)
  await syncDirectory(folder)
}

async function refuseExisting(folder: string): Promise<void> {
  const [first] = await presentFiles(folder)
  if (first !== undefined) throw alreadyThere(first)
}

function alreadyThere(name: string): RootStoreError {
  const message = `KMS has already been bootstrapped: there is ${name}`
  return new RootStoreError('ROOT_KEYS_EXIST', message)
}

async function presentFiles(folder: string): Promise<RootFileName[]> {
  const names = ROOT_FILES.map(({ name }) => name)
  const found = await Promise.all(names.map((name) => exists(join(folder, name))))
  return names.filter((_, i) => found[i])
}

function readRootFile(folder: string, name: RootFileName | typeof PENDING): Promise<Uint8Array> {
  const path = join(folder, name)
  if (isSecret(name)) return readSecretFile(path, MAX_FILE_BYTES)
  return readFile(path).then((bytes) => new Uint8Array(bytes))
}

function isSecret(name: RootFileName | typeof PENDING): boolean {
  return name === PENDING || ROOT_FILES.some((file) => file.name === name && file.secret)
}

function writePending(contents: RootFileContents): string {
  const files = [...contents].map(([name, bytes]): [string, string] => {
    return [name, Buffer.from(bytes).toString('base64')]
  })
  return JSON.stringify({ files } satisfies v.InferOutput<typeof Pending>)
}

function readPending(bytes: Uint8Array): [RootFileName, Uint8Array][] {
  const { files } = parseJson(Pending, new TextDecoder().decode(bytes))
  bytes.fill(0)
  return files.map(([name, content]) => {
    const file = ROOT_FILES.find((known) => known.name === name)
    if (!file) throw new Error(`${PENDING} names a file that is none of the root keys'`)
    return [file.name, new Uint8Array(Buffer.from(content, 'base64'))]
  })
}

async function unusable<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const message = `Cannot use the root keys in "${folder}": ${messageOf(cause)}`
    throw new RootStoreError('ROOT_KEYS_UNUSABLE', message, { cause })
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
