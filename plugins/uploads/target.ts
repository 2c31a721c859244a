import type { BigIntStats } from 'node:fs'
import { lstat, readlink, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { errnoOf } from '../../src/errors.ts'
import { refused } from './failure.ts'

/** As Linux allows, `MAXSYMLINKS` in include/linux/namei.h. */
const MAX_LINKS = 40

/** Where an upload goes, all links resolved. */
export interface Target {
  readonly path: string
  readonly folder: BigIntStats
  /** Absent when the upload will create the file. */
  readonly existing: BigIntStats | undefined
}

/** What a target's path is, for messages and links. */
export interface TargetOptions {
  readonly name: string
  readonly path: string
  /** Whether a symbolic or a hard link there is written through or refused. */
  readonly followLinks: boolean
}

/**
 * Finds the file an upload replaces. Links among the folders above it are always followed; they
 * are the operator's choice of path.
 *
 * @throws {UploadFailure} 409 for a link that is not to be followed, or something that is no file.
 * @throws {Error} The system error, `EISDIR` for a folder.
 */
export async function locate(options: TargetOptions): Promise<Target> {
  const { name, path, followLinks } = options
  if (path.endsWith('/')) throw systemError('EISDIR', path)
  let at = resolve(path)
  for (let links = 0; links <= MAX_LINKS; links++) {
    const folder = await realpath(dirname(at))
    at = join(folder, basename(at))
    const existing = await unlessMissing(lstat(at, { bigint: true }))
    if (!existing?.isSymbolicLink()) {
      assertReplaceable(existing, options)
      return { path: at, folder: await stat(folder, { bigint: true }), existing }
    }
    if (!followLinks) {
      throw refused(
        409,
        'UPLOAD_TARGET_SYMLINK',
        `Cannot replace upload "${name}": "${path}" is a symbolic link, ` +
          'set "follow_symlinks" if that is meant',
      )
    }
    at = resolve(folder, await readlink(at))
  }
  throw systemError('ELOOP', path)
}

/**
 * Whether a target still is what it was: same path, same folder, and the same file or none.
 *
 * @throws {UploadFailure} 409 `UPLOAD_TARGET_MOVED`.
 */
export function assertSameFolder(before: Target, now: Target, name: string): void {
  if (before.path === now.path && sameFile(before.folder, now.folder)) return
  throw moved(name, before.path)
}

/** The failure of a target that was exchanged while an upload was under way. */
export function moved(name: string, path: string) {
  return refused(
    409,
    'UPLOAD_TARGET_MOVED',
    `Cannot replace upload "${name}": "${path}" was moved or replaced meanwhile`,
  )
}

/** Whether two results of `stat` are of one file. */
export function sameFile(a: BigIntStats, b: BigIntStats): boolean {
  return a.dev === b.dev && a.ino === b.ino
}

/** The value, or undefined where the file is missing. */
export async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

function assertReplaceable(existing: BigIntStats | undefined, options: TargetOptions): void {
  if (!existing) return
  const { name, path, followLinks } = options
  if (existing.isDirectory()) throw systemError('EISDIR', path)
  if (!existing.isFile()) {
    throw refused(
      409,
      'UPLOAD_TARGET_NOT_FILE',
      `Cannot replace upload "${name}": "${path}" is a device, FIFO or socket, not a file`,
    )
  }
  if (existing.nlink > 1n && !followLinks) {
    throw refused(
      409,
      'UPLOAD_TARGET_HARDLINK',
      `Cannot replace upload "${name}": "${path}" has ${existing.nlink} hard links, ` +
        'set "follow_symlinks" if all of them are meant',
    )
  }
}

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: "${path}"`), { code })
}
