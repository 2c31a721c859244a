import { constants } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { syncDirectory, temporaryBeside } from '../../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import { found } from './folders.ts'
import { PRIVATE } from './modes.ts'

/** A disk and its bytes are its owner's alone. */
const MODE = 0o600

/**
 * Makes a sparse file of a size: it takes room only as it is written to.
 *
 * @throws {Error} The system error, such as EEXIST or EFBIG; no file is left then.
 */
export async function makeDisk(path: string, size: bigint): Promise<void> {
  const file = await open(path, 'wx', MODE)
  try {
    await file.chmod(MODE)
    await file.truncate(Number(size))
    await file.sync()
  } catch (error) {
    await rm(path, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

/** Puts a finished file where a disk is to be, at once. */
export async function replaceDisk(from: string, to: string): Promise<void> {
  const file = await open(from, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(from, to)
  await syncDirectory(dirname(to))
}

/** Makes the disk of a workload; a crash leaves it whole or not at all. */
export async function createDisk(path: string, size: bigint): Promise<void> {
  makeFolder(dirname(path), PRIVATE)
  const temporary = temporaryBeside(path)
  await makeDisk(temporary, size)
  await replaceDisk(temporary, path)
}

/** Lets a disk grow; its content stays, and it never shrinks. */
export async function growDisk(path: string, size: bigint): Promise<void> {
  const file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW)
  try {
    const stats = await file.stat({ bigint: true })
    if (stats.size >= size) return
    await file.truncate(Number(size))
    await file.sync()
  } finally {
    await file.close()
  }
}

/**
 * Bytes of a disk; undefined when there is none.
 *
 * @throws {Error} When something that is no file is there.
 */
export async function diskSize(path: string): Promise<bigint | undefined> {
  const stats = await found(path)
  if (stats && !stats.isFile()) throw new Error(`"${path}" is no file, remove it`)
  return stats?.size
}
