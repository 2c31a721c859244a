import { constants } from 'node:crypto'
import type { Server as HttpServer } from 'node:http'
import { createServer as createNetServer, type Server as NetServer, type Socket } from 'node:net'
import {
  createServer as createTlsServer,
  type SecureContextOptions,
  type Server as TlsServer,
} from 'node:tls'
import type { HttpLimits, TlsPair } from './types.ts'

/** First byte of a TLS record that carries a handshake. */
const TLS_HANDSHAKE = 0x16

/** Go's answer to plain HTTP on a TLS port (net/http/server.go, `tlsRecordHeaderLooksLikeHTTP`). */
const PLAIN_ON_TLS =
  'HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n'

/** A certificate is asked for; who shows none, or a bad one, may still have a key or password. */
const ASK_CLIENTS = { requestCert: true, rejectUnauthorized: false } as const

/**
 * A connection has one client, who proved it: no renegotiation in which he becomes another, and no
 * resumption, which keeps no path to an authority (Node 20; Deno resumes all the same).
 */
const ONE_CLIENT = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION

/** What a server takes of a pair, at the start and for each that replaces it. */
export function secureContext({ cert, key, clients }: TlsPair): SecureContextOptions {
  const asked = clients && { ca: clients.pem, secureOptions: ONE_CLIENT }
  return { cert, key, minVersion: 'TLSv1.2', ...asked }
}

/** `node:https` hides the peer certificate on Bun, so TLS stands in front of the HTTP server. */
export function tlsServer(http: HttpServer, pair: TlsPair, limits: HttpLimits): TlsServer {
  const tls = createTlsServer({
    ...secureContext(pair),
    ...(pair.clients && ASK_CLIENTS),
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: limits.headTimeoutMs,
  })
  tls.on('secureConnection', (socket) => {
    http.emit('connection', socket)
    socket.setTimeout(limits.idleTimeoutMs, () => socket.destroy())
  })
  tls.on('tlsClientError', (_error, socket) => socket.destroy())
  return tls
}

/**
 * Looks at the first byte of each connection: no handshake gets a plain answer, not silence.
 *
 * @param unheard Holds the connections that did not send any yet.
 */
export function plainDetector(tls: TlsServer, limits: HttpLimits, unheard: Set<Socket>): NetServer {
  return createNetServer((socket) => {
    unheard.add(socket)
    const late = setTimeout(() => socket.destroy(), limits.headTimeoutMs)
    const heard = () => {
      clearTimeout(late)
      unheard.delete(socket)
    }
    socket.on('error', () => socket.destroy())
    socket.once('close', heard)
    socket.once('readable', () => {
      heard()
      const first: Buffer | null = socket.read(1)
      if (first === null) return socket.destroy()
      if (first[0] !== TLS_HANDSHAKE) {
        socket.end(PLAIN_ON_TLS, () => socket.destroySoon())
        return
      }
      socket.unshift(first)
      tls.emit('connection', socket)
    })
  })
}
