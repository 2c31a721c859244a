import { createHash, timingSafeEqual } from 'node:crypto'
import { type FileHandle, open, realpath, stat } from 'node:fs/promises'
import { errnoOf, messageOf } from '../errors.ts'
import { writeFileAtomic } from '../files/atomic-file.ts'

/** Longest password that can be set, in bytes. */
export const MAX_PASSWORD_BYTES = 1024

/** SHA-256 in lower-case hex. */
const HASH_BYTES = 64

/** Compared where no password is set: not hex, so no hash equals it. */
const NO_HASH = Buffer.alloc(HASH_BYTES)

/** What {@link PasswordStore.load} found. `kept`: the file lost its hash, the known one stays. */
export type PasswordFileState = 'created' | 'empty' | 'loaded' | 'kept'

/**
 * system-api's Basic secret file: 64 lower-case hex digits, SHA-256 over password bytes and salt
 * bytes (spec system-api §9). An empty file means that no password is set yet.
 *
 * It fails closed: a password that was once known to this process stays in force when the file is
 * emptied or deleted under it.
 */
export class PasswordStore {
  readonly path: string
  readonly #salt: Uint8Array
  #hash: Uint8Array | undefined
  #revision = 0
  #last: Promise<unknown> = Promise.resolve()

  /**
   * @param path Relative paths count from the working directory, as in system-api.
   * @param salt Appended to the password; `basic_auth_secret_salt`.
   */
  constructor(path: string, salt: string) {
    this.path = path
    this.#salt = Buffer.from(salt)
  }

  /** Whether a password is in force. */
  get isSet(): boolean {
    return this.#hash !== undefined
  }

  /** Changes whenever another password comes into force, so that remembered answers are dropped. */
  get revision(): number {
    return this.#revision
  }

  /**
   * Reads the file; a missing one is created empty with mode 0600. To be called before the first
   * use, and again on reload.
   *
   * @throws {Error} When the file cannot be read or created, or holds anything but a hash (one line
   *   feed after it is accepted). What was in force stays in force.
   */
  load(): Promise<PasswordFileState> {
    return this.#serialise(async () => {
      const content = await read(this.path)
      if (content !== undefined && content.byteLength > 0) {
        this.#use(hashIn(content, this.path))
        return 'loaded'
      }
      if (this.isSet) return 'kept'
      if (content !== undefined) return 'empty'
      await create(this.path)
      return 'created'
    })
  }

  /**
   * Whether this is the password. Takes the same time for every password of a length, and the same
   * whether or not one is set.
   */
  verify(password: Uint8Array): boolean {
    return timingSafeEqual(this.#digest(password), this.#hash ?? NO_HASH)
  }

  /**
   * Makes this the password, in the file first and then in memory. Calls run one after the other.
   *
   * @throws {RangeError} For more than {@link MAX_PASSWORD_BYTES} bytes.
   * @throws {Error} The system error when the file cannot be written; the old password stays.
   */
  set(password: Uint8Array): Promise<void> {
    return this.#serialise(async () => {
      if (password.byteLength > MAX_PASSWORD_BYTES) {
        throw new RangeError(
          `Cannot set a password of ${password.byteLength} bytes: the limit is ${MAX_PASSWORD_BYTES}`,
        )
      }
      const hash = this.#digest(password)
      await replace(this.path, hash)
      this.#use(hash)
    })
  }

  #digest(password: Uint8Array): Buffer {
    const hex = createHash('sha256').update(password).update(this.#salt).digest('hex')
    return Buffer.from(hex, 'latin1')
  }

  #use(hash: Uint8Array): void {
    this.#hash = hash
    this.#revision++
  }

  #serialise<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#last.then(work)
    this.#last = run.catch(() => undefined)
    return run
  }
}

function hashIn(content: Uint8Array, path: string): Uint8Array {
  const lineFeed = content.byteLength === HASH_BYTES + 1 && content[HASH_BYTES] === 0x0a
  if (content.byteLength !== HASH_BYTES && !lineFeed) {
    throw new Error(
      `basic auth secret in ${path} does not look like a SHA256 hash ` +
        `(must be ${HASH_BYTES} characters)`,
    )
  }
  return content.subarray(0, HASH_BYTES)
}

/** The start of the file, long enough to tell a hash from anything else; undefined if missing. */
async function read(path: string): Promise<Uint8Array | undefined> {
  let handle: FileHandle | undefined
  try {
    handle = await open(path, 'r')
    const buffer = Buffer.alloc(HASH_BYTES + 2)
    const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, 0)
    return buffer.subarray(0, bytesRead)
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined
    throw new Error(`failed to read basic auth secret file: ${messageOf(cause)}`, { cause })
  } finally {
    await handle?.close()
  }
}

async function create(path: string): Promise<void> {
  try {
    await (await open(path, 'wx', 0o600)).close()
  } catch (cause) {
    throw new Error(`failed to create basic auth secret file: ${messageOf(cause)}`, { cause })
  }
}

/**
 * Writes the hash atomically behind symlinks, keeping the file's mode. Where the folder does not
 * allow that (a bind-mounted file, a folder of another user) the 64 bytes are written over the old
 * ones, never truncating first: an empty file would open the API at the next start.
 */
async function replace(path: string, hash: Uint8Array): Promise<void> {
  const target = await realpath(path).catch(() => path)
  const mode = await stat(target).then(
    (found) => found.mode & 0o777,
    () => 0o600,
  )
  try {
    await writeFileAtomic(target, hash, mode)
  } catch (error) {
    if (!IN_PLACE.has(errnoOf(error) ?? '')) throw error
    const handle = await open(target, 'r+')
    try {
      await handle.write(hash, 0, hash.byteLength, 0)
      await handle.truncate(hash.byteLength)
      await handle.sync()
    } finally {
      await handle.close()
    }
  }
}

const IN_PLACE: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'EROFS', 'EBUSY', 'EXDEV'])
