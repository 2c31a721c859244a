import { constants } from 'node:crypto'
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import { createServer as createNetServer, type Server as NetServer, type Socket } from 'node:net'
import {
  createServer as createTlsServer,
  type SecureContextOptions,
  type Server as TlsServer,
} from 'node:tls'
import { getRequestListener } from '@hono/node-server'
import { type Descriptors, descriptors } from '../device/descriptors.ts'
import type { Peer } from '../plugin.ts'
import { type ClientCertificate, ClientCertificates } from '../tls/client-certificate.ts'
import { type Connection, Exchange } from './exchange.ts'
import {
  closing,
  type Endpoint,
  type Handler,
  type HttpLimits,
  type HttpListener,
  type TlsPair,
} from './types.ts'
import { WaitingAnswers } from './waiting-answers.ts'

/** As many header lines as Bun's own parser takes. */
const MAX_HEADER_LINES = 198

/** An unread body up to this size is read away, so that the connection can be used again. */
const MAX_SKIPPED_BYTES = 256 * 1024

/** How often connections are looked at for being too slow. */
const CHECK_MS = 1000

/** First byte of a TLS record that carries a handshake. */
const TLS_HANDSHAKE = 0x16

/** Go's answer to plain HTTP on a TLS port (net/http/server.go, `tlsRecordHeaderLooksLikeHTTP`). */
const PLAIN_ON_TLS =
  'HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n'

/** How `node:http` differs where it is not Node's own. */
export interface NodeQuirks {
  /** Whether the adapter may replace the global `Request` and `Response` with its faster ones. */
  readonly fastGlobals: boolean
  /** Whether a half-closed connection can be told from a closed one while a handler works. */
  readonly halfOpen: boolean
  /** Whether a connection with too many requests has to be cut while they are parsed. */
  readonly cutAtOnce: boolean
}

/** Every connection that speaks HTTP, with the answers it was promised. */
type InFlight = Map<Socket, WaitingAnswers>

/**
 * Serves HTTP/1.1 by `node:http`, with TLS in front where the endpoint has it.
 *
 * @throws {Error} The system error when the endpoint cannot be bound.
 */
export function serveNode(
  name: string,
  endpoint: Endpoint,
  limits: HttpLimits,
  handler: Handler,
  quirks: NodeQuirks,
): Promise<HttpListener> {
  const inFlight: InFlight = new Map()
  const clients = endpoint.tls?.clients && new ClientCertificates(endpoint.tls.clients)
  const http = httpServer(name, limits, handler, quirks, inFlight, clients)
  const tls = endpoint.tls && tlsServer(http, endpoint.tls, limits)
  const unheard = new Set<Socket>()
  const server: NetServer = tls ? plainDetector(tls, limits, unheard) : http
  // Deno ends a connection after each answer of a server that does not listen itself.
  if (tls) Object.defineProperty(http, 'listening', { get: () => server.listening })
  const open = new Set<Socket>()
  if (tls) watchWaiting(server, inFlight, limits)
  const files = descriptors()
  server.on('connection', track(open, limits, files))
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    const bound = () => {
      server.off('error', reject)
      const address = server.address()
      resolve({
        port: typeof address === 'object' && address !== null ? address.port : 0,
        replaceTls: (pair) => {
          tls?.setSecureContext(secureContext(pair))
          if (pair.clients) clients?.replace(pair.clients)
        },
        close: (deadlineMs) => drain(server, inFlight, { open, unheard }, deadlineMs),
      })
    }
    const { backlog } = files
    if ('unix' in endpoint) server.listen({ path: endpoint.unix, backlog }, bound)
    else server.listen({ port: endpoint.port, host: endpoint.host, backlog }, bound)
  })
}

