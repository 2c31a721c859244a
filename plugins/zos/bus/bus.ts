import { pause } from '../../../src/pause.ts'
import { createService, type ServiceOptions } from '../rmb/service.ts'
import { unlessAborted } from '../waiting.ts'
import { readBusAddress } from './address.ts'
import { createLinks } from './links.ts'
import { readRequest, writeReply } from './message.ts'
import { createQueues, type Queues } from './queues.ts'
import { connectRedis, type RedisLink, RedisRefusal } from './redis.ts'
import { createReplies } from './replies.ts'

/** A service on the message bus of a local `rmb-peer` (spec §10.1). */
export interface Bus {
  /** Begins to connect; a Redis that is down is waited for in the background. */
  start(): void
  /** Takes no more requests, answers those it has, and closes. May be called again. */
  stop(): Promise<void>
  /** Why requests may not be answered just now; undefined when they are. */
  notReady(): string | undefined
}

export interface BusOptions extends ServiceOptions {
  /** See {@link readBusAddress}. */
  readonly url: string
  /** Largest request as it stands in the queue. Default: 8 MiB. */
  readonly maxRequestBytes?: number
  /** First and longest pause before connecting again. Default: 200 ms and 10 s. */
  readonly retryMs?: number
  readonly maxRetryMs?: number
  /** How long Redis may take for anything. Default: 10 s. */
  readonly redisMs?: number
  /** How long a key of another type is left alone. Default: 30 s. */
  readonly asideMs?: number
}

/**
 * How long Redis holds a BRPOP; whole seconds, for Redis before 6 knows no others. The first of a
 * connection is short: only its end shows that it is allowed.
 */
const BLOCK_S = { first: 1, later: 3 } as const

/** Pause between attempts to end a BRPOP. */
const UNBLOCK_MS = 50

/** @throws {TypeError} When the address is none. */
export function createBus(options: BusOptions): Bus {
  const address = readBusAddress(options.url)
  const { commands, metrics, redisMs = 10_000, maxRequestBytes = 8 << 20 } = options
  const { retryMs = 200, maxRetryMs = 10_000, asideMs = 30_000 } = options
  const service = createService(options, 'bus', 'the message bus')
  const { stopping, ended, pool, notices } = service
  let queues: Queues | undefined
  let reading: Promise<void> | undefined
  let clientId: string | undefined

  metrics?.gauge('cvmd_zos_bus_connected', 'Whether requests are read from the message bus.', () =>
    reader.reason() === undefined ? 1 : 0,
  )

  const reader = createLinks({
    connect: async () => {
      const link = await connectRedis(address, redisMs)
      // Lets `stop` end a BRPOP without losing what it may have taken. Not allowed is no matter.
      clientId = await link.send(['CLIENT', 'ID'], redisMs).then(String, () => undefined)
      return link
    },
    retryMs,
    maxRetryMs,
    onLost: (reason) => service.tell(`lost the message bus at ${address.label}: ${reason}`, 'warn'),
    onBack: () => service.tell(`the message bus at ${address.label} is back`, 'info'),
  })
  const connect = () => connectRedis(address, redisMs)
  const replies = createReplies({ connect, redisMs, retryMs, maxRetryMs, notices })

  const read = async ({ keys: nextKeys, served, setAside }: Queues) => {
    let latest: RedisLink | undefined
    while (!stopping.aborted) {
      await pool.free(stopping)
      if (stopping.aborted) return
      const keys = nextKeys()
      if (keys.length === 0) {
        await pause(asideMs, stopping)
        continue
      }
      const link = await reader.get(stopping)
      if (!link) return
      const seconds = link === latest ? BLOCK_S.later : BLOCK_S.first
      try {
        const popped = await link.send(['BRPOP', ...keys, `${seconds}`], seconds * 1000 + redisMs)
        latest = link
        reader.worked()
        if (!Array.isArray(popped)) continue
        served(String(popped[0]))
        const text = String(popped[1])
        pool.begin(() => handle(text))
      } catch (error) {
        if (stopping.aborted) return
        const other = isOtherType(error) ? await otherTypes(link, keys) : []
        if (other.length === 0) reader.lost(link, error)
        else sayAside(setAside(other))
      }
    }
  }

  const otherTypes = async (link: RedisLink, keys: readonly string[]): Promise<string[]> => {
    try {
      const types = await Promise.all(keys.map((key) => link.send(['TYPE', key], redisMs)))
      return keys.filter((_, at) => types[at] !== 'list' && types[at] !== 'none')
    } catch {
      // The connection is lost, or may not ask: then all of it is tried again after a pause.
      return []
    }
  }

  const sayAside = (keys: readonly string[]) => {
    for (const key of keys) {
      service.tell(
        `the key "${key}" at ${address.label} holds no list, so its command gets no requests: ` +
          `remove it with DEL ${key}`,
        'warn',
      )
    }
  }

  const handle = async (text: string): Promise<void> => {
    const size = Buffer.byteLength(text)
    if (size > maxRequestBytes) {
      return service.drop('too-large', `it has ${size} bytes, at most ${maxRequestBytes} are read`)
    }
    const request = readRequest(text, Date.now())
    if (request.kind === 'dropped') return service.drop(request.why, request.reason)
    const { head, expires } = request
    if (request.kind === 'refused') {
      service.count('refused')
      return await replies.send(writeReply(head, request.answer, Date.now()), expires, ended)
    }
    await service.respond(request, expires, (answer) =>
      replies.send(writeReply(head, answer, Date.now()), expires, ended),
    )
  }

  /** Ends the BRPOP that waits, again and again, for it may not have begun to wait. */
  const unblock = async (signal: AbortSignal) => {
    let waiting = reading !== undefined
    const over = (reading ?? Promise.resolve()).finally(() => {
      waiting = false
    })
    while (clientId !== undefined && waiting && !signal.aborted) {
      const asked = replies.ask(['CLIENT', 'UNBLOCK', clientId], signal)
      await Promise.race([over, asked.then(() => pause(UNBLOCK_MS, signal))])
    }
    await unlessAborted(over, signal)
  }

  const stop = async () => {
    await service.stop(unblock, pool.size)
    reader.close()
    replies.close()
    await reading
  }

  let stopped: Promise<void> | undefined
  return {
    start() {
      if (reading || stopping.aborted) return
      queues = createQueues(commands.names(), asideMs)
      reading = read(queues)
    },
    stop() {
      stopped ??= stop()
      return stopped
    },
    notReady() {
      const reason = reader.reason()
      if (reason !== undefined) return `the message bus at ${address.label}: ${reason}`
      const aside = queues?.aside() ?? []
      return aside.length > 0 ? `no list in Redis: ${aside.join(', ')}` : undefined
    },
  }
}

function isOtherType(error: unknown): boolean {
  return error instanceof RedisRefusal && error.kind === 'WRONGTYPE'
}
