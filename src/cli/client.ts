import { request as httpRequest } from 'node:http'
import { Readable } from 'node:stream'
import { operatorSocket, readConfig } from '../config/resolve.ts'
import { CommandFailed } from './command-failed.ts'
import { prepareOptions } from './prepare-options.ts'

/** `fetch` for one daemon: paths in, responses out. */
export type ClientFetch = (path: string, init?: ClientRequest) => Promise<Response>

/** The part of `RequestInit` the client needs. */
export interface ClientRequest {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly signal?: AbortSignal
}

/** Arguments of commands that talk to a running daemon. */
export const clientArgs = {
  socket: {
    type: 'string',
    description: "The daemon's Unix socket (default: $CVMD_SOCKET, else the configured one)",
    valueHint: 'PATH',
  },
} as const

/** Finds the daemon's socket: flag, environment, then the operator's of the file. */
export function findSocket(args: {
  readonly socket?: string | undefined
  readonly config?: string | undefined
}): string {
  const named = args.socket ?? process.env.CVMD_SOCKET
  if (named !== undefined) return named
  const { file, env } = prepareOptions(args)
  const unix = operatorSocket(readConfig(file, env))
  if (unix !== undefined) return unix
  throw new CommandFailed('the configuration has no Unix socket for this: name one with --socket')
}

/**
 * A client over a Unix socket. `$CVMD_TOKEN` is sent as a key where the listener wants one.
 *
 * @throws {CommandFailed} When nobody answers on the socket.
 */
export function unixClient(socketPath: string): ClientFetch {
  return (path, { method = 'GET', headers = {}, body, signal } = {}) =>
    new Promise((resolve, reject) => {
      const token = process.env.CVMD_TOKEN
      const request = httpRequest(
        {
          socketPath,
          path,
          method,
          headers: {
            host: 'localhost',
            ...(token && { authorization: `Bearer ${token}` }),
            ...(body !== undefined && { 'content-length': String(Buffer.byteLength(body)) }),
            ...headers,
          },
          ...(signal && { signal }),
        },
        (incoming) => {
          const stream = Readable.toWeb(incoming) as ReadableStream<Uint8Array>
          resolve(
            new Response(stream, {
              status: incoming.statusCode ?? 502,
              headers: Object.entries(incoming.headers).flatMap(([name, value]) =>
                typeof value === 'string' ? [[name, value] as [string, string]] : [],
              ),
            }),
          )
        },
      )
      request.once('error', (cause) => {
        const why = `is cvmd running? nobody answers on ${socketPath} (${cause.message})`
        reject(signal?.aborted ? cause : new CommandFailed(why))
      })
      request.end(body)
    })
}

/** The `detail` of a problem answer, else its text. */
export async function failureText(response: Response): Promise<string> {
  const text = await response.text()
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown }
    return typeof detail === 'string' ? detail : text
  } catch {
    return text
  }
}
