import * as v from 'valibot'
import { pause } from '../pause.ts'
import { type CallOptions, type EngineClient, filtersOf } from './client.ts'
import { EngineError } from './error.ts'
import { readJsonLines } from './json-lines.ts'
import { Count, Text, Texts } from './shapes.ts'

/** Kinds of objects that events are about. */
export type EngineEventType = 'container' | 'image' | 'network' | 'volume'

/** Something that happened to an object of the engine. */
export interface EngineEvent {
  readonly type: string
  /**
   * In Docker's words: `create`, `start`, `die`, `destroy`, `rename`, `health_status: healthy`,
   * `connect`, `pull`, `delete`, and more.
   */
  readonly action: string
  /** Of a volume its name, of an image its id or name. */
  readonly id: string
  /** Labels and facts such as `name`, `exitCode`, `container`. */
  readonly attributes: Readonly<Record<string, string>>
  /** Milliseconds since 1970. */
  readonly timeMs: number
}

export interface EventOptions extends CallOptions {
  /** Default: all four. */
  readonly types?: readonly EngineEventType[]
  /** Called when the engine listens: what happens from here on comes. */
  readonly onOpen?: () => void
}

export interface EngineEvents {
  /**
   * Events as they happen, until the connection ends or the signal aborts.
   *
   * @throws {EngineError} `ENGINE_UNREACHABLE` when the connection was lost, also by a clean end.
   * @throws The reason of the signal.
   */
  read(options?: EventOptions): AsyncGenerator<EngineEvent>
}

const EventLine = v.looseObject({
  Type: Text,
  Action: Text,
  Actor: v.nullish(v.looseObject({ ID: Text, Attributes: Texts })),
  time: Count,
  timeNano: Count,
})

const TYPES: readonly EngineEventType[] = ['container', 'image', 'network', 'volume']

export function createEvents(client: EngineClient): EngineEvents {
  return {
    async *read({ types = TYPES, onOpen, ...options } = {}) {
      const action = 'follow the events of the engine'
      // Docker sends the head of the answer before it listens. What happens in between comes with
      // `since`; the engine is on this machine, so its clock is this one.
      const since = (Date.now() / 1000).toFixed(3)
      const query = { filters: filtersOf({ type: types }), since }
      const answer = await client.stream({ action, path: '/events', query, ...options })
      try {
        onOpen?.()
        for await (const line of readJsonLines(answer, EventLine, action)) yield toEvent(line)
      } finally {
        answer.close()
      }
      throw new EngineError('ENGINE_UNREACHABLE', action, 'the engine ended the stream')
    },
  }
}

function toEvent(line: v.InferOutput<typeof EventLine>): EngineEvent {
  return {
    type: line.Type,
    action: inDockersWords(line.Type, line.Action),
    id: line.Actor?.ID ?? '',
    attributes: line.Actor?.Attributes ?? {},
    timeMs: line.timeNano > 0 ? Math.floor(line.timeNano / 1e6) : line.time * 1000,
  }
}

/** Podman has words of its own (spec balena-supervisor §23.4). */
function inDockersWords(type: string, action: string): string {
  if (action === 'died') return 'die'
  if (action !== 'remove') return action
  return type === 'image' ? 'delete' : 'destroy'
}

export interface FollowOptions {
  /**
   * The engine listens: read everything there is now, because events may have been missed. Events
   * come from before that reading on, so none is lost in between; some tell what was read already.
   */
  readonly onConnected: () => void
  readonly onEvent: (event: EngineEvent) => void
  /** The connection was lost, or could not be made; once for each time. */
  readonly onLost: (error: unknown) => void
  /** Ends it. */
  readonly signal: AbortSignal
  readonly types?: readonly EngineEventType[]
  /** First pause before connecting again; doubled with each failure. Default: 100 ms. */
  readonly retryMs?: number
  /** Longest pause. Default: 5 s. */
  readonly maxRetryMs?: number
}

/**
 * Follows the events of an engine, connecting again whenever it goes away, until the signal aborts.
 * No call is made while nothing happens.
 *
 * @throws What a callback throws.
 */
export async function followEvents(
  engine: { readonly events: EngineEvents },
  options: FollowOptions,
): Promise<void> {
  const { onConnected, onEvent, onLost, signal, types } = options
  const { retryMs = 100, maxRetryMs = 5000 } = options
  let waits = retryMs
  while (!signal.aborted) {
    let callback: unknown
    const guarded = (call: () => void) => {
      try {
        call()
      } catch (error) {
        callback = { error }
        throw error
      }
    }
    try {
      const onOpen = () => {
        waits = retryMs
        guarded(onConnected)
      }
      const events = engine.events.read({ signal, onOpen, ...(types ? { types } : {}) })
      for await (const event of events) guarded(() => onEvent(event))
    } catch (error) {
      if (callback) throw error
      if (signal.aborted) return
      onLost(error)
    }
    // Not all at once, where many wait for one engine.
    await pause(waits * (0.5 + Math.random() / 2), signal)
    waits = Math.min(waits * 2, maxRetryMs)
  }
}
