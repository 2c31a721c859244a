import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { ApiError } from '../../src/errors.ts'
import { writeAll } from './chunks.ts'
import { refused, UploadFailure } from './failure.ts'

/** A request body and what its head said about it. */
export interface Incoming {
  readonly body: ReadableStream<Uint8Array> | null
  /** `Content-Length`; undefined for a chunked body. */
  readonly declared: number | undefined
  /** How Go names a read that timed out on this connection: `read tcp A->B`. */
  readonly connection: string
}

/** What bounds one body. */
export interface ReceiveLimits {
  readonly name: string
  /** 0 for no limit. */
  readonly maxBytes: number
  /** Longest wait for the next byte in milliseconds; 0 waits forever. */
  readonly idleMs: number
  /** Gives the body up. */
  readonly signal: AbortSignal
}

/** What arrived. */
export interface Received {
  readonly size: number
  /** In hex. */
  readonly sha256: string
}

/**
 * Streams a body into a file, hashing it on the way; a chunk is asked for when the one before is
 * written, so memory does not grow with the body.
 *
 * @throws {UploadFailure} When the body breaks off, stalls or is too large.
 * @throws {Error} The system error of a failed write.
 */
export async function receive(
  incoming: Incoming,
  into: FileHandle,
  limits: ReceiveLimits,
): Promise<Received> {
  assertSize(incoming.declared ?? 0, limits)
  const hash = createHash('sha256')
  let size = 0
  const reader = incoming.body?.getReader()
  while (reader) {
    const chunk = await nextChunk(reader, incoming, limits, size)
    if (chunk === undefined) break
    try {
      assertSize(size + chunk.byteLength, limits)
      await writeAll(into, chunk, size)
    } catch (error) {
      // The rest is for `skipRest`.
      reader.releaseLock()
      throw error
    }
    hash.update(chunk)
    size += chunk.byteLength
  }
  // A runtime that ends the stream of a cut connection must not make it look complete.
  if (size < (incoming.declared ?? 0)) throw brokenOff(incoming, limits, size)
  return { size, sha256: hash.digest('hex') }
}

/** @throws {UploadFailure} 413 when so many bytes are more than allowed. */
function assertSize(size: number, { name, maxBytes }: ReceiveLimits): void {
  if (maxBytes === 0 || size <= maxBytes) return
  throw refused(
    413,
    'UPLOAD_TOO_LARGE',
    `Cannot accept upload "${name}": it is larger than ${maxBytes} bytes`,
  )
}

/** The part of a stream's reader on which the runtimes' types agree. */
interface ByteReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>
}

function nextChunk(
  reader: ByteReader,
  incoming: Incoming,
  limits: ReceiveLimits,
  received: number,
): Promise<Uint8Array | undefined> {
  const { name, idleMs, signal } = limits
  return new Promise((resolve, reject) => {
    const timer = idleMs === 0 ? undefined : setTimeout(() => settle(stalled), idleMs)
    const settle = (action: () => void) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      action()
    }
    const stalled = () =>
      reject(
        new UploadFailure(
          'read',
          `${incoming.connection}: i/o timeout`,
          new ApiError(
            408,
            'UPLOAD_STALLED',
            `Cannot receive upload "${name}": no byte for ${idleMs / 1000} s after ${received}`,
          ),
        ),
      )
    const onAbort = () => settle(() => reject(brokenOff(incoming, limits, received)))
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
    reader.read().then(
      ({ done, value }) => settle(() => resolve(done ? undefined : value)),
      (cause) => settle(() => reject(brokenOff(incoming, limits, received, cause))),
    )
  })
}

function brokenOff(
  { declared }: Incoming,
  { name }: ReceiveLimits,
  received: number,
  cause?: unknown,
): UploadFailure {
  const of = declared === undefined ? '' : ` of ${declared}`
  return new UploadFailure(
    'read',
    'unexpected EOF',
    new ApiError(
      400,
      'UPLOAD_INCOMPLETE',
      `Cannot receive upload "${name}": the body broke off after ${received}${of} bytes`,
      { cause },
    ),
  )
}
