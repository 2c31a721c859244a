import { timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import type { RootKeys } from '../derivation/kms-keys.ts'
import {
  CURRENT,
  MAX_ROOT_VERSION,
  versionCertificate,
  versionFile,
  versionOf,
} from './root-file-names.ts'
import {
  DURABLE,
  incomplete,
  RootStoreError,
  readRootFile,
  rootFilesIn,
  type StoreSteps,
  unusable,
} from './root-folder.ts'
import { randomRootKeys } from './root-material.ts'
import { clearRoots, type Roots, rootsFrom, zero } from './root-set.ts'
import { openRootKeys } from './root-store.ts'
import {
  clusterOf,
  type RootVersion,
  readCurrent,
  readVersionFile,
  writeCurrent,
  writeVersionFile,
} from './version-file.ts'

export { clearRoots, type Roots, rootsFrom } from './root-set.ts'

/*
 * A folder has version 0 in dstack's files, each later version in one file that is made once and
 * never written again, and in `root-current` which version is answered to those who name none.
 *
 * Each change is one file that is made or replaced whole, so that a process which ends at any moment
 * has made it or not; none takes a key away. Whoever holds keys in memory opens them again afterwards.
 */

/**
 * The root keys in a folder, of all versions.
 *
 * @returns Undefined where there are none.
 * @throws {RootStoreError} `ROOT_KEYS_INCOMPLETE`, `ROOT_KEYS_UNUSABLE`.
 * @throws {Error} The system error.
 */
export async function openRoots(
  folder: string,
  steps: StoreSteps = DURABLE,
): Promise<Roots | undefined> {
  const first = await openRootKeys(folder, steps)
  if (!first) return undefined
  const present = await rootFilesIn(folder)
  const current = present.includes(CURRENT)
    ? await reading(folder, CURRENT, async () => readCurrent(await readRootFile(folder, CURRENT)))
    : 0
  const last = Math.max(current, ...present.map((name) => versionOf(name) ?? 0))
  const versions = Array.from({ length: last }, (_, i) => i + 1)
  const missing = versions.map(versionFile).filter((name) => !present.includes(name))
  if (missing.length > 0) throw incomplete(folder, missing, present)
  const cluster = clusterOf(first.root)
  const { temporaryCa, domain } = first
  const materials = [first]
  for (const version of versions) {
    const renewed = present.includes(versionCertificate(version))
    const found = await openVersion(folder, version, cluster, renewed)
    materials.push({ ...found, temporaryCa, domain, info: undefined })
  }
  return rootsFrom(materials, current)
}

/**
 * Makes root keys of the next version, which nobody gets until it is used or asked for.
 *
 * @returns The version.
 * @throws {RootStoreError} `ROOT_VERSIONS_FULL`; `ROOT_KEYS_EXIST` when somebody else made the same
 *   version at this moment; `ROOT_VERSION_UNKNOWN` without root keys; as {@link openRoots}.
 * @throws {Error} The system error.
 */
export async function addRootVersion(folder: string, steps: StoreSteps = DURABLE): Promise<number> {
  const roots = await opened(folder, steps)
  const fresh = randomRootKeys(roots.versions.length)
  try {
    await writeVersion(folder, fresh, roots, steps)
    return fresh.version
  } finally {
    clearRoots(roots)
    zero(fresh)
  }
}

/**
 * Adds versions that another KMS of the cluster has and this one does not.
 *
 * @param keys Of all versions of the other KMS.
 * @returns The versions that were added; those before a failed one stay.
 * @throws {RootStoreError} `ROOT_VERSION_DIFFERS`, before anything is written, unless all versions
 *   that both have are the same; `ROOT_KEYS_INCOMPLETE` when one is left out; as
 *   {@link addRootVersion}.
 */
export async function adoptRootVersions(
  folder: string,
  keys: readonly RootKeys[],
  steps: StoreSteps = DURABLE,
): Promise<readonly number[]> {
  const roots = await opened(folder, steps)
  try {
    const theirs = [...keys].sort((a, b) => a.version - b.version)
    const gap = theirs.findIndex(({ version }, i) => version !== i)
    if (theirs.length === 0 || gap >= 0) {
      throw new RootStoreError(
        'ROOT_KEYS_INCOMPLETE',
        `Cannot adopt root versions ${theirs.map(({ version }) => version).join(', ') || 'of nobody'}: ` +
          'expected 0 and what follows it, each once',
      )
    }
    for (const other of theirs) assertSame(roots.of(other.version), other)
    const missing = theirs.slice(roots.versions.length)
    for (const root of missing) await writeVersion(folder, root, roots, steps)
    return missing.map(({ version }) => version)
  } finally {
    clearRoots(roots)
  }
}

/**
 * Makes a version the current one.
 *
 * @param replace Writes the file whole or not at all. Tests give one that fails.
 * @throws {RootStoreError} `ROOT_VERSION_UNKNOWN`; as {@link openRoots}.
 * @throws {Error} The system error; the current version is the one before, or this one.
 */
export async function useRootVersion(
  folder: string,
  version: number,
  replace: typeof writeFileAtomic = writeFileAtomic,
): Promise<void> {
  const roots = await opened(folder, DURABLE)
  clearRoots(roots)
  if (!roots.versions.includes(version)) throw unknownVersion(version, roots)
  await replace(join(folder, CURRENT), writeCurrent(version), 0o600)
}

function unknownVersion(version: number, { versions }: Pick<Roots, 'versions'>): RootStoreError {
  return new RootStoreError(
    'ROOT_VERSION_UNKNOWN',
    `Cannot use root version ${version}: there are ${versions.join(', ')}`,
  )
}

async function opened(folder: string, steps: StoreSteps): Promise<Roots> {
  const roots = await openRoots(folder, steps)
  if (roots) return roots
  const why = `there are no root keys in "${folder}" yet`
  throw new RootStoreError('ROOT_VERSION_UNKNOWN', `Cannot change root versions: ${why}`)
}

async function writeVersion(
  folder: string,
  root: RootKeys,
  roots: Roots,
  steps: StoreSteps,
): Promise<void> {
  if (root.version > MAX_ROOT_VERSION) {
    throw new RootStoreError(
      'ROOT_VERSIONS_FULL',
      `Cannot add root version ${root.version}: at most ${MAX_ROOT_VERSION + 1} are kept`,
    )
  }
  const first = roots.of(0) as RootKeys
  const bytes = writeVersionFile(root, clusterOf(first))
  const name = versionFile(root.version)
  try {
    await steps.create(join(folder, name), bytes, 0o600)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    const why = `somebody else made ${name} at the same time`
    throw new RootStoreError('ROOT_KEYS_EXIST', `Cannot add root version ${root.version}: ${why}`)
  } finally {
    bytes.fill(0)
  }
}

function assertSame(ours: RootKeys | undefined, theirs: RootKeys): void {
  if (!ours || (same(ours.ca, theirs.ca) && same(ours.k256, theirs.k256))) return
  const { version } = theirs
  throw new RootStoreError(
    'ROOT_VERSION_DIFFERS',
    version === 0
      ? 'Cannot adopt root versions: they are of another KMS, whose version 0 differs'
      : `Cannot adopt root versions: version ${version} differs; the two were rotated apart`,
  )
}

const same = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && timingSafeEqual(a, b)

function openVersion(
  folder: string,
  version: number,
  cluster: string,
  renewed: boolean,
): Promise<RootVersion> {
  const name = versionFile(version)
  return reading(folder, name, async () => {
    const certificate = renewed
      ? await readRootFile(folder, versionCertificate(version))
      : undefined
    return readVersionFile(await readRootFile(folder, name), version, cluster, certificate)
  })
}

/** What fails is that the keys cannot be used, because of one file. */
function reading<T>(folder: string, name: string, work: () => Promise<T>): Promise<T> {
  return unusable(folder, async () => {
    try {
      return await work()
    } catch (error) {
      throw new Error(`${name}: ${messageOf(error)}`)
    }
  })
}
