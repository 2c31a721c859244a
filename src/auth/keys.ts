import { timingSafeEqual } from 'node:crypto'
import * as v from 'valibot'
import { writeFileAtomic } from '../files/atomic-file.ts'
import type { Caller } from '../plugin.ts'
import {
  fileIdentity,
  type KeyFileError,
  KeyName,
  type KeyRecord,
  KeyScopes,
  MAX_KEYS,
  MAX_SCOPES,
  readKeyFile,
  renderKeys,
} from './key-file.ts'
import { createToken, tokenDigest, tokenId } from './key-token.ts'
import { withLockFile } from './lock-file.ts'

export { KeyFileError } from './key-file.ts'

/** How often a store in use looks whether its file changed. */
const CHECK_MS = 50

/** Longest life of a key: ten years. */
const MAX_EXPIRES_S = 10 * 366 * 24 * 3600

/** Compared where a token names no key. */
const NO_DIGEST = Buffer.alloc(32)

/** A key as `cvmd key list` shows it: everything but the hash. Times are RFC 3339. */
export type ApiKey = Omit<KeyRecord, 'sha256'>

/** What a new key is to be. */
export interface NewKey {
  /** Unique; letters, digits, space and `._@-`, at most 64 characters. */
  readonly name: string
  /** 1 to 64 scopes, see `src/auth/scopes.ts`. */
  readonly scopes: readonly string[]
  /** Seconds until it ends; it never does without. */
  readonly expiresInS?: number | undefined
}

/** What a store may be told beside its path. */
export interface KeyStoreOptions {
  /** Told once about each bad state of the file found while in use; the last good keys stay. */
  readonly onProblem?: (error: KeyFileError) => void
  /** Unix time in milliseconds. */
  readonly now?: () => number
  /** Monotonic milliseconds. */
  readonly monotonic?: () => number
}

interface ActiveKey {
  readonly digest: Uint8Array
  readonly caller: Caller
  readonly expiresAt: number
}

/**
 * Scoped API keys in `keys.json`. Any process may change the file: a store in use looks at most
 * every 50 ms whether it did, so `cvmd key add` needs no reload. A deleted file means no keys; a
 * bad one leaves the last good keys in force.
 */
export class KeyStore {
  readonly path: string
  readonly #onProblem: (error: KeyFileError) => void
  readonly #now: () => number
  readonly #monotonic: () => number
  #records: readonly KeyRecord[] = []
  #active = new Map<string, ActiveKey>()
  #revision = 0
  #identity = ''
  #nextCheck = 0
  #nextExpiry = Number.POSITIVE_INFINITY
  #last: Promise<unknown> = Promise.resolve()

  constructor(path: string, options: KeyStoreOptions = {}) {
    this.path = path
    this.#onProblem = options.onProblem ?? (() => undefined)
    this.#now = options.now ?? Date.now
    this.#monotonic = options.monotonic ?? (() => performance.now())
  }

  /** Changes whenever a key comes, goes or expires, so that remembered answers are dropped. */
  get revision(): number {
    this.#refresh()
    return this.#revision
  }

  /**
   * Reads the file. To be called before the first use, and again on reload.
   *
   * @throws {KeyFileError} When the file is bad; the keys in force stay.
   */
  load(): void {
    // Taken before reading: a change in between is then seen at the next look.
    this.#identity = fileIdentity(this.path)
    this.#nextCheck = this.#monotonic() + CHECK_MS
    this.#records = readKeyFile(this.path)
    this.#activate()
  }

  /** All keys, expired ones too, in the order they were made. */
  list(): ApiKey[] {
    this.#refresh()
    return this.#records.map(withoutHash)
  }

  /**
   * The caller a token stands for; undefined when it is no valid key. Takes the same time for a
   * known and an unknown id.
   */
  verify(token: string): Caller | undefined {
    this.#refresh()
    const key = this.#active.get(tokenId(token) ?? '')
    const same = timingSafeEqual(tokenDigest(token), key?.digest ?? NO_DIGEST)
    return same && key !== undefined && key.expiresAt > this.#now() ? key.caller : undefined
  }

