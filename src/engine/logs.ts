import { type CallOptions, type EngineClient, segment } from './client.ts'
import { EngineError } from './error.ts'
import { createFrameDecoder, createRawDecoder, type LogLine } from './log-lines.ts'

export interface LogOptions extends CallOptions {
  /** Go on with what is written from now on. Default: end after what there is. */
  readonly follow?: boolean
  /** Default: both. */
  readonly only?: 'stdout' | 'stderr'
  /** The last lines only. Default: all. */
  readonly tail?: number
  /** Not before this time, RFC 3339 with up to nine digits: a {@link LogLine.time}. */
  readonly since?: string
  /** Longest line kept whole, in bytes. Default: 64 KiB. */
  readonly maxLineBytes?: number
  /** Whether it has a terminal. Default: it is asked for, with one more call. */
  readonly tty?: boolean
}

const MAX_LINE_BYTES = 64 * 1024
/** Of logs that are not followed: the engine reads a file. */
const IDLE_MS = 30_000

/** @param hasTerminal Asks the engine. */
export async function* readLogs(
  client: EngineClient,
  container: string,
  options: LogOptions = {},
  hasTerminal: (signal: AbortSignal | undefined) => Promise<boolean>,
): AsyncGenerator<LogLine> {
  const action = `read the logs of container "${container}"`
  const { follow = false, only, tail, since, maxLineBytes = MAX_LINE_BYTES } = options
  const path = `/containers/${segment(container, action)}/logs`
  const tty = options.tty ?? (await hasTerminal(options.signal))
  // Podman puts a time before each piece that a terminal gave it, in the middle of lines too.
  const { product } = await client.spoken({ signal: options.signal })
  const timestamps = !(tty && product === 'podman')
  const answer = await client.stream({
    action,
    path,
    query: {
      follow: follow || undefined,
      stdout: only === 'stderr' ? undefined : true,
      stderr: only === 'stdout' ? undefined : true,
      timestamps,
      tail,
      since: since === undefined ? undefined : unixTime(since, action),
    },
    signal: options.signal,
    deadlineMs: options.deadlineMs,
  })
  const form = { action, maxLineBytes, timestamps }
  const decoder = tty ? createRawDecoder(form) : createFrameDecoder(form)
  for await (const chunk of answer.chunks(follow ? undefined : IDLE_MS)) yield* decoder.push(chunk)
  yield* decoder.end()
}

/** Seconds since 1970 with nine digits after the point, exact where a number would not be. */
function unixTime(time: string, action: string): string {
  const parts = /^(.+:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(time)
  const ms = parts ? Date.parse(`${parts[1]}${parts[3]}`) : Number.NaN
  if (!parts || Number.isNaN(ms)) {
    throw new EngineError('ENGINE_REJECTED', action, `"${time.slice(0, 50)}" is no time`)
  }
  return `${ms / 1000}.${(parts[2] ?? '').padEnd(9, '0')}`
}
