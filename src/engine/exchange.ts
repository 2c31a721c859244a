import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { errnoOf, messageOf } from '../errors.ts'
import { EngineError } from './error.ts'

/** One request to the engine. */
export interface Exchange {
  readonly socketPath: string
  /** For errors: `list containers`. */
  readonly action: string
  readonly method: string
  /** With the version and the query. No secret belongs here: engines log it. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  /** Ends the call and the reading of its answer; its reason is what is thrown. */
  readonly signal: AbortSignal
}

/** An answer whose body is still to be read. {@link Answer.close} ends its connection. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /**
   * The body, chunk by chunk, as fast as it is taken. Ends the connection when left early.
   *
   * @param idleMs Longest silence; undefined waits as long as it takes.
   * @throws {EngineError} `ENGINE_UNREACHABLE` when the connection broke, `ENGINE_TIMEOUT`.
   * @throws The reason of the signal.
   */
  chunks(idleMs?: number): AsyncGenerator<Buffer>
  close(): void
}

/** The engine's answers have small heads. */
const MAX_HEAD_BYTES = 64 * 1024

/**
 * Sends a request over the engine's Unix socket and waits for the head of the answer.
 *
 * Each request has a connection of its own, which costs about 0.3 ms. Deno never frees the place of
 * a request in a keep-alive agent that was destroyed on a connection used before, and a connection
 * that the engine closes meanwhile leaves open whether a POST was done.
 *
 * @throws {EngineError} `ENGINE_UNREACHABLE`, `ENGINE_MALFORMED`.
 * @throws The reason of the signal.
 */
export function exchange(call: Exchange): Promise<Answer> {
  const { action, signal } = call
  if (signal.aborted) return Promise.reject(signal.reason)
  return new Promise((resolve, reject) => {
    const { socketPath, method, path, body } = call
    const headers: Record<string, string | number> = { host: 'engine', ...call.headers }
    if (body !== undefined) headers['content-type'] = 'application/json'
    if (method !== 'GET') headers['content-length'] = Buffer.byteLength(body ?? '')
    const request = httpRequest({
      socketPath,
      method,
      path,
      headers,
      agent: false,
      maxHeaderSize: MAX_HEAD_BYTES,
    })
    // Not the runtime's own handling of signals: what it throws, and when, differs.
    const aborted = () => {
      reject(signal.reason)
      request.destroy()
    }
    signal.addEventListener('abort', aborted)
    // Stays for the life of the request: what happens after the head shows in the body.
    request.on('error', (error) => {
      signal.removeEventListener('abort', aborted)
      reject(asEngineError(error, action))
    })
    // After the head it does nothing; before, it is a loss that no runtime may keep to itself.
    request.once('close', () => {
      signal.removeEventListener('abort', aborted)
      reject(new EngineError('ENGINE_UNREACHABLE', action, 'the connection was lost'))
    })
    request.once('response', (response) => {
      signal.removeEventListener('abort', aborted)
      resolve(answerOf(request, response, call))
    })
    request.end(body)
  })
}

function answerOf(request: ClientRequest, response: IncomingMessage, call: Exchange): Answer {
  const { action, signal } = call
  const close = () => {
    response.destroy()
    request.destroy()
  }
  // A connection that breaks before the body is read must not end the process.
  response.on('error', () => {})
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    close,
    async *chunks(idleMs) {
      const stop = stopper(action, signal, idleMs)
      const body = response[Symbol.asyncIterator]()
      try {
        for (;;) {
          const next = body.next()
          next.catch(() => {})
          const { value, done } = await stop.before(next)
          if (done) break
          yield value as Buffer
        }
        // Deno and Bun end some broken bodies without an error.
        if (!response.complete) {
          throw new EngineError('ENGINE_UNREACHABLE', action, 'the connection was lost')
        }
      } catch (error) {
        throw signal.aborted ? signal.reason : asEngineError(error, action)
      } finally {
        stop.end()
        close()
      }
    },
  }
}

/** Ends the waiting for the next chunk, whatever the runtime does with a destroyed stream. */
function stopper(action: string, signal: AbortSignal, idleMs: number | undefined) {
  let stop: (error: unknown) => void = () => {}
  const stopped = new Promise<never>((_resolve, reject) => {
    stop = reject
  })
  stopped.catch(() => {})
  const aborted = () => stop(signal.reason)
  signal.addEventListener('abort', aborted)
  if (signal.aborted) aborted()
  return {
    async before<T>(work: Promise<T>): Promise<T> {
      const timer =
        idleMs === undefined
          ? undefined
          : setTimeout(() => {
              const reason = `the engine sent nothing for ${idleMs} ms`
              stop(new EngineError('ENGINE_TIMEOUT', action, reason))
            }, idleMs)
      try {
        return await Promise.race([work, stopped])
      } finally {
        clearTimeout(timer)
      }
    },
    end: () => signal.removeEventListener('abort', aborted),
  }
}

/** What the system says when nobody is there, or no longer. */
const CONNECTION =
  /^(E(ACCES|CONN\w+|NOENT|PERM|PIPE|TIMEDOUT|MFILE|NFILE|AGAIN|NOTSOCK|PROTOTYPE)|ERR_STREAM_PREMATURE_CLOSE)$/

/** Anything thrown by the runtime's HTTP client. Its words may quote bytes that were sent. */
function asEngineError(thrown: unknown, action: string): Error {
  if (thrown instanceof EngineError) return thrown
  const errno = errnoOf(thrown)
  if (errno !== undefined && CONNECTION.test(errno)) {
    const reason = REASONS[errno] ?? 'the connection was lost'
    return new EngineError('ENGINE_UNREACHABLE', action, `${reason} (${errno})`)
  }
  const reason = errno ?? messageOf(thrown).slice(0, 100)
  return new EngineError('ENGINE_MALFORMED', action, `the answer is not HTTP (${reason})`)
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'this process may not use the engine socket',
  EPERM: 'this process may not use the engine socket',
  ENOENT: 'there is no engine socket',
  ENOTSOCK: 'the path of the engine socket is something else',
  ECONNREFUSED: 'nobody listens on the engine socket',
  EMFILE: 'this process has no descriptor left',
  ENFILE: 'the system has no descriptor left',
}
