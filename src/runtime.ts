import { createServer, type Server as HttpServer, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import { getRequestListener } from '@hono/node-server'
import { type Connection, Exchange } from './exchange.ts'
import type { Peer } from './plugin.ts'

/** The three runtimes cvmd runs on. This file is the only one that may name their globals. */
export type Runtime = 'node' | 'bun' | 'deno'

export const runtime: Runtime = 'Bun' in globalThis ? 'bun' : 'Deno' in globalThis ? 'deno' : 'node'

/** Whether this is the single file made by `bun build --compile`. */
export const compiled: boolean =
  runtime === 'bun' && process.execArgv.length === 0 && import.meta.url.includes('/$bunfs/')

/** `node v20.20.2`, for the version command and the log. */
export function runtimeVersion(): string {
  const { bun, deno, node } = process.versions as Record<string, string | undefined>
  return `${runtime} ${runtime === 'bun' ? bun : runtime === 'deno' ? deno : node}`
}

/** Answers a request. */
export type Handler = (request: Request, exchange: Exchange) => Response | Promise<Response>

/** Limits of one HTTP server; times in milliseconds. */
export interface HttpLimits {
  readonly maxHeadBytes: number
  /** From the first byte of a connection to the end of a request head. */
  readonly headTimeoutMs: number
  /** A connection on which nothing moves is closed after this long. */
  readonly idleTimeoutMs: number
  readonly maxConnections: number
  readonly maxConnectionsPerPeer: number
}

/** Where to listen. */
export type Endpoint =
  | { readonly host: string; readonly port: number; readonly tls?: TlsPair }
  | { readonly unix: string; readonly tls?: TlsPair }

/** Certificate chain and key in PEM. */
export interface TlsPair {
  readonly cert: string
  readonly key: string
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

/**
 * Serves HTTP/1.1 on one endpoint. On Bun, plain TCP goes through `Bun.serve`, which is twice as
 * fast there; everything else, and all of Node and Deno, through `node:http`, which has the
 * timeouts `Deno.serve` lacks (measured, see the README's runtime notes).
 *
 * @throws {Error} The system error when the endpoint cannot be bound.
 */
export function serveHttp(
  name: string,
  endpoint: Endpoint,
  limits: HttpLimits,
  handler: Handler,
): Promise<HttpListener> {
  if (runtime === 'bun' && 'host' in endpoint && !endpoint.tls) {
    return serveBun(name, endpoint, limits, handler)
  }
  return serveNode(name, endpoint, limits, handler)
}

async function serveBun(
  name: string,
  endpoint: { readonly host: string; readonly port: number },
  limits: HttpLimits,
  handler: Handler,
): Promise<HttpListener> {
  const http = await import('node:http')
  // Bun takes the head limit from here, process-wide; there is no option on Bun.serve.
  Object.assign(http.default, {
    maxHeaderSize: Math.max(http.default.maxHeaderSize, limits.maxHeadBytes),
  })
  const idleSeconds = Math.min(255, Math.ceil(limits.headTimeoutMs / 1000))
  const server = Bun.serve({
    hostname: endpoint.host,
    port: endpoint.port,
    // Counts while a head is read and between requests; handlers that wait lift it.
    idleTimeout: idleSeconds,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch: (request, bun) => {
      const connection = new BunConnection(request, bun)
      const answer = handler(request, new Exchange(name, connection))
      return answer instanceof Promise
        ? answer.then((response) => connection.answered(response, idleSeconds))
        : answer
    },
    error: () => new Response(null, { status: 500 }),
  })
  return {
    port: server.port ?? 0,
    replaceTls: () => undefined,
    close: async (deadlineMs) => {
      const drained = server.stop(false)
      const timer = setTimeout(() => server.stop(true), deadlineMs)
      await drained
      clearTimeout(timer)
    },
  }
}

class BunConnection implements Connection {
  readonly #request: Request
  readonly #server: Bun.Server<unknown>
  #held = false

  constructor(request: Request, server: Bun.Server<unknown>) {
    this.#request = request
    this.#server = server
  }

  peer(): Peer {
    return this.#server.requestIP(this.#request) ?? { address: 'unknown', port: 0 }
  }

  hold(): void {
    this.#held = true
    this.#server.timeout(this.#request, 0)
  }

  /** A failed request may leave a body unread, whose sender must not keep the connection. */
  answered(response: Response, idleSeconds: number): Response {
    if (this.#held && response.status >= 400) this.#server.timeout(this.#request, idleSeconds)
    return response
  }

  header(name: string): string | undefined {
    return this.#request.headers.get(name) ?? undefined
  }
}

function serveNode(
  name: string,
  endpoint: Endpoint,
  limits: HttpLimits,
  handler: Handler,
): Promise<HttpListener> {
  const answer = getRequestListener(
    (request, { incoming }) =>
      handler(request, new Exchange(name, new NodeConnection(incoming as IncomingMessage))),
    // Bun.serve only takes Bun's own Response, so there the globals must stay as they are.
    { overrideGlobalObjects: runtime !== 'bun' },
  )
  const http = createServer(
    {
      maxHeaderSize: limits.maxHeadBytes,
      headersTimeout: limits.headTimeoutMs,
      // Bodies have deadlines of their own: one for all would cut honest slow uploads.
      requestTimeout: 0,
      keepAliveTimeout: limits.idleTimeoutMs,
      connectionsCheckingInterval: 1000,
    },
    (incoming, outgoing) => {
      if (countHosts(incoming) > 1) {
        outgoing.writeHead(400, { connection: 'close' }).end()
        return
      }
      answer(incoming, outgoing)
    },
  )
  http.timeout = limits.idleTimeoutMs
  const tls = endpoint.tls && terminateTls(http, endpoint.tls)
  const server = tls ?? http
  server.maxConnections = limits.maxConnections
  server.on('connection', capPerPeer(limits.maxConnectionsPerPeer))
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    const bound = () => {
      server.off('error', reject)
      const address = server.address()
      resolve({
        port: typeof address === 'object' && address !== null ? address.port : 0,
        replaceTls: (pair) => tls?.setSecureContext(pair),
        close: (deadlineMs) => drain(http, tls, deadlineMs),
      })
    }
    if ('unix' in endpoint) server.listen(endpoint.unix, bound)
    else server.listen(endpoint.port, endpoint.host, bound)
  })
}

/** TLS in front of an HTTP server; `node:https` hides the peer certificate on Bun. */
function terminateTls(http: HttpServer, pair: TlsPair): TlsServer {
  const server = createTlsServer({ ...pair, minVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'] })
  server.on('secureConnection', (socket) => http.emit('connection', socket))
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  return server
}

function capPerPeer(limit: number): (socket: Socket) => void {
  const counts = new Map<string, number>()
  return (socket) => {
    const peer = socket.remoteAddress
    if (peer === undefined) return
    const count = (counts.get(peer) ?? 0) + 1
    counts.set(peer, count)
    socket.once('close', () => {
      const left = (counts.get(peer) ?? 1) - 1
      if (left > 0) counts.set(peer, left)
      else counts.delete(peer)
    })
    if (count > limit) socket.destroy()
  }
}

function countHosts({ rawHeaders }: IncomingMessage): number {
  let count = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const header = rawHeaders[i] as string
    if (header.length === 4 && header.toLowerCase() === 'host') count++
  }
  return count
}

async function drain(
  http: HttpServer,
  tls: TlsServer | undefined,
  deadlineMs: number,
): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    if (tls) tls.close(() => resolve())
    else http.close(() => resolve())
  })
  // A peer that keeps an idle connection would otherwise hold the close for seconds.
  const idle = setInterval(() => http.closeIdleConnections(), 50)
  const cut = setTimeout(() => http.closeAllConnections(), deadlineMs)
  http.closeIdleConnections()
  await closed
  clearInterval(idle)
  clearTimeout(cut)
}

class NodeConnection implements Connection {
  readonly #incoming: IncomingMessage

  constructor(incoming: IncomingMessage) {
    this.#incoming = incoming
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
}
