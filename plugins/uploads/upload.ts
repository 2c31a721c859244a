import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, messageOf } from '../../src/errors.ts'
import { removeLeftOvers } from '../../src/files/atomic-file.ts'
import { copy } from './chunks.ts'
import { assertConditions, type Conditions } from './conditions.ts'
import type { FileConfig } from './config.ts'
import { asFailure, refused, UploadFailure } from './failure.ts'
import { Fingerprint } from './fingerprint.ts'
import type { Lock } from './lock.ts'
import { findOwner } from './owner.ts'
import { type Incoming, receive } from './receive.ts'
import { type Attributes, discard, publish, type Staged, stage } from './replace.ts'
import { assertSameFolder, locate, type Target } from './target.ts'
import { verify } from './verify.ts'
import { type Version, Versions } from './versions.ts'

/** What an upload shares with the others. */
export interface UploadParts {
  /** The plugin's own folder. */
  readonly stateDir: string
  /** One at a time replaces a file, even where two names share it. */
  readonly lock: Lock
  /** Gives up what is under way. */
  readonly signal: AbortSignal
}

/** What a caller asks of one replacement. */
export interface Guards {
  readonly conditions: Conditions
  /** SHA-256 in hex the content must have. */
  readonly promised: string | undefined
}

/** A content that is in place, and durable. */
export interface Stored {
  readonly size: number
  /** In hex. */
  readonly sha256: string
  /** Whether there was a file before. */
  readonly replaced: boolean
  /** False where the old file had to be overwritten in place. */
  readonly atomic: boolean
}

/** A file as it is. */
export interface Description {
  readonly size: number | undefined
  readonly sha256: string | undefined
  /** Permission bits in octal, `0644`. */
  readonly mode: string | undefined
  /** Unix time in milliseconds. */
  readonly modifiedAt: number | undefined
  readonly versions: readonly Version[]
  /** Why an upload would fail just now, as far as the path tells. */
  readonly problem: string | undefined
}

/**
 * One `[plugins.uploads.files.NAME]`. Bodies of several uploads arrive side by side, each in a
 * temporary file of its own, so that a slow one holds nobody up; they are put in place one at a
 * time, and the one that was complete last stays.
 */
export class Upload {
  readonly name: string
  readonly config: FileConfig
  readonly #parts: UploadParts
  readonly #versions: Versions
  readonly #fingerprint = new Fingerprint()
  readonly #work = new Set<Promise<Stored>>()
  #attributes: Attributes

  constructor(name: string, config: FileConfig, parts: UploadParts) {
    this.name = name
    this.config = config
    this.#parts = parts
    this.#versions = new Versions(join(parts.stateDir, 'versions', folderName(name)))
    const mode = config.mode === undefined ? undefined : Number.parseInt(config.mode, 8)
    this.#attributes = { mode, owner: undefined }
  }

  /**
   * Looks the owner up and collects what an earlier process left behind.
   *
   * @throws {Error} When the configured owner does not exist.
   */
  async start(): Promise<void> {
    const { owner } = this.config
    if (owner !== undefined) {
      this.#attributes = { ...this.#attributes, owner: await findOwner(owner) }
    }
    try {
      const { path } = await this.#locate()
      await removeLeftOvers(path)
      await this.#versions.removeLeftOvers()
    } catch (error) {
      // A path that cannot be had now may be there when an upload comes; that one reports it.
      if (errnoOf(error) === undefined && !(error instanceof UploadFailure)) throw error
    }
  }

  /** Resolves when nothing is under way any more. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#work)
  }

  /**
   * Replaces the file by a body.
   *
   * @throws {UploadFailure} The old file is as it was.
   */
  async put(incoming: Incoming, guards: Guards): Promise<Stored> {
    if (this.#work.size >= this.config.max_parallel) {
      throw refused(
        429,
        'UPLOAD_BUSY',
        `Cannot start upload "${this.name}": ${this.#work.size} are under way`,
        { 'retry-after': '1' },
      )
    }
    return this.#track(this.#put(incoming, guards))
  }

  /**
   * Puts a previous content back; the present one becomes a version in turn.
   *
   * @param to SHA-256 in hex of the version; default the newest that differs from the file.
   * @throws {UploadFailure} 404 `UPLOAD_NO_VERSION`, or what kept the file from being written.
   */
  rollback(to: string | undefined): Promise<Stored> {
    return this.#track(this.#rollback(to))
  }

  async describe(): Promise<Description> {
    const versions = await this.#versions.list()
    try {
      const { path } = await this.#locate()
      const snapshot = await this.#fingerprint.read(path)
      return {
        size: snapshot && Number(snapshot.stat.size),
        sha256: snapshot?.sha256,
        mode: snapshot && octal(snapshot.stat.mode),
        modifiedAt: snapshot && Number(snapshot.stat.mtimeMs),
        versions,
        problem: undefined,
      }
    } catch (thrown) {
      const problem = messageOf(asFailure(thrown, this.name, this.config.path))
      const unknown = { size: undefined, sha256: undefined, mode: undefined, modifiedAt: undefined }
      return { ...unknown, versions, problem }
    }
  }

