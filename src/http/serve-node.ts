import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import { createServer as createNetServer, type Server as NetServer, type Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { descriptors } from '../device/descriptors.ts'
import type { Peer } from '../plugin.ts'
import { type ClientCertificate, ClientCertificates } from '../tls/client-certificate.ts'
import { ConnectionCount } from './connection-count.ts'
import { type Connection, Exchange } from './exchange.ts'
import { plainDetector, secureContext, tlsServer } from './tls-front.ts'
import {
  closing,
  type Endpoint,
  type Handler,
  type HttpLimits,
  type HttpListener,
} from './types.ts'
import { type PeerCredentials, UnixPeers } from './unix-peers.ts'
import { WaitingAnswers } from './waiting-answers.ts'

/** As many header lines as Bun's own parser takes. */
const MAX_HEADER_LINES = 198

/** An unread body up to this size is read away, so that the connection can be used again. */
const MAX_SKIPPED_BYTES = 256 * 1024

/** How often connections are looked at for being too slow. */
const CHECK_MS = 1000

/** How `node:http` differs where it is not Node's own. */
export interface NodeQuirks {
  /** Whether the adapter may replace the global `Request` and `Response` with its faster ones. */
  readonly fastGlobals: boolean
  /** Whether a half-closed connection can be told from a closed one while a handler works. */
  readonly halfOpen: boolean
  /** Whether a connection with too many requests has to be cut while they are parsed. */
  readonly cutAtOnce: boolean
  /** Whether only a server of `node:net` shows the descriptor of a connection. */
  readonly hidesDescriptors: boolean
}

/** Every connection that speaks HTTP, with the answers it was promised. */
type InFlight = Map<Socket, WaitingAnswers>

/** What connections by themselves show of who made them. */
interface Known {
  readonly clients: ClientCertificates | undefined
  readonly peers: UnixPeers | undefined
}

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
  const peers = 'unix' in endpoint && endpoint.peers ? new UnixPeers(endpoint.peers) : undefined
  const http = httpServer(name, limits, handler, quirks, inFlight, { clients, peers })
  const tls = endpoint.tls && tlsServer(http, endpoint.tls, limits)
  const unheard = new Set<Socket>()
  let server: NetServer = http
  if (tls) server = plainDetector(tls, limits, unheard)
  else if (peers && quirks.hidesDescriptors) server = createNetServer()
  const open = new Set<Socket>()
  const files = descriptors()
  const count = new ConnectionCount(limits, open)
  server.on('connection', (socket) => {
    if (!count.admit(socket)) return
    peers?.accepted(socket)
    if (server !== http && !tls) http.emit('connection', socket)
  })
  if (server !== http) {
    watchWaiting(server, inFlight, limits)
    // Deno ends a connection after each answer of a server that does not listen itself.
    Object.defineProperty(http, 'listening', { get: () => server.listening })
  }
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    const bound = () => {
      server.off('error', reject)
      // A connection that could not be accepted: the next one may.
      server.on('error', () => undefined)
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
  known: Known,
): HttpServer {
  const answer = getRequestListener(
    (request, env) => {
      const incoming = env.incoming as IncomingMessage
      const answered = handler(request, new Exchange(name, new NodeConnection(incoming, known)))
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
  readonly #known: Known

  constructor(incoming: IncomingMessage, known: Known) {
    this.#incoming = incoming
    this.#known = known
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
    return this.#known.clients?.of(this.#incoming.socket)
  }

  credentials(): PeerCredentials | undefined {
    return this.#known.peers?.of(this.#incoming.socket)
  }
}
