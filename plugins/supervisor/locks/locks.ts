import { join } from 'node:path'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { LockFolders } from './folders.ts'
import { removeLeftOvers } from './left-overs.ts'
import { LockError, LockFolderError } from './lock-error.ts'
import {
  forceFile,
  type HeldFile,
  identityOf,
  look,
  releaseFile,
  SUPERVISOR_UID,
  takeFile,
} from './lock-file.ts'
import { assertAppId, LOCK_NAMES } from './names.ts'
import { Turns } from './turns.ts'

export { LockError, LockFolderError } from './lock-error.ts'

/** How long an action of the API waits for other work on the same app (spec §8.3). */
const WAIT_MS = 10_000

/** Where the locks are, and whom to tell. */
export interface LocksOptions {
  /** Absolute; `/tmp/balena-supervisor/services` in balena's own supervisor (spec §8.1). */
  readonly root: string
  /** Told about a lock that could not be removed; it is tried again with the next one taken. */
  readonly onProblem?: (error: LockFolderError) => void
}

/** How to take locks. */
export interface LockOptions {
  /** Removes the apps' own locks: the truthy `force` of a request. */
  readonly force?: boolean | undefined
  /** The same by configuration, `SUPERVISOR_OVERRIDE_LOCK`. */
  readonly override?: boolean | undefined
  /** Ends the waiting for other work. */
  readonly signal?: AbortSignal | undefined
  /** Milliseconds to wait for other work on the same apps: 10 s, or `Infinity`. */
  readonly waitMs?: number | undefined
  /** Services to lock, whose folders are made; default: those of the app that have a folder. */
  readonly services?: ((appId: number) => Iterable<string>) | undefined
}

/** Locks that are held. */
export interface HeldLocks {
  readonly appIds: readonly number[]
  /** Removes the files and lets others go on. Safe to call twice; never rejects. */
  release(): Promise<void>
}

/** A lock that an app made. */
export interface AppLock {
  readonly appId: number
  readonly service: string
  readonly path: string
}

/**
 * The update locks (spec §8): an app keeps the supervisor from changing its services by making a
 * file, and the supervisor makes the same files while it changes them.
 */
export class Locks {
  readonly folders: LockFolders
  readonly #onProblem: (error: LockFolderError) => void
  readonly #turns = new Turns<number>()
  /** Files that are ours just now, by path. */
  readonly #held = new Map<string, HeldFile>()
  /** Files that are to go and could not be removed. */
  readonly #stuck = new Set<HeldFile>()
  #owner: number | undefined
  #degraded: string | undefined

  constructor({ root, onProblem }: LocksOptions) {
    this.folders = new LockFolders(root)
    this.#onProblem = onProblem ?? (() => undefined)
  }

  /**
   * Why locks are not owned by uid 65534, as they should be; undefined when they are. They work
   * all the same, but a container cannot tell the supervisor's locks by their owner.
   */
  get degraded(): string | undefined {
    return this.#degraded
  }

  /**
   * Makes the root and removes what an earlier process left. To be called before anything is
   * locked.
   *
   * @returns The locks that were removed.
   * @throws {LockFolderError} When the root cannot be used.
   */
  async start(): Promise<string[]> {
    await this.folders.open()
    try {
      const removed = await removeLeftOvers(this.folders)
      await this.#chooseOwner()
      return removed
    } catch (cause) {
      throw unusable(this.folders.root, cause)
    }
  }

  /**
   * Does work while the apps are locked. When one lock cannot be had, those taken so far are given
   * back and the work does not begin.
   *
   * @throws {LockError} With status 423 when a lock is in the way.
   * @throws {LockFolderError} When the folders cannot be used.
   * @throws What the work throws, or the signal's reason.
   */
  async withLocks<T>(
    appIds: Iterable<number>,
    options: LockOptions,
    work: () => T | Promise<T>,
  ): Promise<T> {
    const held = await this.acquire(appIds, options)
    try {
      return await work()
    } finally {
      await held.release()
    }
  }

