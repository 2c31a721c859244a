import { type BigIntStats, constants } from 'node:fs'
import { lstat, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../../../src/errors.ts'
import { TEMPORARY_PREFIX } from '../../../../src/files/atomic-file.ts'

/** `<twin>-<contract>-<name>` and nothing else (spec zos §4.3, §4.4): safe as the name of a file. */
const WORKLOAD_ID = /^[0-9]{1,10}-[0-9]{1,20}-[A-Za-z0-9_]{1,36}$/

export function isWorkloadId(text: string): boolean {
  return WORKLOAD_ID.test(text)
}

/**
 * @returns The id, which may become part of a path.
 * @throws {RangeError} For what is no workload id.
 */
export function fileName(id: string): string {
  if (isWorkloadId(id)) return id
  throw new RangeError(`Cannot keep files of workload ${JSON.stringify(id)}: it is no workload id`)
}

/** What is at a path, not following a link; undefined when nothing is. */
export async function found(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** Names in a folder; none when there is no such folder. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

/** What stands for workloads that are no more: ids in the names of a folder. */
export async function leftOvers(folder: string, wanted: ReadonlySet<string>): Promise<string[]> {
  const names = await namesIn(folder)
  return names.filter((name) => isWorkloadId(name) && !wanted.has(name))
}

/** Temporary files in a folder; nobody is using them when no work is going on there. */
export async function temporaries(folder: string): Promise<string[]> {
  const names = await namesIn(folder)
  return names.filter((name) => name.startsWith(TEMPORARY_PREFIX)).map((name) => join(folder, name))
}

/** The first bytes of a file; a link is refused (ELOOP). */
export async function firstBytes(path: string, length: number): Promise<Uint8Array> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const bytes = new Uint8Array(length)
    let filled = 0
    while (filled < length) {
      const { bytesRead } = await file.read(bytes, filled, length - filled, filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    return bytes.subarray(0, filled)
  } finally {
    await file.close()
  }
}
