import type { Guard } from '../guard.ts'
import type { Output } from './output.ts'
import { openRedisSink } from './redis-sink.ts'
import { openWebSocketSink } from './websocket-sink.ts'

/** An open connection that takes chunks of a log. */
export interface Sink {
  /** The connection is gone. */
  readonly lost: boolean
  /**
   * Resolves when the chunk is on its way.
   *
   * @throws {Error} When the connection is lost, or the other side takes too long; the sink is of
   *   no more use then.
   */
  send(chunk: Uint8Array): Promise<void>
  /** At once, and twice if need be. */
  close(): void
}

export interface SinkOptions {
  /** What is wrong with an address that is to be connected to. */
  readonly refuses: Guard
  /** For a connection to be made, and for one chunk. */
  readonly deadlineMs: number
  /** Called when the connection is gone, at least once, also after {@link Sink.close}. */
  readonly onLost: () => void
  /** Ends the opening. */
  readonly signal: AbortSignal
}

/** @throws {Error} When the connection cannot be made in time. */
export async function openSink(output: Output, options: SinkOptions): Promise<Sink> {
  if (output.kind === 'redis') return await openRedisSink(output, options)
  return await openWebSocketSink(output, options)
}
