import type { Tail } from '../../src/process/tail.ts'
import type { Run } from './run.ts'

/** One of the two streams of a run. */
export type StreamName = 'stdout' | 'stderr'

/** How a followed output is written. */
export interface Format {
  readonly type: string
  chunk(name: StreamName, bytes: Uint8Array): Uint8Array
  /** Says that a reader missed bytes, because they were dropped before it came to them. */
  gap(name: StreamName, bytes: number): Uint8Array
  end(run: Run): Uint8Array | undefined
  /** Sent on a silent stream, so that a dead connection is noticed. */
  idle(): Uint8Array | undefined
}

const IDLE_MS = 15_000

const encoder = new TextEncoder()

/** The bytes themselves. */
export function plainFormat(): Format {
  return {
    type: 'text/plain; charset=utf-8',
    chunk: (_name, bytes) => bytes,
    gap: (name, bytes) => encoder.encode(`[cvmd: ${bytes} bytes of ${name} dropped]\n`),
    end: () => undefined,
    idle: () => undefined,
  }
}

/**
 * Server-sent events `stdout`, `stderr`, `gap` and `end`, their data as JSON: line ends survive,
 * which the format alone does not grant. Characters split between reads are put together.
 */
export function eventFormat(): Format {
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() }
  const event = (name: string, data: unknown) =>
    encoder.encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`)
  return {
    type: 'text/event-stream',
    chunk: (name, bytes) => event(name, { text: decoders[name].decode(bytes, { stream: true }) }),
    gap: (name, bytes) => event('gap', { stream: name, bytes }),
    end: (run) => event('end', run.summary()),
    idle: () => encoder.encode(': idle\n\n'),
  }
}

/**
 * Streams the output of a run from the oldest byte kept until the run is over. Nothing is buffered
 * per reader: a slow one finds a gap where the run's own tail moved on.
 *
 * @param closed Called once, when the stream ended or its reader went away.
 */
export function followOutput(
  run: Run,
  names: readonly StreamName[],
  format: Format,
  closed: () => void,
): ReadableStream<Uint8Array> {
  const at: Record<StreamName, number> = { stdout: 0, stderr: 0 }
  let wake: () => void = () => undefined
  const unwatch = run.watch(() => wake())
  let open = true
  const close = () => {
    if (!open) return
    open = false
    unwatch()
    wake()
    closed()
  }

  const take = (): Uint8Array[] =>
    names.flatMap((name) => {
      const tail: Tail = run[name]
      const parts: Uint8Array[] = []
      if (tail.start > at[name]) parts.push(format.gap(name, tail.start - at[name]))
      const bytes = tail.bytes(at[name])
      if (bytes.length > 0) parts.push(format.chunk(name, bytes))
      at[name] = tail.end
      return parts
    })

  const pause = () =>
    new Promise<'woken' | 'idle'>((resolve) => {
      const timer = setTimeout(() => resolve('idle'), IDLE_MS)
      wake = () => {
        clearTimeout(timer)
        resolve('woken')
      }
    })

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        while (open) {
          const parts = take()
          for (const part of parts) controller.enqueue(part)
          if (run.finished) {
            const last = format.end(run)
            if (last) controller.enqueue(last)
            controller.close()
            close()
            return
          }
          if (parts.length > 0) return
          const idle = (await pause()) === 'idle' ? format.idle() : undefined
          if (idle && open) {
            controller.enqueue(idle)
            return
          }
        }
      },
      cancel: close,
    },
    // Nothing is read ahead of a slow reader.
    { highWaterMark: 0 },
  )
}
