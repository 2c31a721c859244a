import { clearTimeout, setTimeout } from 'node:timers'
import { type KmsConnection, KmsError } from '../client/connection.ts'

/** What is done with a KMS. It may be done twice. */
export type KmsWork<T> = (kms: KmsConnection) => Promise<T>

/** How a member is reached, and for how long nobody has to need it for the connection to end. */
export interface KmsMemberOptions {
  readonly url: string
  readonly connect: (url: string, signal: AbortSignal) => Promise<KmsConnection>
  readonly idleMs: number
}

/** Codes after which a connection is of no use; another may be. */
const LOST: ReadonlySet<string> = new Set([
  'KMS_UNREACHABLE',
  'KMS_TIMEOUT',
  'KMS_NOT_VERIFIED',
  'KMS_CHANGED',
])

/**
 * One KMS of a cluster: connected to when it is first needed, by all who need it then, and until
 * nobody did for a while.
 */
export class KmsMember {
  readonly #options: KmsMemberOptions
  readonly #closing = new AbortController()
  #open: KmsConnection | undefined
  #opening: Promise<KmsConnection> | undefined
  #users = 0
  #idle: ReturnType<typeof setTimeout> | undefined
  /** When it last failed, by `performance.now()`; undefined after a success. */
  #failedAt: number | undefined

  constructor(options: KmsMemberOptions) {
    this.#options = options
  }

  /** Whether it failed in the last so many milliseconds, and did nothing since. */
  failedWithin(ms: number): boolean {
    return this.#failedAt !== undefined && performance.now() - this.#failedAt < ms
  }

  /**
   * Does something with the KMS. One that has another certificate than on the connection that is
   * kept, as after its restart, is verified anew.
   *
   * @throws {KmsError} Whatever the work throws, too.
   */
  async use<T>(work: KmsWork<T>, signal: AbortSignal | undefined): Promise<T> {
    if (signal?.aborted) throw unwanted(this.#options.url)
    this.#users += 1
    clearTimeout(this.#idle)
    try {
      const result = await this.#use(work, signal)
      this.#failedAt = undefined
      return result
    } catch (error) {
      const failed = error instanceof KmsError && error.code !== 'KMS_ABORTED'
      if (failed) this.#failedAt = performance.now()
      throw error
    } finally {
      this.#users -= 1
      if (this.#users === 0) this.#waitForUsers()
    }
  }

  /** Ends what is under way; the member is of no use afterwards. */
  close(): void {
    this.#closing.abort()
    clearTimeout(this.#idle)
    this.#drop(this.#open)
  }

  async #use<T>(work: KmsWork<T>, signal: AbortSignal | undefined): Promise<T> {
    const kept = this.#open
    if (kept) {
      try {
        return await this.#on(kept, work, signal)
      } catch (error) {
        if (!isStale(error)) throw error
      }
    }
    const fresh = await untilAborted(this.#connected(), this.#options.url, signal)
    return this.#on(fresh, work, signal)
  }

  async #on<T>(
    connection: KmsConnection,
    work: KmsWork<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    try {
      return await work(connection)
    } catch (error) {
      if (!(error instanceof KmsError)) throw error
      if (LOST.has(error.code)) this.#drop(connection)
      const isWanted = !signal?.aborted && !this.#closing.signal.aborted
      if (error.code !== 'KMS_ABORTED' || !isWanted) throw error
      // Somebody else, for whom it failed, has closed the connection.
      const why = `Cannot ask KMS ${connection.url}: the connection ended`
      throw new KmsError('KMS_UNREACHABLE', why, { cause: error })
    }
  }

  /** Shared by all who wait, so that none of them may end it. */
  #connected(): Promise<KmsConnection> {
    if (this.#open) return Promise.resolve(this.#open)
    this.#opening ??= this.#connect().finally(() => {
      this.#opening = undefined
    })
    return this.#opening
  }

  async #connect(): Promise<KmsConnection> {
    const { url, connect } = this.#options
    const { signal } = this.#closing
    if (signal.aborted) throw unwanted(url)
    const connection = await connect(url, signal)
    if (signal.aborted) {
      connection.close()
      throw unwanted(url)
    }
    this.#open = connection
    if (this.#users === 0) this.#waitForUsers()
    return connection
  }

  #drop(connection: KmsConnection | undefined): void {
    if (connection === undefined || this.#open !== connection) return
    this.#open = undefined
    connection.close()
  }

  #waitForUsers(): void {
    clearTimeout(this.#idle)
    if (this.#closing.signal.aborted) return
    this.#idle = setTimeout(() => this.#drop(this.#open), this.#options.idleMs)
    this.#idle.unref()
  }
}

/** Whether another connection may do what a kept one did not. */
function isStale(error: unknown): boolean {
  if (!(error instanceof KmsError)) return false
  return error.code === 'KMS_CHANGED' || error.cause instanceof KmsError
}

async function untilAborted<T>(
  work: Promise<T>,
  url: string,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (!signal) return work
  // Nobody else may be there to hear of its failure.
  work.catch(() => undefined)
  let aborted: (() => void) | undefined
  try {
    const ended = new Promise<never>((_resolve, reject) => {
      aborted = () => reject(unwanted(url))
      signal.addEventListener('abort', aborted)
    })
    return await Promise.race([work, ended])
  } finally {
    if (aborted) signal.removeEventListener('abort', aborted)
  }
}

const unwanted = (url: string): KmsError =>
  new KmsError('KMS_ABORTED', `Cannot connect to KMS ${url}: it is not wanted any more`)