function httpServer(
  name: string,
  limits: HttpLimits,
  handler: Handler,
  quirks: NodeQuirks,
  inFlight: InFlight,
  clients: ClientCertificates | undefined,
): HttpServer {
  const answer = getRequestListener(
    (request, env) => {
      const incoming = env.incoming as IncomingMessage
      const answered = handler(request, new Exchange(name, new NodeConnection(incoming, clients)))
      return hasLargeBody(incoming) ? closeIfUnread(answered, incoming) : answered
    },
    { overrideGlobalObjects: quirks.fastGlobals },
  )
  const http = createServer(
    {
      maxHeaderSize: limits.maxHeadBytes,
      headersTimeout: limits.headTimeoutMs,
      // Bodies have deadlines of their own: one for all would cut honest slow uploads.
      requestTimeout: 0,
      keepAliveTimeout: limits.idleTimeoutMs,
      connectionsCheckingInterval: CHECK_MS,
      // Notices a peer that vanished without a word.
      keepAlive: true,
    },
    (incoming, outgoing) => {
      // A connection that is gone already gets no answer.
      if (!inFlight.get(incoming.socket)?.asked(outgoing)) return
      const refused = malformed(incoming)
      if (refused !== undefined) {
        outgoing.writeHead(refused, { connection: 'close', 'content-length': 0 }).end()
        return
      }
      answer(incoming, outgoing)
    },
  )
  http.timeout = limits.idleTimeoutMs
  Object.assign(http, { httpAllowHalfOpen: quirks.halfOpen })
  http.on('connection', (socket: Socket) => {
    inFlight.set(socket, new WaitingAnswers(() => socket.destroy(), quirks.cutAtOnce))
    socket.once('close', () => inFlight.delete(socket))
    if (quirks.halfOpen) socket.once('end', () => halfClosed(socket, inFlight, limits))
  })
  return http
}

/**
 * As Go does: a client that will send no more still gets its answer, but the handler is told,
 * because most such clients are gone.
 */
function halfClosed(socket: Socket, inFlight: InFlight, limits: HttpLimits): void {
  const answer = inFlight.get(socket)?.last
  // The adapter aborts the request's signal and cancels a stream on it.
  answer?.emit('close')
  // Of a stream nothing more comes once its handler was told; the rest may not take for ever.
  if (answer?.headersSent) socket.end()
  else socket.setTimeout(limits.idleTimeoutMs)
}

/** What the one or other parser lets pass, so that none does; the status to refuse it with. */
function malformed(incoming: IncomingMessage): number | undefined {
  const { rawHeaders, headers } = incoming
  if (incoming.httpVersionMajor !== 1) return 505
  if (rawHeaders.length > 2 * MAX_HEADER_LINES) return 431
  let hosts = 0
  let lengths = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const header = rawHeaders[i] as string
    if (header.length === 4 && header.toLowerCase() === 'host') hosts++
    if (header.length === 14 && header.toLowerCase() === 'content-length') lengths++
  }
  if (hosts !== 1 || lengths > 1) return 400
  const coding = headers['transfer-encoding']
  if (coding === undefined) return undefined
  return coding.toLowerCase() === 'chunked' && incoming.httpVersionMinor === 1 ? undefined : 400
}

function hasLargeBody({ headers }: IncomingMessage): boolean {
  if (headers['transfer-encoding'] !== undefined) return true
  const length = headers['content-length']
  return length !== undefined && Number(length) > MAX_SKIPPED_BYTES
}

/** Ends the connection when an answer comes before its body, instead of reading the rest away. */
async function closeIfUnread(
  answered: Response | Promise<Response>,
  incoming: IncomingMessage,
): Promise<Response> {
  const response = await answered
  return incoming.complete ? response : closing(response)
}

/** A certificate is asked for; who shows none, or a bad one, may still have a key or password. */
const ASK_CLIENTS = { requestCert: true, rejectUnauthorized: false } as const

/**
 * A connection has one client, who proved it: no renegotiation in which he becomes another, and no
 * resumption, which keeps no path to an authority (Node 20; Deno resumes all the same).
 */
const ONE_CLIENT = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION

function secureContext({ cert, key, clients }: TlsPair): SecureContextOptions {
  const asked = clients && { ca: clients.pem, secureOptions: ONE_CLIENT }
  return { cert, key, minVersion: 'TLSv1.2', ...asked }
}

