import { createBackoff } from '../rmb/backoff.ts'
import type { createNotices } from '../rmb/notices.ts'
import { limited } from '../waiting.ts'
import { createLinks } from './links.ts'
import { REPLY_QUEUE } from './message.ts'
import { type RedisLink, RedisRefusal, type RedisReply } from './redis.ts'

/** Sends replies over a connection of its own: the reader's is busy waiting. */
export interface Replies {
  /**
   * Pushes a reply, again and again where Redis is away or cannot take it just now.
   *
   * @param expires Milliseconds since 1970 after which nobody wants it.
   */
  send(text: string, expires: number, signal: AbortSignal): Promise<void>
  /** One command for which there is no second attempt. */
  ask(args: readonly string[], signal: AbortSignal): Promise<RedisReply | undefined>
  close(): void
}

export interface RepliesOptions {
  connect(): Promise<RedisLink>
  readonly redisMs: number
  readonly retryMs: number
  readonly maxRetryMs: number
  readonly notices: ReturnType<typeof createNotices>
}

/** As many as a peer keeps in its own queues; the oldest go first (spec §10.1). */
const MAX_QUEUE = 10_000

/** No reply is held longer, for it takes the place of a request. */
const MAX_HELD_MS = 60_000

/** Refusals that pass: no memory, a replica, loading, a full disk, a failover. */
const PASSING = new Set([
  'OOM',
  'READONLY',
  'LOADING',
  'MISCONF',
  'BUSY',
  'MASTERDOWN',
  'NOREPLICAS',
])

export function createReplies({ connect, notices, ...options }: RepliesOptions): Replies {
  const { redisMs, retryMs, maxRetryMs } = options
  // Losses are told by the reader, whose connection is to the same Redis.
  const links = createLinks({ connect, retryMs, maxRetryMs, onLost: () => {}, onBack: () => {} })

  /** @returns Whether it is done with. */
  const attempt = async (link: RedisLink, text: string): Promise<boolean> => {
    try {
      const length = await link.send(['LPUSH', REPLY_QUEUE, text], redisMs)
      links.worked()
      if (Number(length) > MAX_QUEUE) {
        notices.warn('unread', `nobody reads ${REPLY_QUEUE}: the oldest replies are dropped`)
        await link.send(['LTRIM', REPLY_QUEUE, '0', `${MAX_QUEUE - 1}`], redisMs)
      }
      return true
    } catch (error) {
      if (!(error instanceof RedisRefusal)) {
        links.lost(link, error)
        return false
      }
      notices.warn(`reply-${error.kind}`, `Redis does not take a reply: ${error.message}`)
      // A replica stays one for as long as the connection lasts.
      if (error.kind === 'READONLY') links.lost(link, error)
      return !PASSING.has(error.kind)
    }
  }

  return {
    async send(text, expires, signal) {
      const held = Math.min(expires - Date.now(), MAX_HELD_MS)
      const limit = limited(Math.max(held, 0), signal)
      const backoff = createBackoff(retryMs, maxRetryMs)
      try {
        while (!limit.signal.aborted) {
          const link = await links.get(limit.signal)
          if (link && (await attempt(link, text))) return
          await backoff.pause(limit.signal)
        }
        notices.warn('unsent', 'a reply could not be sent before its request expired')
      } finally {
        limit.end()
      }
    },
    async ask(args, signal) {
      const link = await links.get(signal)
      try {
        return await link?.send(args, redisMs)
      } catch (error) {
        if (link && !(error instanceof RedisRefusal)) links.lost(link, error)
        return undefined
      }
    },
    close: () => links.close(),
  }
}
