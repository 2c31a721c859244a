import type { EventSink } from '../../../src/events/sink.ts'
import type { PluginMetrics } from '../../../src/metrics.ts'
import type { Commands } from '../commands/command.ts'
import { type Registry, RegistryError } from '../registry/registry.ts'
import { beginAnswer } from '../rmb/answer.ts'
import { createBackoff, limited, unlessAborted } from '../rmb/backoff.ts'
import type { Identity } from '../rmb/identity.ts'
import { createNotices, type NoticeLog } from '../rmb/notices.ts'
import { createPool } from '../rmb/pool.ts'
import { relayToken } from '../rmb/token.ts'
import { readRelayAddress } from './address.ts'
import { createRelayConnection, type RelayConnection } from './connection.ts'
import { MessageDropped, type Request, readIncoming } from './incoming.ts'
import { differences } from './own-twin.ts'
import { payloadOf, replyTo } from './reply.ts'
import { createSeen } from './seen.ts'
import { createTwins } from './twins.ts'

/** This twin on the grid's message bus, over relays (spec §10.4); answers requests, sends none. */
export interface RelayClient {
  /** Begins to connect; relays and a registry that are away are waited for in the background. */
  start(): void
  /** Takes no more requests, answers those it has, and closes. May be called again. */
  stop(): Promise<void>
  /** Why requests may not be answered just now; undefined when at least one relay is connected. */
  notReady(): string | undefined
}

export interface RelayClientOptions {
  /** `wss://relay.grid.tf`, one or more. */
  readonly urls: readonly string[]
  readonly identity: Identity
  readonly twinId: number
  /** Tells apart several connections of one twin. Default: none, as a node has. */
  readonly session?: string
  readonly registry: Pick<Registry, 'twin' | 'onChange'>
  readonly commands: Pick<Commands, 'dispatch' | 'names'>
  readonly log: NoticeLog
  readonly events?: Pick<EventSink, 'append'>
  readonly metrics?: PluginMetrics
  /** Requests worked on at a time. Default: 16. */
  readonly workers?: number
  /** Messages that may wait for a place; beyond them they are dropped. Default: 256. */
  readonly maxWaiting?: number
  /** Bytes of all that wait. Default: 32 MiB. */
  readonly maxWaitingBytes?: number
  /** Longest time for a command. Default: 30 s, and never beyond the expiry of the request. */
  readonly deadlineMs?: number
  /** Largest envelope that is read. Default: 8 MiB; four times as much ends the connection. */
  readonly maxRequestBytes?: number
  /** Largest reply before encryption. Default: 8 MiB. */
  readonly maxReplyBytes?: number
  /** Messages remembered so that none is answered twice. Default: 20,000. */
  readonly maxSeen?: number
  /** How long `stop` waits for requests at work. Default: 10 s. */
  readonly drainMs?: number
  /** First and longest pause before connecting again. Default: 1 s and 60 s. */
  readonly retryMs?: number
  readonly maxRetryMs?: number
  /** See {@link createRelayConnection}. Defaults: 30 s, 10 s and 20 s. */
  readonly stableMs?: number
  readonly connectMs?: number
  readonly pingMs?: number
}

/** For the last words of commands that are told to end. */
const LAST_MS = 1000

/** No reply waits longer for a relay. */
const MAX_HELD_MS = 60_000

interface Waiting {
  readonly bytes: Uint8Array
  readonly from: RelayConnection
}