  async #track(work: Promise<Stored>): Promise<Stored> {
    this.#work.add(work)
    try {
      return await work
    } catch (thrown) {
      throw asFailure(thrown, this.name, this.config.path)
    } finally {
      this.#work.delete(work)
    }
  }

  async #put(incoming: Incoming, { conditions, promised }: Guards): Promise<Stored> {
    const target = await this.#locate()
    // Here to spare the caller the sending, and again when it counts.
    await this.#assertConditions(target, conditions)
    return this.#staged(target, async (staged) => {
      const { name, config } = this
      const { signal, lock } = this.#parts
      const received = await receive(incoming, staged.handle, {
        name,
        maxBytes: config.max_bytes,
        idleMs: config.idle_timeout_s * 1000,
        signal,
      })
      if (promised !== undefined && promised !== received.sha256) {
        throw refused(
          422,
          'UPLOAD_DIGEST_MISMATCH',
          `Cannot accept upload "${name}": its SHA-256 is ${received.sha256}, not ${promised}`,
        )
      }
      if (config.verify) {
        const timeoutMs = config.verify_timeout_s * 1000
        await verify(staged.path, { name, argv: config.verify, timeoutMs, signal })
      }
      return lock.run(target.path, async () => {
        const now = await this.#locate()
        assertSameFolder(target, now, name)
        await this.#assertConditions(now, conditions)
        return { ...received, ...(await this.#publish(staged, now, received.sha256)) }
      })
    })
  }

  async #rollback(to: string | undefined): Promise<Stored> {
    const { path } = await this.#locate()
    return this.#parts.lock.run(path, async () => {
      const target = await this.#locate()
      const version = await this.#pick(target, to)
      return this.#staged(target, async (staged) => {
        await restore(version, staged, this.name)
        const done = await this.#publish(staged, target, version.sha256)
        return { size: version.size, sha256: version.sha256, ...done }
      })
    })
  }

  async #pick({ existing, path }: Target, to: string | undefined): Promise<Version> {
    const current = existing && (await this.#fingerprint.read(path))
    const version = (await this.#versions.list()).find(({ sha256 }) =>
      to === undefined ? sha256 !== current?.sha256 : sha256 === to,
    )
    if (version) return version
    const wanted = to === undefined ? 'no previous version' : `no version ${to}`
    throw refused(
      404,
      'UPLOAD_NO_VERSION',
      `Cannot roll back upload "${this.name}": ${wanted} is kept, "keep" is ${this.config.keep}`,
    )
  }

  async #publish(
    staged: Staged,
    target: Target,
    sha256: string,
  ): Promise<Pick<Stored, 'replaced' | 'atomic'>> {
    const { keep } = this.config
    if (keep > 0 && target.existing) await this.#versions.save(target.path)
    const atomic = await publish(staged, target, this.#attributes, this.name)
    // A version too many does no harm, and the next upload tries again.
    await this.#versions.prune(keep, sha256).catch(() => undefined)
    return { replaced: target.existing !== undefined, atomic }
  }

  async #staged<T>(target: Target, use: (staged: Staged) => Promise<T>): Promise<T> {
    const staged = await stage(target, this.#attributes, join(this.#parts.stateDir, 'spool'))
    try {
      return await use(staged)
    } finally {
      await discard(staged)
    }
  }

  async #assertConditions(target: Target, conditions: Conditions): Promise<void> {
    if (conditions.ifMatch === undefined && conditions.ifNoneMatch === undefined) return
    const current = target.existing && (await this.#fingerprint.read(target.path))
    assertConditions(conditions, current?.sha256, this.name)
  }

  #locate(): Promise<Target> {
    const { path, follow_symlinks } = this.config
    return locate({ name: this.name, path, followLinks: follow_symlinks })
  }
}

/** Copies a version, making sure that it still is what its name says. */
async function restore({ path, sha256 }: Version, staged: Staged, name: string): Promise<void> {
  const hash = createHash('sha256')
  const from = await open(path, 'r')
  try {
    await copy(from, staged.handle, { observe: (chunk) => hash.update(chunk) })
  } finally {
    await from.close()
  }
  if (hash.digest('hex') === sha256) return
  throw refused(
    500,
    'UPLOAD_VERSION_DAMAGED',
    `Cannot roll back upload "${name}": the version ${sha256} in the state directory is damaged`,
  )
}

/** A name as a file name: reversible, and neither `.` nor `..` nor hidden. */
function folderName(name: string): string {
  return encodeURIComponent(name).replaceAll('.', '%2E')
}

function octal(mode: bigint): string {
  return (mode & 0o7777n).toString(8).padStart(4, '0')
}
