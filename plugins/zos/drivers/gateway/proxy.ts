import type { Socket } from 'node:net'
import { messageOf } from '../../../../src/errors.ts'
import type { Guard } from '../guard.ts'
import { createHttpFront } from './http-front.ts'
import { type Bound, openPort, type PortLimits } from './port.ts'
import type { GatewayBackEnd, GatewayRoute } from './route.ts'
import { createTlsFront } from './tls-front.ts'

/** A TCP address to listen on. */
export interface ListenAddress {
  /** IP address. */
  readonly host: string
  /** 0 for any that is free. */
  readonly port: number
}

/** Certificate chain and key as PEM. */
export interface ProxyCertificate {
  readonly cert: string
  readonly key: string
}

export interface ProxyOptions {
  /** Where plain HTTP is answered, by the `Host` header. */
  readonly http: readonly ListenAddress[]
  /** Where TLS is passed through by the server name the client asks for, or ended here. */
  readonly tls: readonly ListenAddress[]
  /**
   * For routes that do not pass TLS through, as one for `*.<domain of the node>`; without it they are
   * served on plain HTTP only. Read for each connection, so that it may be renewed.
   */
  readonly certificate?: (() => ProxyCertificate | undefined) | undefined
  /** What is wrong with an address, now that it is to be connected to; see `createGuard`. */
  readonly guard: Guard
  readonly limits?: Partial<ProxyLimits> | undefined
}

/** Bounds on what clients and backends may take. */
export interface ProxyLimits extends PortLimits {
  /** Milliseconds for a request head or a ClientHello. */
  readonly headTimeoutMs: number
  readonly maxHeadBytes: number
  /** Milliseconds until a backend has to accept the connection. */
  readonly connectTimeoutMs: number
  /** Milliseconds until a backend has to begin its answer, once it has the request. */
  readonly answerTimeoutMs: number
  /** Milliseconds without a byte in either direction after which a connection is given up. */
  readonly idleTimeoutMs: number
}

export const PROXY_LIMITS: ProxyLimits = {
  maxConnections: 4096,
  maxConnectionsPerPeer: 512,
  headTimeoutMs: 10_000,
  maxHeadBytes: 64 * 1024,
  connectTimeoutMs: 10_000,
  answerTimeoutMs: 60_000,
  idleTimeoutMs: 600_000,
}

/** Routes by the host names they are for. */
export type Routes = ReadonlyMap<string, GatewayRoute>

export interface GatewayProxy extends GatewayBackEnd {
  /** Ports in use, in the order of the addresses; empty while it does not listen. */
  ports(): { readonly http: readonly number[]; readonly tls: readonly number[] }
}

/**
 * The daemon's own reverse proxy: HTTP by host name, with WebSockets and streams, and TLS passed
 * through by server name. Nothing is kept on disk: routes come again with their workloads.
 *
 * It listens from the first probe that succeeds until it is stopped.
 */
export function createProxy(options: ProxyOptions): GatewayProxy {
  const limits: ProxyLimits = { ...PROXY_LIMITS, ...options.limits }
  const routes = new Map<string, GatewayRoute>()
  const sockets = new Set<Socket>()
  const parts = { routes, limits, guard: options.guard }
  const http = createHttpFront(parts)
  const tls = createTlsFront({ ...parts, certificate: options.certificate, http: http.accept })
  let bound: { http: Bound[]; tls: Bound[] } | undefined
  let opening: Promise<void> | undefined

  const open = async () => {
    const all: { http: Bound[]; tls: Bound[] } = { http: [], tls: [] }
    try {
      for (const at of options.http) {
        all.http.push(await openPort(at, limits, sockets, (socket) => http.accept(socket, 'http')))
      }
      for (const at of options.tls) {
        all.tls.push(await openPort(at, limits, sockets, tls.accept))
      }
      bound = all
    } catch (error) {
      await Promise.all([...all.http, ...all.tls].map((one) => one.close()))
      throw error
    }
  }
  return {
    name: 'proxy',

    async probe() {
      if (options.http.length + options.tls.length === 0) {
        const reason = 'No gateway is configured: name the addresses it is to listen on'
        return { able: false, reason }
      }
      try {
        if (!bound) {
          opening ??= open()
          await opening
        }
        return { able: true }
      } catch (error) {
        return { able: false, reason: messageOf(error) }
      } finally {
        opening = undefined
      }
    },

    async set(route) {
      if (route.tlsPassthrough && options.tls.length === 0) {
        throw new Error('this node has no gateway that TLS could pass through')
      }
      const before = [...routes].find(([, { id }]) => id === route.id)
      if (before) routes.delete(before[0])
      routes.set(route.host, route)
    },

    async remove(id) {
      for (const [host, route] of routes) if (route.id === id) routes.delete(host)
    },

    ids: async () => [...routes.values()].map(({ id }) => id),

    async stop() {
      const all = bound ? [...bound.http, ...bound.tls] : []
      bound = undefined
      const closed = all.map((one) => one.close())
      for (const socket of sockets) socket.destroy()
      await Promise.all(closed)
      http.close()
    },

    ports: () => ({
      http: bound?.http.map(({ port }) => port) ?? [],
      tls: bound?.tls.map(({ port }) => port) ?? [],
    }),
  }
}
