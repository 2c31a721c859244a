import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { errnoOf } from '../../../src/errors.ts'
import { PolicyError } from './policy.ts'

/**
 * Reads a small file that the configuration names, at the moment it is needed.
 *
 * @param most Bytes; a larger file is refused.
 * @throws {PolicyError} `POLICY_SETUP`, naming the file and never quoting from it.
 */
export async function readConfigured(path: string, most: number): Promise<Uint8Array> {
  let file: FileHandle | undefined
  try {
    // A pipe would otherwise hold the request until somebody writes to it.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const stat = await file.stat()
    if (!stat.isFile()) throw refuse(path, 'it is no regular file')
    // One more than allowed, as a file can grow after it was measured.
    const bytes = new Uint8Array(Math.min(stat.size, most) + 1)
    let filled = 0
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, filled)
      if (bytesRead === 0) return bytes.subarray(0, filled)
      filled += bytesRead
    }
    throw refuse(path, stat.size > most ? `it is larger than ${most} bytes` : 'it is being written')
  } catch (error) {
    if (error instanceof PolicyError) throw error
    throw refuse(path, errnoOf(error) ?? 'it cannot be read')
  } finally {
    await file?.close()
  }
}

function refuse(path: string, why: string): PolicyError {
  return new PolicyError('POLICY_SETUP', `Cannot use "${path}": ${why}`)
}
