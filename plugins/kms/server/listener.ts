import { createHash } from 'node:crypto'
import { createServer as createHttpServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, createServer as createNetServer, type Socket } from 'node:net'
import { clearTimeout, setTimeout } from 'node:timers'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { getRequestListener } from '@hono/node-server'
import type { Hono } from 'hono'
import type { PemPair } from '../../../src/tls/self-signed.ts'
import { type VerificationBudget, verificationBudget } from '../trust/verification-budget.ts'
import { type VerificationCache, verificationCache } from '../trust/verification-cache.ts'
import type { VerifiedEvidence } from '../trust/verified-evidence.ts'
import { type ConnectionLimits, Connections } from './connections.ts'
import type { KmsEnv } from './routes.ts'

/** What a listener is made from. */
export interface RaTlsOptions {
  readonly host: string
  /** 0 for any that is free. */
  readonly port: number
  readonly pair: PemPair
  /** PEM: which authority clients are asked for certificates of. */
  readonly temporaryCa: string
  readonly app: Hono<KmsEnv>
  /**
   * Verifies a client by its certificate, DER.
   *
   * @throws {ApiError} As `verifyPeer`.
   */
  readonly verify: (certificate: Uint8Array | undefined) => Promise<VerifiedEvidence>
  readonly limits?: Partial<ConnectionLimits>
  /** Pays for what clients have verified. Default: one of this listener's own. */
  readonly budget?: VerificationBudget | undefined
}

/** A server that accepts connections. */
export interface RaTlsListener {
  readonly port: number
  /** Uses another certificate for new connections. */
  replaceTls(pair: PemPair): void
  /** Accepts no more, lets running requests finish until the deadline, then cuts them. */
  close(deadlineMs: number): Promise<void>
}

const LIMITS: ConnectionLimits = {
  maxConnections: 1024,
  maxConnectionsPerPeer: 128,
  handshakeTimeoutMs: 10_000,
  idleTimeoutMs: 60_000,
  requestTimeoutMs: 30_000,
}

const MAX_HEAD_BYTES = 64 * 1024

/**
 * Serves HTTP/1.1 over TLS 1.3, in which clients may show a certificate (spec dstack §8). Any is
 * let in: whose it is, and whether that counts for anything, is found out when a method asks.
 *
 * TLS stands in front of `node:http`, as `node:https` hides the client's certificate on Bun. Whoever
 * does not speak it is cut off at once: to say so in plain HTTP is possible on Node only.
 *
 * @throws {Error} The system error when the address cannot be bound.
 */
export function listenRaTls(options: RaTlsOptions): Promise<RaTlsListener> {
  const { host, port, app } = options
  const budget = options.budget ?? verificationBudget()
  const limits = { ...LIMITS, ...options.limits }
  const connections = new Connections(limits)
  const peers = new Peers(options.verify, budget)
  const answer = getRequestListener(
    (request, env) => {
      const { socket } = env.incoming as IncomingMessage
      return app.fetch(request, {
        peer: () => peers.of(socket as TLSSocket),
        spend: () => budget.spend(socket.remoteAddress),
      })
    },
    // Bun takes only responses of its own.
    { overrideGlobalObjects: false },
  )
  const serving = { maxHeaderSize: MAX_HEAD_BYTES, keepAliveTimeout: limits.idleTimeoutMs }
  const http = createHttpServer(serving, (incoming, outgoing) => {
    const { socket } = incoming
    if (!connections.asked(socket, outgoing)) return
    outgoing.once('close', () => connections.answered(socket))
    void answer(incoming, outgoing)
  })
  const secureContext = (pair: PemPair) => {
    // Without the renegotiation of older versions, a connection has one peer.
    return { ...pair, ca: options.temporaryCa, minVersion: 'TLSv1.3' } as const
  }
  const tls = createTlsServer({
    ...secureContext(options.pair),
    requestCert: true,
    // What the authority signed proves nothing, so nothing hangs on what the runtimes make of it.
    rejectUnauthorized: false,
    ALPNProtocols: ['http/1.1'],
  })
  tls.on('secureConnection', (socket) => {
    connections.secured(socket)
    http.emit('connection', socket)
  })
  tls.on('tlsClientError', (_error, socket) => socket.destroy())
  const server = createNetServer((socket) => {
    socket.on('error', () => socket.destroy())
    // Else the first answer waits for the client to acknowledge the end of the handshake: 40 ms.
    socket.setNoDelay(true)
    if (connections.opened(socket)) tls.emit('connection', socket)
  })
  // Deno (2.9) ends a connection after each answer of a server that does not listen, as this one,
  // whose connections come from another, does not.
  Object.defineProperty(http, 'listening', { get: () => server.listening })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      // A connection that could not be accepted: the next one may.
      server.on('error', () => undefined)
      resolve({
        port: (server.address() as AddressInfo).port,
        replaceTls: (pair) => tls.setSecureContext(secureContext(pair)),
        close: async (deadlineMs) => {
          const closed = new Promise<void>((done) => server.close(() => done()))
          connections.drain()
          const cut = setTimeout(() => connections.cutAll(), deadlineMs)
          await closed
          clearTimeout(cut)
        },
      })
    })
  })
}

/** Who is at the other end; looked at once a minute at most, however often he comes back. */
class Peers {
  readonly #verify: RaTlsOptions['verify']
  readonly #budget: VerificationBudget
  readonly #cache: VerificationCache = verificationCache()
  /** Reading the certificate of a connection takes longer than to look this up. */
  readonly #fingerprints = new WeakMap<Socket, string>()

  constructor(verify: RaTlsOptions['verify'], budget: VerificationBudget) {
    this.#verify = verify
    this.#budget = budget
  }

  async of(socket: TLSSocket): Promise<VerifiedEvidence> {
    const certificate = this.#fingerprints.has(socket) ? undefined : certificateOf(socket)
    if (certificate) this.#fingerprints.set(socket, sha256(certificate))
    const fingerprint = this.#fingerprints.get(socket)
    if (fingerprint === undefined) return this.#verify(undefined)
    return this.#cache.of(fingerprint, () => {
      this.#budget.spend(socket.remoteAddress)
      return this.#verify(certificate ?? certificateOf(socket))
    })
  }
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** The client's own certificate, DER. Node answers with an empty object where there is none. */
function certificateOf(socket: TLSSocket): Uint8Array | undefined {
  const found: { readonly raw?: Uint8Array } | null | undefined = socket.getPeerCertificate()
  return found?.raw && new Uint8Array(found.raw)
}
