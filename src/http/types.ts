import type { ClientTrust } from '../tls/client-trust.ts'
import type { Exchange } from './exchange.ts'
import type { PeerReader } from './unix-peers.ts'

/** Answers a request. */
export type Handler = (request: Request, exchange: Exchange) => Response | Promise<Response>

/** Limits of one HTTP server; times in milliseconds. */
export interface HttpLimits {
  readonly maxHeadBytes: number
  /** From the first byte of a connection to the end of a request head. */
  readonly headTimeoutMs: number
  /** A connection on which nothing moves is closed after this long, even while a handler works. */
  readonly idleTimeoutMs: number
  readonly maxConnections: number
  readonly maxConnectionsPerPeer: number
}

/** Where to listen. */
export type Endpoint =
  | { readonly host: string; readonly port: number; readonly tls?: TlsPair }
  | {
      readonly unix: string
      readonly tls?: TlsPair
      /** Finds out who connects, before anything is read; not with TLS. */
      readonly peers?: PeerReader | undefined
    }

/** Certificate chain and key in PEM. */
export interface TlsPair {
  readonly cert: string
  readonly key: string
  /** Whose certificates clients may show; without it they are not asked for one. */
  readonly clients?: ClientTrust | undefined
}

/** A server that accepts connections. */
export interface HttpListener {
  /** The TCP port in use (after asking for port 0), or 0 on a Unix socket. */
  readonly port: number
  /** Uses another certificate for new connections. */
  replaceTls(pair: TlsPair): void
  /** Accepts no more, lets running requests finish until the deadline, then cuts them. */
  close(deadlineMs: number): Promise<void>
}

/** Makes an answer the last one on its connection. */
export function closing(response: Response): Response {
  try {
    response.headers.set('connection', 'close')
    return response
  } catch {
    // What `fetch` gave a plugin cannot be changed.
    const copy = new Response(response.body, response)
    copy.headers.set('connection', 'close')
    return copy
  }
}
