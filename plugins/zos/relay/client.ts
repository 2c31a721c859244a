import type { Registry } from '../registry/registry.ts'
import type { Envelope } from '../rmb/envelope.ts'
import type { Identity } from '../rmb/identity.ts'
import { createService, DEFAULT_WORKERS, type ServiceOptions } from '../rmb/service.ts'
import { relayToken } from '../rmb/token.ts'
import { limited, unlessAborted } from '../waiting.ts'
import { readRelayAddress } from './address.ts'
import { createRelayConnection, type RelayConnection } from './connection.ts'
import { MessageDropped, type Request, readEnvelope, readIncoming } from './incoming.ts'
import { createLines } from './lines.ts'
import { compareOwnTwin } from './own-twin.ts'
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

export interface RelayClientOptions extends ServiceOptions {
  /** `wss://relay.grid.tf`, one or more. */
  readonly urls: readonly string[]
  readonly identity: Identity
  readonly twinId: number
  /** Tells apart several connections of one twin. Default: none, as a node has. */
  readonly session?: string
  readonly registry: Pick<Registry, 'twin' | 'onChange'>
  /** Messages that may wait for a place; of more, those of whoever sent most are dropped. Default: 256. */
  readonly maxWaiting?: number
  /** Bytes of all that wait. Default: 32 MiB. */
  readonly maxWaitingBytes?: number
  /** Largest envelope that is read. Default: 8 MiB; four times as much ends the connection. */
  readonly maxRequestBytes?: number
  /** Messages remembered so that none is answered twice. Default: 20,000. */
  readonly maxSeen?: number
  /** First and longest pause before connecting again. Default: 1 s and 60 s. */
  readonly retryMs?: number
  readonly maxRetryMs?: number
  /** See {@link createRelayConnection}. Defaults: 30 s, 10 s and 20 s. */
  readonly stableMs?: number
  readonly connectMs?: number
  readonly pingMs?: number
}

/** No reply waits longer for a relay. */
const MAX_HELD_MS = 60_000

interface Waiting {
  readonly envelope: Envelope
  readonly from: RelayConnection
}

/** @throws {TypeError} When an address is none, or there is none at all. */
export function createRelayClient(options: RelayClientOptions): RelayClient {
  const { identity, twinId, session, registry, metrics } = options
  const {
    workers = DEFAULT_WORKERS,
    maxWaiting = 256,
    maxWaitingBytes = 32 << 20,
    maxRequestBytes = 8 << 20,
  } = options
  const { retryMs = 1000, maxRetryMs = 60_000, stableMs = 30_000 } = options
  const { connectMs = 10_000, pingMs = 20_000 } = options
  const addresses = options.urls.map(readRelayAddress)
  if (addresses.length === 0) throw new TypeError('Cannot use no relay: name at least one')
  const own = { identity, address: { twin: twinId, ...(session && { connection: session }) } }
  const service = createService(options, 'relay', 'the relays')
  const { stopping, halting, ended, pool, notices, tell } = service
  const seen = createSeen(options.maxSeen ?? 20_000)
  const twins = createTwins(registry)
  const waiting = createLines<Waiting>({
    most: maxWaiting,
    mostBytes: maxWaitingBytes,
    // Some places are left for others, whatever one asks for.
    mostAtWork: Math.max(1, Math.floor(workers * 0.75)),
  })
  let taking = false
  let opened = () => {}
  let anyOpen: Promise<void> | undefined

  metrics?.gauge(
    'cvmd_zos_relays_connected',
    'Relays that are connected.',
    () => connections.filter((connection) => connection.isOpen()).length,
  )

  const connections = addresses.map((address) => {
    const connection: RelayConnection = createRelayConnection({
      ...address,
      token: () => relayToken(identity, { twinId, ...(session && { session }) }),
      onMessage: (bytes) => arrive(bytes, connection),
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

  const arrive = (bytes: Uint8Array, from: RelayConnection) => {
    const { length } = bytes
    if (stopping.aborted) return
    if (length > maxRequestBytes) {
      return service.drop(
        'too-large',
        `it has ${length} bytes, at most ${maxRequestBytes} are read`,
      )
    }
    let envelope: Envelope
    try {
      envelope = readEnvelope(bytes)
    } catch (error) {
      return dropped(error)
    }
    // Relays let a twin send in its own name only.
    const twin = envelope.source?.twin ?? 0
    for (const _ of waiting.add(twin, length, { envelope, from })) {
      service.drop('busy', 'too many of its twin wait already')
    }
    void take()
  }

  const take = async () => {
    if (taking) return
    taking = true
    while (waiting.size() > 0) {
      await pool.free(ended)
      const next = ended.aborted ? undefined : waiting.next()
      if (!next) break
      pool.begin(async () => {
        try {
          await handle(next.item)
        } finally {
          waiting.ended(next.twin)
          void take()
        }
      })
    }
    taking = false
  }

  const dropped = (error: unknown) => {
    if (error instanceof MessageDropped) return service.drop(error.kind, error.message)
    if (isRegistryError(error)) return service.drop('registry', error.message)
    throw error
  }

  const handle = async ({ envelope, from }: Waiting): Promise<void> => {
    let request: Request
    try {
      request = await readIncoming(envelope, Date.now(), {
        twinId,
        session,
        seen,
        twin: (id) => twins.get(id, halting),
      })
    } catch (error) {
      return dropped(error)
    }
    const { command, source, expires } = request
    const payload = payloadOf(request, identity)
    if (typeof payload !== 'string') {
      service.count('refused')
      return await send(request, replyTo(request, payload, own, Date.now()), from)
    }
    const asked = { command, twin: source.twin, payload }
    await service.respond(asked, expires, (answer) =>
      send(request, replyTo(request, answer, own, Date.now()), from),
    )
  }

  /** Over the relay it came from if that is there, else over any, when there is one. */
  const send = async ({ expires }: Request, reply: Uint8Array, from: RelayConnection) => {
    const limit = limited(Math.min(expires - Date.now(), MAX_HELD_MS), ended)
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

  const compare = compareOwnTwin({
    twinId,
    identity,
    hosts: addresses.map(({ host }) => host),
    twin: () => registry.twin(twinId, stopping),
    tell: (difference) => tell(difference, 'warn'),
    onUnknown: (reason) => {
      notices.warn('own-twin', `cannot compare twin ${twinId} with the registry: ${reason}`)
    },
    retryMs,
    maxRetryMs,
    signal: stopping,
  })

  let ignoreChanges = () => {}
  const stop = async () => {
    ignoreChanges()
    await service.stop(
      async () => {},
      () => pool.size() + waiting.size(),
    )
    await Promise.all(connections.map((connection) => connection.stop()))
  }

  let started = false
  let stopped: Promise<void> | undefined
  return {
    start() {
      if (started || stopping.aborted) return
      started = true
      for (const connection of connections) connection.start()
      void compare()
      ignoreChanges = registry.onChange(() => {
        twins.forget()
        void compare()
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

/** By name, for what aborts is another's error. */
function isRegistryError(error: unknown): error is Error {
  return error instanceof Error && ['RegistryError', 'AbortError'].includes(error.name)
}
