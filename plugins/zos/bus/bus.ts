import type { EventSink } from '../../../src/events/sink.ts'
import type { PluginMetrics } from '../../../src/metrics.ts'
import type { Commands } from '../commands/command.ts'
import { beginAnswer } from '../rmb/answer.ts'
import { limited, unlessAborted, waitFor } from '../rmb/backoff.ts'
import { createNotices, type NoticeLog } from '../rmb/notices.ts'
import { createPool } from '../rmb/pool.ts'
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

export interface BusOptions {
  /** See {@link readBusAddress}. */
  readonly url: string
  readonly commands: Pick<Commands, 'names' | 'dispatch'>
  readonly log: NoticeLog
  readonly events?: Pick<EventSink, 'append'>
  readonly metrics?: PluginMetrics
  /** Requests worked on at a time; more stay in Redis. Default: 16. */
  readonly workers?: number
  /** Longest time for a command. Default: 30 s, and never beyond the expiry of the request. */
  readonly deadlineMs?: number
  /** Largest request as it stands in the queue. Default: 8 MiB. */
  readonly maxRequestBytes?: number
  /** Largest reply before base64. Default: 8 MiB. */
  readonly maxReplyBytes?: number
  /** How long `stop` waits for requests at work. Default: 10 s. */
  readonly drainMs?: number
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

/** For the last words of commands that are told to end. */
const LAST_MS = 1000

/** @throws {TypeError} When the address is none. */
export function createBus(options: BusOptions): Bus {
  const address = readBusAddress(options.url)
  const { commands, log, workers = 16, redisMs = 10_000, drainMs = 10_000 } = options
  const { deadlineMs = 30_000, maxRequestBytes = 8 << 20, maxReplyBytes = 8 << 20 } = options
  const { retryMs = 200, maxRetryMs = 10_000, asideMs = 30_000 } = options
  const notices = createNotices(log)
  /** The three steps of `stop`: no more requests, no more commands, nothing at all. */
  const stopping = new AbortController()
  const halting = new AbortController()
  const ended = new AbortController()
  const pool = createPool(workers, (fault) => {
    log.error(`a request of the message bus failed: ${stackOf(fault)}`)
  })
  let queues: Queues | undefined
  let reading: Promise<void> | undefined
  let clientId: string | undefined

  const requests = options.metrics?.counter(
    'cvmd_zos_bus_requests_total',
    'Requests taken from the message bus, by what became of them.',
  )
  const durations = options.metrics?.histogram(
    'cvmd_zos_bus_request_duration_seconds',
    'Time from a request taken from the message bus to its answer, by command.',
  )
  options.metrics?.gauge(
    'cvmd_zos_bus_requests_in_flight',
    'Requests of the message bus that are being worked on.',
    () => pool.size(),
  )
  options.metrics?.gauge(
    'cvmd_zos_bus_connected',
    'Whether requests are read from the message bus.',
    () => (reader.reason() === undefined ? 1 : 0),
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
    onLost: (reason) => tell(`lost the message bus at ${address.label}: ${reason}`, 'warn'),
    onBack: () => tell(`the message bus at ${address.label} is back`, 'info'),
  })
  const replies = createReplies({
    connect: () => connectRedis(address, redisMs),
    redisMs,
    retryMs,
    maxRetryMs,
    notices,
  })

  const tell = (message: string, level: 'info' | 'warn') => {
    if (ended.signal.aborted) return
    log[level](message)
    options.events?.append(message, { level })
  }

  const read = async ({ keys: nextKeys, served, setAside }: Queues) => {
    let latest: RedisLink | undefined
    while (!stopping.signal.aborted) {
      await pool.free(stopping.signal)
      if (stopping.signal.aborted) return
      const keys = nextKeys()
      if (keys.length === 0) {
        await waitFor(asideMs, stopping.signal)
        continue
      }
      const link = await reader.get(stopping.signal)
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
        if (stopping.signal.aborted) return
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
      tell(
        `the key "${key}" at ${address.label} holds no list, so its command gets no requests: ` +
          `remove it with DEL ${key}`,
        'warn',
      )
    }
  }

  const handle = async (text: string): Promise<void> => {
    const size = Buffer.byteLength(text)
    if (size > maxRequestBytes) {
      requests?.inc({ result: 'too-large' })
      notices.warn(
        'too-large',
        `dropped a request of ${size} bytes from the message bus, at most ${maxRequestBytes} are read`,
      )
      return
    }
    const request = readRequest(text, Date.now())
    if (request.kind === 'dropped') {
      requests?.inc({ result: request.why })
      notices.warn(request.why, `dropped a request from the message bus: ${request.reason}`)
      return
    }
    const { head, expires } = request
    if (request.kind === 'refused') {
      requests?.inc({ result: 'refused' })
      await replies.send(writeReply(head, request.answer, Date.now()), expires, ended.signal)
      return
    }
    const begun = performance.now()
    const { answer, ended: over } = beginAnswer(request, {
      commands,
      deadlineMs: Math.min(deadlineMs, expires - Date.now()),
      maxReplyBytes,
      signal: halting.signal,
      onFault: (command, fault) => log.error(`${command} failed: ${stackOf(fault)}`),
    })
    const result = await answer
    const seconds = (performance.now() - begun) / 1000
    durations?.observe(seconds, { command: known.has(request.command) ? request.command : '' })
    requests?.inc({ result: result.ok ? 'answered' : 'refused' })
    await replies.send(writeReply(head, result, Date.now()), expires, ended.signal)
    // A command that does not heed its signal keeps its place, or there would be no bound.
    await over
  }
  let known: ReadonlySet<string> = new Set()

  const stop = async () => {
    stopping.abort()
    const limit = limited(drainMs)
    await unblock(limit.signal)
    await pool.drained(limit.signal)
    limit.end()
    halting.abort(new DOMException('The node is stopping', 'AbortError'))
    const last = limited(LAST_MS)
    await pool.drained(last.signal)
    last.end()
    if (pool.size() > 0) {
      log.warn(`stopped with ${pool.size()} requests of the message bus at work`)
    }
    ended.abort()
    reader.close()
    replies.close()
    await reading
  }

  /** Ends the BRPOP that waits, again and again, for it may not have begun to wait. */
  const unblock = async (signal: AbortSignal) => {
    let waiting = reading !== undefined
    const over = (reading ?? Promise.resolve()).finally(() => {
      waiting = false
    })
    while (clientId !== undefined && waiting && !signal.aborted) {
      const asked = replies.ask(['CLIENT', 'UNBLOCK', clientId], signal)
      await Promise.race([over, asked.then(() => waitFor(UNBLOCK_MS, signal))])
    }
    await unlessAborted(over, signal)
  }

  let stopped: Promise<void> | undefined
  return {
    start() {
      if (reading || stopping.signal.aborted) return
      const names = commands.names()
      known = new Set(names)
      queues = createQueues(names, asideMs)
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

function stackOf(fault: unknown): string {
  return fault instanceof Error ? (fault.stack ?? fault.message) : String(fault)
}
