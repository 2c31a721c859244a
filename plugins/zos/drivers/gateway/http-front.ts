import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Guard } from '../guard.ts'
import { dial } from './dial.ts'
import { type Exchange, forward } from './forward.ts'
import { forwardUpgrade } from './forward-upgrade.ts'
import type { ProxyLimits, Routes } from './proxy.ts'
import { type GatewayRoute, hostKey } from './route.ts'

export interface HttpFrontParts {
  readonly routes: Routes
  readonly limits: ProxyLimits
  readonly guard: Guard
}

export interface HttpFront {
  /** Takes over a connection, on which plain HTTP is spoken from here on. */
  accept(socket: Socket, protocol: 'http' | 'https'): void
  close(): void
}

/** A connection between two requests may stay so long, in milliseconds. */
const KEEP_ALIVE_MS = 60_000

/** How often connections without a request are looked at. */
const WATCH_MS = 1000

const MAX_HEADER_LINES = 200

/** HTTP/1.1 by the `Host` header, to the one backend of its route. */
export function createHttpFront({ routes, limits, guard }: HttpFrontParts): HttpFront {
  const protocols = new WeakMap<object, 'http' | 'https'>()
  /** Connections that wait for a request head, with the time by which it has to be there. */
  const waiting = new Map<Socket, number>()
  let watch: ReturnType<typeof setInterval> | undefined
  let closed = false

  const http = createServer(
    // It never listens itself, so its own timers would not run.
    { maxHeaderSize: limits.maxHeadBytes, keepAliveTimeout: 2 * KEEP_ALIVE_MS, requestTimeout: 0 },
    (incoming, outgoing) => {
      waiting.delete(incoming.socket)
      outgoing.sendDate = false
      outgoing.once('close', () => {
        if (!incoming.socket.destroyed)
          waiting.set(incoming.socket, performance.now() + KEEP_ALIVE_MS)
      })
      const found = routeOf(incoming, routes)
      if (typeof found === 'number') return refuse(incoming, outgoing, found)
      void forward(exchangeOf(incoming, found), outgoing)
    },
  )
  // Deno ends a connection after each answer of a server that does not listen.
  Object.defineProperty(http, 'listening', { get: () => !closed })
  http.on('upgrade', (incoming: IncomingMessage, socket: Socket, head: Uint8Array) => {
    waiting.delete(socket)
    const found = routeOf(incoming, routes)
    if (typeof found === 'number') {
      socket.end(
        `HTTP/1.1 ${found} ${TEXTS[found]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
      )
      return
    }
    void forwardUpgrade(exchangeOf(incoming, found), socket, head)
  })
  http.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')
    else socket.destroy()
  })

  function exchangeOf(incoming: IncomingMessage, route: GatewayRoute): Exchange {
    const { socket } = incoming
    const client = {
      address: socket.remoteAddress ?? '',
      port: socket.localPort ?? 0,
      protocol: protocols.get(socket) ?? 'http',
      host: incoming.headers.host ?? '',
    }
    const { connectTimeoutMs } = limits
    const connect = () => dial(route, { connectTimeoutMs, guard, halfOpen: false })
    return { incoming, client, limits, connect }
  }

  return {
    accept(socket, protocol) {
      if (closed) return void socket.destroy()
      watch ??= setInterval(() => {
        const now = performance.now()
        for (const [one, latest] of waiting) if (now > latest) one.destroy()
      }, WATCH_MS)
      watch.unref()
      protocols.set(socket, protocol)
      waiting.set(socket, performance.now() + limits.headTimeoutMs)
      socket.setTimeout(limits.idleTimeoutMs, () => socket.destroy())
      socket.once('close', () => waiting.delete(socket))
      http.emit('connection', socket)
    },
    close() {
      closed = true
      clearInterval(watch)
      watch = undefined
    },
  }
}

const TEXTS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  404: 'Not Found',
  431: 'Request Header Fields Too Large',
}

/** Where a request goes, or the status to refuse it with. */
function routeOf(incoming: IncomingMessage, routes: Routes): GatewayRoute | number {
  const { rawHeaders, headers, url = '' } = incoming
  if (rawHeaders.length > 2 * MAX_HEADER_LINES) return 431
  const names = rawHeaders.filter((_text, at) => at % 2 === 0).map((name) => name.toLowerCase())
  const count = (wanted: string) => names.filter((name) => name === wanted).length
  const coding = headers['transfer-encoding']
  // What two parsers may understand in two ways is refused.
  if (count('host') !== 1 || count('content-length') > 1 || count('transfer-encoding') > 1)
    return 400
  if (coding !== undefined && (coding.toLowerCase() !== 'chunked' || count('content-length') > 0)) {
    return 400
  }
  if (!url.startsWith('/') && url !== '*') return 400
  const route = routes.get(hostKey(headers.host ?? ''))
  return route === undefined || route.tlsPassthrough ? 404 : route
}

function refuse(incoming: IncomingMessage, outgoing: ServerResponse, status: number): void {
  // Its body is not read.
  if (!incoming.complete) outgoing.setHeader('Connection', 'close')
  const text = `${TEXTS[status]}\n`
  outgoing.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': String(text.length),
  })
  outgoing.end(incoming.method === 'HEAD' ? undefined : text)
}
