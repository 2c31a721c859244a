import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { KeyError } from './key-error.ts'

/** Bytes of the secret all keys come from. */
export const MASTER_BYTES = 32

/** The secret all keys come from. */
export interface Master {
  readonly secret: Uint8Array
  /** It was made just now: keys given out before, if any, are worth nothing. */
  readonly created: boolean
}

/**
 * The secret in a file of 32 bytes, mode 0600, which is made where there is none.
 *
 * @throws {KeyError} When the file cannot be read or made, has another length, or is open to
 *   others.
 */
export async function openMaster(path: string): Promise<Master> {
  try {
    const secret = await readMaster(path)
    if (secret) return { secret, created: false }
    const fresh = new Uint8Array(randomBytes(MASTER_BYTES))
    await writeFileAtomic(path, fresh, 0o600)
    return { secret: fresh, created: true }
  } catch (cause) {
    if (cause instanceof KeyError) throw cause
    throw unusable(path, messageOf(cause), cause)
  }
}

/** @throws {KeyError} Unless it is a secret of 32 bytes, and not all of them zero. */
export function assertMaster(secret: Uint8Array): void {
  if (secret.length === MASTER_BYTES && secret.some((byte) => byte !== 0)) return
  throw new KeyError(
    'KEY_NOT_POSSIBLE',
    `Cannot make API keys: the master secret has ${secret.length} bytes or is all zero, ` +
      `it must be ${MASTER_BYTES} random bytes`,
  )
}

async function readMaster(path: string): Promise<Uint8Array | undefined> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch((error) => {
    if (errnoOf(error) !== 'ENOENT') throw error
  })
  if (!file) return undefined
  try {
    const found = await file.stat()
    if (!found.isFile()) throw unusable(path, 'it is no file')
    if ((found.mode & 0o077) !== 0) {
      const mode = (found.mode & 0o777).toString(8).padStart(4, '0')
      throw unusable(path, `others have access to it (mode ${mode}), use 0600`)
    }
    const bytes = new Uint8Array(MASTER_BYTES + 1)
    let filled = 0
    for (;;) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled)
      filled += bytesRead
      if (bytesRead === 0 || filled === bytes.length) break
    }
    if (filled !== MASTER_BYTES) {
      const why = `it must have ${MASTER_BYTES} bytes; restore it, or remove it for new keys`
      throw unusable(path, why)
    }
    const secret = bytes.slice(0, MASTER_BYTES)
    assertMaster(secret)
    return secret
  } finally {
    await file.close()
  }
}

function unusable(path: string, why: string, cause?: unknown): KeyError {
  const message = `Cannot use the master secret in "${path}": ${why}`
  return new KeyError('KEY_FILE_UNUSABLE', message, { cause })
}