/** @throws {TypeError} When an address is none, or there is none at all. */
export function createRelayClient(options: RelayClientOptions): RelayClient {
  const { identity, twinId, session, registry, commands, log } = options
  const { workers = 16, maxWaiting = 256, maxWaitingBytes = 32 << 20, drainMs = 10_000 } = options
  const { deadlineMs = 30_000, maxRequestBytes = 8 << 20, maxReplyBytes = 8 << 20 } = options
  const { retryMs = 1000, maxRetryMs = 60_000, stableMs = 30_000 } = options
  const { connectMs = 10_000, pingMs = 20_000 } = options
  const addresses = options.urls.map(readRelayAddress)
  if (addresses.length === 0) throw new TypeError('Cannot use no relay: name at least one')
  const own = { identity, address: { twin: twinId, ...(session && { connection: session }) } }
  const notices = createNotices(log)
  const seen = createSeen(options.maxSeen ?? 20_000)
  const twins = createTwins(registry)
  /** The three steps of `stop`: no more requests, no more commands, nothing at all. */
  const stopping = new AbortController()
  const halting = new AbortController()
  const ended = new AbortController()
  const pool = createPool(workers, (fault) => {
    log.error(`a message of a relay failed: ${stackOf(fault)}`)
  })
  const waiting: Waiting[] = []
  let waitingBytes = 0
  let taking = false
  let opened = () => {}
  let anyOpen: Promise<void> | undefined
  let known: ReadonlySet<string> = new Set()

  const messages = options.metrics?.counter(
    'cvmd_zos_relay_messages_total',
    'Messages that came over relays, by what became of them.',
  )
  const durations = options.metrics?.histogram(
    'cvmd_zos_relay_request_duration_seconds',
    'Time from a request over a relay to its answer, by command.',
  )
  options.metrics?.gauge(
    'cvmd_zos_relay_requests_in_flight',
    'Requests of relays that are being worked on, or wait for it.',
    () => pool.size() + waiting.length,
  )
  options.metrics?.gauge(
    'cvmd_zos_relays_connected',
    'Relays that are connected.',
    () => connections.filter((connection) => connection.isOpen()).length,
  )

  const tell = (message: string, level: 'info' | 'warn') => {
    if (stopping.signal.aborted) return
    log[level](message)
    options.events?.append(message, { level })
  }

  const connections = addresses.map((address) => {
    const connection: RelayConnection = createRelayConnection({
      ...address,
      token: () => relayToken(identity, { twinId, ...(session && { session }) }),
      onMessage: (bytes) => arrive({ bytes, from: connection }),
      onLost: (reason) => tell(`lost the relay ${address.host}: ${reason}`, 'warn'),
      onOpen: () => {
        tell(`connected to the relay ${address.host} as twin ${twinId}`, 'info')
        opened()
      },
      retryMs,
      maxRetryMs,
      stableMs,
      connectMs,
      pingMs,
      maxMessageBytes: 4 * maxRequestBytes,
    })
    return connection
  })

  const drop = (kind: string, reason: string) => {
    messages?.inc({ result: kind })
    notices.warn(kind, `dropped a message of a relay: ${reason}`)
  }

  const arrive = (message: Waiting) => {
    const { length } = message.bytes
    if (stopping.signal.aborted) return
    if (length > maxRequestBytes) {
      return drop('too-large', `it has ${length} bytes, at most ${maxRequestBytes} are read`)
    }
    if (waiting.length >= maxWaiting || waitingBytes + length > maxWaitingBytes) {
      return drop('busy', 'too many wait already')
    }
    waiting.push(message)
    waitingBytes += length
    void take()
  }

  const take = async () => {
    if (taking) return
    taking = true
    while (waiting.length > 0) {
      await pool.free(ended.signal)
      const next = waiting.shift()
      if (!next || ended.signal.aborted) break
      waitingBytes -= next.bytes.length
      pool.begin(() => handle(next))
    }
    taking = false
  }

  const handle = async ({ bytes, from }: Waiting): Promise<void> => {
    let request: Request
    try {
      request = await readIncoming(bytes, Date.now(), {
        twinId,
        session,
        seen,
        twin: (id) => twins.get(id, halting.signal),
      })
    } catch (error) {
      if (error instanceof MessageDropped) return drop(error.kind, error.message)
      if (isRegistryError(error)) return drop('registry', error.message)
      throw error
    }
    const payload = payloadOf(request, identity)
    if (typeof payload !== 'string') {
      messages?.inc({ result: 'refused' })
      return await send(request, replyTo(request, payload, own, Date.now()), from)
    }
    const { command, source, expires } = request
    const begun = performance.now()
    const { answer, ended: over } = beginAnswer(
      { command, twin: source.twin, payload },
      {
        commands,
        deadlineMs: Math.min(deadlineMs, expires - Date.now()),
        maxReplyBytes,
        signal: halting.signal,
        onFault: (name, fault) => log.error(`${name} failed: ${stackOf(fault)}`),
      },
    )
    const result = await answer
    const seconds = (performance.now() - begun) / 1000
    durations?.observe(seconds, { command: known.has(command) ? command : '' })
    messages?.inc({ result: result.ok ? 'answered' : 'refused' })
    await send(request, replyTo(request, result, own, Date.now()), from)
    // A command that does not heed its signal keeps its place, or there would be no bound.
    await over
  }

  /** Over the relay it came from if that is there, else over any, when there is one. */
  const send = async ({ expires }: Request, reply: Uint8Array, from: RelayConnection) => {
    const limit = limited(Math.min(expires - Date.now(), MAX_HELD_MS), ended.signal)
    try {
      while (!limit.signal.aborted) {
        if ([from, ...connections].some((connection) => connection.send(reply))) return
        anyOpen ??= new Promise((resolve) => {
          opened = () => {
            anyOpen = undefined
            resolve()
          }
        })
        await unlessAborted(anyOpen, limit.signal)
      }
      notices.warn('unsent', 'a reply could not be sent before its request expired')
    } finally {
      limit.end()
    }
  }

  let compared = ''
  /** Tells what differs from the registry, once for each change. */
  const compare = async () => {
    const backoff = createBackoff(retryMs, maxRetryMs)
    while (!stopping.signal.aborted) {
      try {
        const twin = await registry.twin(twinId, stopping.signal)
        const found = differences(
          twinId,
          twin,
          identity,
          addresses.map(({ host }) => host),
        )
        if (found.join() === compared) return
        compared = found.join()
        for (const difference of found) tell(difference, 'warn')
        return
      } catch (error) {
        if (stopping.signal.aborted) return
        const reason = error instanceof Error ? error.message : String(error)
        notices.warn('own-twin', `cannot compare twin ${twinId} with the registry: ${reason}`)
        await backoff.pause(stopping.signal)
      }
    }
  }

  let ignoreChanges = () => {}
  const stop = async () => {
    stopping.abort()
    ignoreChanges()
    const limit = limited(drainMs)
    while (pool.size() + waiting.length > 0 && !limit.signal.aborted) {
      await pool.drained(limit.signal)
    }
    limit.end()
    halting.abort(new DOMException('The node is stopping', 'AbortError'))
    const last = limited(LAST_MS)
    await pool.drained(last.signal)
    last.end()
    const left = pool.size() + waiting.length
    if (left > 0) log.warn(`stopped with ${left} messages of relays at work`)
    ended.abort()
    await Promise.all(connections.map((connection) => connection.stop()))
  }

  let started = false
  let stopped: Promise<void> | undefined
  return {
    start() {
      if (started || stopping.signal.aborted) return
      started = true
      known = new Set(commands.names())
      for (const connection of connections) connection.start()
      let comparing = compare()
      ignoreChanges = registry.onChange(() => {
        twins.forget()
        comparing = comparing.then(compare)
      })
    },
    stop() {
      stopped ??= stop()
      return stopped
    },
    notReady() {
      if (connections.some((connection) => connection.isOpen())) return undefined
      const reasons = connections.map(({ host, reason }) => `${host}: ${reason()}`)
      return `no relay is connected (${reasons.join('; ')})`
    },
  }
}

function isRegistryError(error: unknown): error is Error {
  return error instanceof RegistryError || (error as Error)?.name === 'AbortError'
}

function stackOf(fault: unknown): string {
  return fault instanceof Error ? (fault.stack ?? fault.message) : String(fault)
}
