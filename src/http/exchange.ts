import type { Caller, Peer, RequestFacts } from '../plugin.ts'
import type { ClientCertificate } from '../tls/client-certificate.ts'
import type { PeerCredentials } from './unix-peers.ts'

/** A caller nobody asked for a name. */
export const ANONYMOUS: Caller = { kind: 'anonymous', name: 'anonymous', scopes: ['*'] }

/** The runtime's half of a request: what only the server that accepted it can tell or do. */
export interface Connection {
  peer(): Peer
  hold(): void
  /**
   * Where bytes of a body do not by themselves keep the connection from counting as idle: the same
   * request with a body whose reading does.
   */
  streamed?(request: Request): Request
  /** First value of a request header, lower-case name, without building a `Headers` object. */
  header(name: string): string | undefined
  /** What the client showed in the TLS handshake; absent where it is not asked. */
  certificate?(): ClientCertificate | undefined
  /** Who connected to a Unix socket; absent where nobody asks. */
  credentials?(): PeerCredentials | undefined
}

/** One request on its way through the core. Plugins see it as {@link RequestFacts} in `c.env`. */
export class Exchange implements RequestFacts {
  readonly listener: string
  readonly #connection: Connection
  caller: Caller = ANONYMOUS
  /** Pattern of the matched route, for metrics and request lines. */
  route = ''

  constructor(listener: string, connection: Connection) {
    this.listener = listener
    this.#connection = connection
  }

  peer(): Peer {
    return this.#connection.peer()
  }

  hold(): void {
    this.#connection.hold()
  }

  streamed(request: Request): Request {
    return this.#connection.streamed?.(request) ?? request
  }

  header(name: string): string | undefined {
    return this.#connection.header(name)
  }

  certificate(): ClientCertificate | undefined {
    return this.#connection.certificate?.()
  }

  credentials(): PeerCredentials | undefined {
    return this.#connection.credentials?.()
  }
}
