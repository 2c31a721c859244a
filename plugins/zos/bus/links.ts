import { createBackoff } from '../rmb/backoff.ts'
import { unlessAborted } from '../waiting.ts'
import type { RedisLink } from './redis.ts'

/** One connection to Redis that is made anew whenever it is wanted and not there. */
export interface Links {
  /**
   * Gives the connection, or makes it, with pauses between attempts that go on until `close`.
   *
   * @returns Undefined when the signal aborts first, and after `close`.
   */
  get(signal: AbortSignal): Promise<RedisLink | undefined>
  /** Tells that it did what it should, so that the next loss is followed by a short pause. */
  worked(): void
  /** Tells that it is of no use; the next {@link get} makes another. */
  lost(link: RedisLink, error: unknown): void
  /** Ends it for good. May be called again. */
  close(): void
  /** Why there is no connection that works; undefined while there is. */
  reason(): string | undefined
}

export interface LinksOptions {
  connect(): Promise<RedisLink>
  readonly retryMs: number
  readonly maxRetryMs: number
  /** Once for each loss, and once for each return. */
  onLost(reason: string): void
  onBack(): void
}

export function createLinks(options: LinksOptions): Links {
  const backoff = createBackoff(options.retryMs, options.maxRetryMs)
  let link: RedisLink | undefined
  let making: Promise<RedisLink | undefined> | undefined
  let reason: string | undefined = 'not connected yet'
  let told = false
  const closing = new AbortController()
  let failed = false

  const fail = (error: unknown) => {
    failed = true
    reason = error instanceof Error ? error.message : String(error)
    if (told) return
    told = true
    options.onLost(reason)
  }
  const worked = () => {
    failed = false
    backoff.reset()
    reason = undefined
    if (told) options.onBack()
    told = false
  }
  const make = async (): Promise<RedisLink | undefined> => {
    while (!closing.signal.aborted) {
      // A connection that was lost is followed by a pause too, or one that is always lost would spin.
      if (failed) await backoff.pause(closing.signal)
      if (closing.signal.aborted) break
      try {
        const made = await options.connect()
        if (!closing.signal.aborted) {
          link = made
          return made
        }
        made.close()
      } catch (error) {
        fail(error)
      }
    }
    return undefined
  }
  return {
    async get(signal) {
      if (link) return link
      making ??= make().finally(() => {
        making = undefined
      })
      return await unlessAborted(making, signal)
    },
    worked,
    lost(which, error) {
      which.close()
      if (which !== link) return
      link = undefined
      fail(error)
    },
    close() {
      closing.abort()
      link?.close()
      link = undefined
    },
    reason: () => reason,
  }
}
