import { constants, type Dirent } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../errors.ts'
import { DeviceError, type FileKind, type Transport } from './transport.ts'

const { O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants

const CHUNK_BYTES = 65_536

/**
 * System calls by the runtime's own file functions: everything but ioctl and flock. They share the
 * runtime's few threads, so that some calls that do not return stop all file access of the process;
 * the native addon is there to avoid that. Deno follows a short write with another one, whatever
 * function writes, so that there the errno is the second one's instead of `EIO`.
 */
export class FileTransport implements Transport {
  readonly kind = 'files'
  readonly #root: string

  /** @param root Folder that stands for `/`. */
  constructor(root: string) {
    this.#root = root
  }

  stat(path: string): Promise<FileKind> {
    return this.#call('stat', path, async (real) => kindOf(await lstat(real)))
  }

  list(path: string): Promise<readonly string[]> {
    return this.#call('list', path, async (real) => (await readdir(real)).sort())
  }

  read(path: string, maxBytes: number): Promise<Uint8Array> {
    return this.#call('read', path, (real) =>
      withFile(real, O_RDONLY, (file) => readToEnd(file, maxBytes)),
    )
  }

  write(path: string, bytes: Uint8Array): Promise<void> {
    return this.#call('write', path, (real) =>
      withFile(real, O_WRONLY, async (file) => {
        const { bytesWritten } = await file.write(bytes, 0, bytes.length)
        if (bytesWritten !== bytes.length) throw new Errno('EIO')
      }),
    )
  }

  mkdir(path: string): Promise<void> {
    return this.#call('mkdir', path, async (real) => void (await mkdir(real, { mode: 0o700 })))
  }

  rmdir(path: string): Promise<void> {
    return this.#call('rmdir', path, (real) => rmdir(real))
  }

  async ioctl(path: string): Promise<Uint8Array> {
    throw new DeviceError('ENOTSUP', 'ioctl', path)
  }

  async lock(path: string): Promise<() => Promise<void>> {
    throw new DeviceError('ENOTSUP', 'lock', path)
  }

  async #call<T>(operation: string, path: string, run: (real: string) => Promise<T>): Promise<T> {
    try {
      return await run(join(this.#root, path))
    } catch (error) {
      throw new DeviceError(codeOf(error), operation, path, { cause: error })
    }
  }
}

/** An errno that no system call gave. */
class Errno extends Error {
  readonly code: string

  constructor(code: string) {
    super(code)
    this.code = code
  }
}

function codeOf(error: unknown): string {
  // Deno's own refusal: it has no errno, and means as little as the kernel's about what is there.
  if (error instanceof Error && error.name === 'NotCapable') return 'EPERM'
  const code = errnoOf(error) ?? 'EIO'
  // ERR_INVALID_ARG_VALUE and the like: the runtime refused the arguments.
  return code.startsWith('ERR_') ? 'EINVAL' : code
}

function kindOf(found: Pick<Dirent, 'isFile' | 'isDirectory' | 'isCharacterDevice'>): FileKind {
  if (found.isFile()) return 'file'
  if (found.isDirectory()) return 'directory'
  return found.isCharacterDevice() ? 'character-device' : 'other'
}

/** Errors of close(2) count too: configfs takes what was written only then. */
async function withFile<T>(
  real: string,
  flags: number,
  use: (file: FileHandle) => Promise<T>,
): Promise<T> {
  const file = await open(real, flags | O_NOFOLLOW)
  let result: T
  try {
    result = await use(file)
  } catch (error) {
    await file.close().catch(() => {})
    throw error
  }
  await file.close()
  return result
}

/** Reads up to one byte more than is allowed, which tells `EFBIG`. */
async function readToEnd(file: FileHandle, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  while (length <= maxBytes) {
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, maxBytes + 1 - length))
    // A position of null reads on, as the files of configfs and devices need it.
    const { bytesRead } = await file.read(chunk, 0, chunk.length, null)
    if (bytesRead === 0) return joined(chunks, length)
    chunks.push(chunk.subarray(0, bytesRead))
    length += bytesRead
  }
  throw new Errno('EFBIG')
}

function joined(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}
