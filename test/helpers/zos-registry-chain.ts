import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import type { PemPair } from '../../src/tls/self-signed.ts'

/** How a stand-in answers a request, given what a good answer is. */
export type Manner = (good: string) => string | Uint8Array | 'silence' | 'cut' | 'status 500'

/** A node of the chain as far as its storage goes, over HTTP and WebSocket on one port. */
export interface ChainStandIn {
  /** Values by key, both in bytes' hex without prefix. */
  readonly storage: Map<string, string>
  /** Methods that were called, oldest first. */
  readonly calls: string[]
  manner: Manner
  /** With TLS, the scheme has its `s`. */
  url(scheme: 'http' | 'ws'): URL
  /** WebSockets that are open. */
  sockets(): number
  /** Ends what is open, as when the machine goes. */
  cut(): void
  stop(): Promise<void>
}

export function put(chain: ChainStandIn, key: Uint8Array, value: Uint8Array): void {
  chain.storage.set(hex(key), hex(value))
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** @param tls Certificate and key of a server with TLS. */
export async function startChain(tls?: PemPair): Promise<ChainStandIn> {
  const storage = new Map<string, string>()
  const calls: string[] = []
  const connections = new Set<Socket>()
  const clients = new Set<WebSocket>()
  const stored = (key: string) => {
    const value = storage.get(key.slice(2))
    return value === undefined ? null : `0x${value}`
  }

  function answer(text: string): string {
    const { id, method, params } = JSON.parse(text)
    calls.push(method)
    const reply = (member: object) => JSON.stringify({ jsonrpc: '2.0', ...member, id })
    if (method === 'state_getStorage') return reply({ result: stored(params[0]) })
    if (method !== 'state_queryStorageAt') {
      return reply({ error: { code: -32601, message: 'Method not found' } })
    }
    const changes = params[0].map((key: string) => [key, stored(key)])
    return reply({ result: [{ block: `0x${'00'.repeat(32)}`, changes }] })
  }

  async function overHttp(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Uint8Array[] = []
    for await (const part of request) parts.push(part)
    const sent = self.manner(answer(Buffer.concat(parts).toString()))
    if (sent === 'silence') return
    if (sent === 'cut') {
      request.socket.destroy()
      return
    }
    response.statusCode = sent === 'status 500' ? 500 : 200
    response.end(sent)
  }

  const handle = (request: IncomingMessage, response: ServerResponse) => {
    overHttp(request, response).catch(() => response.destroy())
  }
  const server = tls ? createTlsServer(tls, handle) : createServer(handle)
  server.on('connection', (socket) => {
    connections.add(socket)
    socket.on('close', () => connections.delete(socket))
  })
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket) => {
    clients.add(socket)
    socket.on('close', () => clients.delete(socket))
    socket.on('error', () => undefined)
    socket.on('message', (data) => {
      const sent = self.manner(answer(String(data)))
      if (sent === 'cut' || sent === 'status 500') socket.terminate()
      else if (sent !== 'silence') socket.send(sent)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo

  const self: ChainStandIn = {
    storage,
    calls,
    manner: (good) => good,
    url: (scheme) =>
      new URL(`${scheme}${tls ? 's' : ''}://127.0.0.1:${port}/some/key?token=secret`),
    sockets: () => clients.size,
    cut() {
      for (const socket of clients) socket.terminate()
      for (const socket of connections) socket.destroy()
    },
    stop: () =>
      new Promise((resolve) => {
        self.cut()
        sockets.close()
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return self
}