  /**
   * Makes a key. The token is in the answer and nowhere else.
   *
   * @throws {RangeError} When a field is wrong, the name is taken, or there are too many keys.
   * @throws {KeyFileError} When the file is bad: it is not overwritten.
   * @throws {Error} When it cannot be written or another process keeps the lock.
   */
  async add(wanted: NewKey): Promise<{ key: ApiKey; token: string }> {
    assertNewKey(wanted)
    const { id, token } = createToken()
    const now = this.#now()
    const record: KeyRecord = {
      id,
      name: wanted.name,
      sha256: tokenDigest(token).toString('hex'),
      scopes: [...wanted.scopes],
      created: new Date(now).toISOString(),
    }
    if (wanted.expiresInS !== undefined) {
      record.expires = new Date(now + wanted.expiresInS * 1000).toISOString()
    }
    return this.#update((records) => {
      if (records.some(({ name }) => name === wanted.name)) {
        throw new RangeError(`Cannot add key "${wanted.name}": the name is taken`)
      }
      if (records.length >= MAX_KEYS) {
        throw new RangeError(`Cannot add key "${wanted.name}": remove one of the ${MAX_KEYS} first`)
      }
      return [[...records, record], { key: withoutHash(record), token }]
    })
  }

  /**
   * Removes a key at once.
   *
   * @param which Its id or its name.
   * @throws {RangeError} When there is no such key.
   * @throws {Error} As {@link add}.
   */
  remove(which: string): Promise<ApiKey> {
    return this.#update((records) => {
      const removed = records.find(({ id, name }) => id === which || name === which)
      if (removed === undefined) {
        throw new RangeError(`Cannot remove key "${which}": no key has that id or name`)
      }
      return [records.filter((record) => record !== removed), withoutHash(removed)]
    })
  }

  /** Changes the file as it is now, not as this process last saw it. */
  #update<T>(change: (records: readonly KeyRecord[]) => [KeyRecord[], T]): Promise<T> {
    const run = this.#last.then(() =>
      withLockFile(`${this.path}.lock`, async (assertHeld) => {
        const [records, result] = change(readKeyFile(this.path))
        await assertHeld()
        await writeFileAtomic(this.path, renderKeys(records), 0o600)
        this.load()
        return result
      }),
    )
    this.#last = run.catch(() => undefined)
    return run
  }

  #refresh(): void {
    const now = this.#monotonic()
    if (now >= this.#nextCheck) {
      this.#nextCheck = now + CHECK_MS
      if (fileIdentity(this.path) !== this.#identity) this.#reload()
    }
    if (this.#now() >= this.#nextExpiry) this.#activate()
  }

  #reload(): void {
    try {
      this.load()
    } catch (error) {
      this.#onProblem(error as KeyFileError)
    }
  }

  #activate(): void {
    const now = this.#now()
    this.#active = new Map()
    this.#nextExpiry = Number.POSITIVE_INFINITY
    for (const { id, name, sha256, scopes, expires } of this.#records) {
      const expiresAt = expires === undefined ? Number.POSITIVE_INFINITY : Date.parse(expires)
      if (expiresAt <= now) continue
      this.#nextExpiry = Math.min(this.#nextExpiry, expiresAt)
      const caller: Caller = { kind: 'key', name, scopes }
      this.#active.set(id, { digest: Buffer.from(sha256, 'hex'), caller, expiresAt })
    }
    this.#revision++
  }
}

function assertNewKey({ name, scopes, expiresInS }: NewKey): void {
  if (!v.is(KeyName, name)) {
    throw new RangeError(
      `Cannot add key ${JSON.stringify(name)}: ` +
        'a name has 1 to 64 letters, digits, spaces or "._@-", and is not an id',
    )
  }
  if (!v.is(KeyScopes, scopes)) {
    throw new RangeError(
      `Cannot add key "${name}": give 1 to ${MAX_SCOPES} scopes like "events:read" or "actions:*"`,
    )
  }
  if (expiresInS === undefined) return
  if (!Number.isSafeInteger(expiresInS) || expiresInS < 1 || expiresInS > MAX_EXPIRES_S) {
    throw new RangeError(
      `Cannot add key "${name}": it must expire in 1 to ${MAX_EXPIRES_S} seconds, not ${expiresInS}`,
    )
  }
}

function withoutHash({ sha256: _sha256, ...rest }: KeyRecord): ApiKey {
  return rest
}