  /** Takes the locks of several apps, all or none. Errors as {@link withLocks}. */
  async acquire(appIds: Iterable<number>, options: LockOptions = {}): Promise<HeldLocks> {
    // In one order for all: two who want the same apps cannot wait for each other.
    const ids = [...new Set(appIds)].sort((a, b) => a - b)
    ids.forEach(assertAppId)
    const latest = performance.now() + (options.waitMs ?? WAIT_MS)
    const turns: (() => void)[] = []
    const files: HeldFile[] = []
    const release = async () => {
      for (const file of files.splice(0).reverse()) await this.#release(file)
      for (const pass of turns.splice(0)) pass()
    }
    try {
      for (const appId of ids) {
        const late = () => LockError.bySupervisor(appId)
        turns.push(await this.#turns.take(appId, { latest, signal: options.signal }, late))
      }
      await this.#retryStuck()
      for (const appId of ids) await this.#lockApp(appId, options, files)
    } catch (error) {
      await release()
      throw error
    }
    return { appIds: ids, release }
  }

  /** Whether other work holds the app just now. */
  isBusy(appId: number): boolean {
    return this.#turns.has(appId)
  }

  /**
   * The locks an app has made, without taking any.
   *
   * @throws {LockFolderError} When the folders cannot be read.
   */
  async locksOf(appId: number): Promise<AppLock[]> {
    const locks: AppLock[] = []
    for (const service of await this.folders.services(appId)) {
      for (const name of LOCK_NAMES) {
        const path = join(this.folders.path(appId, service), name)
        if (await this.#isForeign(path)) locks.push({ appId, service, path })
      }
    }
    return locks
  }

  async #lockApp(appId: number, options: LockOptions, files: HeldFile[]): Promise<void> {
    const wanted = options.services?.(appId) ?? (await this.folders.services(appId))
    for (const service of new Set(wanted)) {
      const folder = await this.folders.make(appId, service)
      for (const name of LOCK_NAMES) {
        options.signal?.throwIfAborted()
        const held = await this.#take(join(folder, name), options)
        if (!held) throw LockError.byApp(appId, service)
        files.push(held)
        this.#held.set(held.path, held)
      }
    }
  }

  async #take(path: string, { force, override }: LockOptions): Promise<HeldFile | undefined> {
    const take = force || override ? forceFile : takeFile
    try {
      return await take(this.folders.root, path, this.#owner)
    } catch (cause) {
      throw unusable(path, cause)
    }
  }

  async #release(file: HeldFile): Promise<void> {
    try {
      await releaseFile(file)
      this.#stuck.delete(file)
      // After a second try the place may be another file's.
      if (this.#held.get(file.path) === file) this.#held.delete(file.path)
    } catch (cause) {
      this.#stuck.add(file)
      const message = `Cannot remove lock "${file.path}": ${messageOf(cause)}`
      this.#onProblem(new LockFolderError(message, { cause }))
    }
  }

  async #retryStuck(): Promise<void> {
    for (const file of this.#stuck) await this.#release(file)
  }

  async #isForeign(path: string): Promise<boolean> {
    try {
      const found = await look(path)
      if (!found) return false
      return this.#held.get(path)?.identity !== identityOf(found)
    } catch (cause) {
      throw unusable(path, cause)
    }
  }

  /** Tries whether files can be given to the owner of all supervisors' locks, and linked then. */
  async #chooseOwner(): Promise<void> {
    const { root } = this.folders
    const trial = join(root, '.cvmd-000000000000.lock')
    for (const owner of [SUPERVISOR_UID, undefined]) {
      try {
        const held = await forceFile(root, trial, owner)
        if (held) await releaseFile(held)
        this.#owner = owner
        return
      } catch (error) {
        // Not root, or root without the capabilities CHOWN and FOWNER.
        const code = errnoOf(error) ?? ''
        if (owner === undefined || !['EPERM', 'EACCES', 'EINVAL'].includes(code)) throw error
        this.#degraded =
          `locks belong to uid ${process.getuid?.()} and not to ${SUPERVISOR_UID}: ` +
          `giving them away failed with ${code}, which needs root`
      }
    }
  }
}

function unusable(path: string, cause: unknown): Error {
  if (cause instanceof LockError || cause instanceof LockFolderError) return cause
  return new LockFolderError(`Cannot use lock "${path}": ${messageOf(cause)}`, { cause })
}