/** `node:https` hides the peer certificate on Bun, so TLS stands in front of the HTTP server. */
function tlsServer(http: HttpServer, pair: TlsPair, limits: HttpLimits): TlsServer {
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
 * Cuts connections that take too long for a head: Bun does so only on connections its HTTP server
 * accepted itself. Up to a second later than that server would, which says why.
 */
function watchWaiting(server: NetServer, inFlight: InFlight, limits: HttpLimits): void {
  const seen = new WeakMap<Socket, { answer: ServerResponse | undefined; at: number }>()
  const watch = setInterval(() => {
    const at = performance.now()
    for (const [socket, answers] of inFlight) {
      const { last: answer, idle } = answers
      const before = seen.get(socket)
      const limit = answer ? limits.idleTimeoutMs : limits.headTimeoutMs
      if (!before || before.answer !== answer || !idle) seen.set(socket, { answer, at })
      else if (at - before.at > limit) socket.destroy()
    }
  }, CHECK_MS)
  watch.unref()
  server.once('close', () => clearInterval(watch))
}

/**
 * Looks at the first byte of each connection: no handshake gets a plain answer, not silence.
 *
 * @param unheard Holds the connections that did not send any yet.
 */
function plainDetector(tls: TlsServer, limits: HttpLimits, unheard: Set<Socket>): NetServer {
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

/**
 * Remembers open connections and cuts those that are too many, in all or of one peer. Not by
 * `server.maxConnections`: Deno accepts nothing more once that was reached (2.9).
 */
function track(
  open: Set<Socket>,
  limits: HttpLimits,
  files: Descriptors,
): (socket: Socket) => void {
  let credit = 0
  // Counting costs a read of /proc, so each count is good for half of what it found.
  const hasDescriptor = () => {
    if (credit < 1) credit = files.spare() / 2
    credit--
    return credit > -1
  }
  const counts = new Map<string, number>()
  return (socket) => {
    const peer = socket.remoteAddress ?? ''
    const count = (counts.get(peer) ?? 0) + 1
    const tooMany =
      (peer !== '' && count > limits.maxConnectionsPerPeer) ||
      open.size >= limits.maxConnections ||
      !hasDescriptor()
    if (tooMany) {
      socket.destroy()
      return
    }
    open.add(socket)
    counts.set(peer, count)
    socket.once('close', () => {
      open.delete(socket)
      const left = (counts.get(peer) ?? 1) - 1
      if (left > 0) counts.set(peer, left)
      else counts.delete(peer)
    })
  }
}

/**
 * Ends idle connections at once and again after each answer: a peer that keeps one would hold the
 * close for seconds. Not by `closeIdleConnections`: on Bun it ends busy ones, too (1.4).
 */
async function drain(
  server: NetServer,
  inFlight: InFlight,
  { open, unheard }: { readonly open: Iterable<Socket>; readonly unheard: Iterable<Socket> },
  deadlineMs: number,
): Promise<void> {
  const endIdle = () => {
    for (const [socket, { idle }] of inFlight) if (idle) socket.destroy()
    for (const socket of unheard) socket.destroy()
  }
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  const idle = setInterval(endIdle, 50)
  const cut = setTimeout(() => {
    for (const socket of [...inFlight.keys(), ...open]) socket.destroy()
  }, deadlineMs)
  endIdle()
  await closed
  clearInterval(idle)
  clearTimeout(cut)
}

class NodeConnection implements Connection {
  readonly #incoming: IncomingMessage
  readonly #clients: ClientCertificates | undefined

  constructor(incoming: IncomingMessage, clients: ClientCertificates | undefined) {
    this.#incoming = incoming
    this.#clients = clients
  }

  peer(): Peer {
    const { remoteAddress, remotePort } = this.#incoming.socket
    return { address: remoteAddress ?? 'unix', port: remotePort ?? 0 }
  }

  hold(): void {
    this.#incoming.socket.setTimeout(0)
  }

  header(name: string): string | undefined {
    const value = this.#incoming.headers[name]
    return Array.isArray(value) ? value[0] : value
  }

  certificate(): ClientCertificate | undefined {
    return this.#clients?.of(this.#incoming.socket)
  }
}
