import type { Engine } from '../../../src/engine/engine.ts'
import type { KnownContainer } from '../engine-state/objects.ts'
import type { LogRecord } from '../supervisor.ts'
import { SupervisorError } from './supervisor-error.ts'

/** Followers at a time; each reads every container. */
const MAX_FOLLOWERS = 8
/** Records that wait for one follower; beyond that containers are not read on. */
const MAX_WAITING = 1000
const MAX_LINE_BYTES = 10_000
/** Variables of a service that say what of it is shown (spec §12). */
const LEVEL_NAMES = ['BALENA_LOGS_LEVEL', 'RESIN_LOGS_LEVEL'] as const

export interface LogStreamOptions {
  readonly engine: Engine
  readonly containers: () => Iterable<KnownContainer>
}

interface Follower {
  readonly waiting: LogRecord[]
  /** Containers that are read. */
  readonly reading: Set<string>
  /** When it began, in milliseconds since 1970. */
  readonly since: number
  /** By container: the start from which on it is or was read. */
  readonly last: Map<string, number>
  readonly signal: AbortSignal
  /** Wakes who waits for records, or for room. */
  wake: () => void
  readonly rooms: (() => void)[]
}

/** What services write and the supervisor does, for everybody who follows (spec §6). */
export class LogStream {
  readonly #options: LogStreamOptions
  readonly #followers = new Set<Follower>()

  constructor(options: LogStreamOptions) {
    this.#options = options
  }

  /** What the supervisor did. One who reads too slowly misses some of it. */
  system(message: string): void {
    const record: LogRecord = { message, timestamp: Date.now(), isSystem: true }
    for (const follower of this.#followers) {
      if (follower.waiting.length >= MAX_WAITING) continue
      follower.waiting.push(record)
      follower.wake()
    }
  }

  /** Containers may have been started. */
  changed(): void {
    for (const follower of this.#followers) this.#readAll(follower)
  }

  /** @throws {SupervisorError} `TOO_MANY_FOLLOWERS`. */
  async *follow(signal: AbortSignal): AsyncGenerator<LogRecord> {
    if (this.#followers.size >= MAX_FOLLOWERS) {
      const message = `Cannot follow logs: ${MAX_FOLLOWERS} are followed already, end one of them`
      throw new SupervisorError('TOO_MANY_FOLLOWERS', message)
    }
    const own = new AbortController()
    const end = () => own.abort()
    const follower: Follower = {
      waiting: [{ message: 'Streaming logs', isSystem: true }],
      reading: new Set(),
      since: Date.now(),
      last: new Map(),
      signal: own.signal,
      wake: () => {},
      rooms: [],
    }
    signal.addEventListener('abort', end)
    own.signal.addEventListener('abort', () => follower.wake())
    this.#followers.add(follower)
    try {
      if (signal.aborted) return
      this.#readAll(follower)
      while (!own.signal.aborted) {
        const record = follower.waiting.shift()
        if (record) {
          follower.rooms.shift()?.()
          yield record
          continue
        }
        await new Promise<void>((resolve) => {
          follower.wake = resolve
        })
      }
    } finally {
      signal.removeEventListener('abort', end)
      this.#followers.delete(follower)
      own.abort()
      for (const room of follower.rooms.splice(0)) room()
    }
  }

  #readAll(follower: Follower): void {
    const containers = [...this.#options.containers()]
    const there = new Set(containers.map(({ id }) => id))
    for (const id of follower.last.keys()) if (!there.has(id)) follower.last.delete(id)
    for (const container of containers) {
      if (container.state !== 'running' || follower.reading.has(container.id)) continue
      follower.reading.add(container.id)
      this.#read(container, follower)
        // It ends with its container, or with the engine.
        .catch(() => {})
        .then(() => follower.reading.delete(container.id))
    }
  }

  async #read(container: KnownContainer, follower: Follower): Promise<void> {
    const { id, tty, appId, serviceName, env, startedAt = 0 } = container
    const level = LEVEL_NAMES.map((name) => env[name]).find((value) => value !== undefined)
    if (level === 'none') return
    const errorsOnly = level === 'err' || level === 'error'
    const { signal, since, last } = follower
    // The engine's time of a start is a little later than what was written first. One that ran
    // before is read from its end: an engine goes through all of a log to find a time.
    const known = last.get(id)
    const from = known === undefined && startedAt < since ? undefined : Math.max(since, known ?? 0)
    const lines = this.#options.engine.containers.logs(id, {
      follow: true,
      ...(from === undefined ? { tail: 0 } : { since: new Date(from).toISOString() }),
      tty,
      maxLineBytes: MAX_LINE_BYTES,
      signal,
      ...(errorsOnly ? { only: 'stderr' as const } : {}),
    })
    for await (const { stream, time, text } of lines) {
      while (follower.waiting.length >= MAX_WAITING && !signal.aborted) {
        await new Promise<void>((room) => follower.rooms.push(room))
      }
      if (signal.aborted) return
      const timestamp = time === undefined ? Date.now() : Date.parse(time)
      last.set(id, timestamp + 1)
      follower.waiting.push({
        message: text,
        timestamp,
        serviceName,
        appId,
        ...(stream === 'stderr' ? { isStdErr: true as const } : {}),
      })
      follower.wake()
    }
  }
}
