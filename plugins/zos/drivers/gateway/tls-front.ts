import type { Socket } from 'node:net'
import { createServer, type Server } from 'node:tls'
import { MAX_HELLO_BYTES, readClientHello } from './client-hello.ts'
import { dial, splice } from './dial.ts'
import type { HttpFront, HttpFrontParts } from './http-front.ts'
import type { ProxyCertificate } from './proxy.ts'
import type { GatewayRoute } from './route.ts'

export interface TlsFrontParts extends HttpFrontParts {
  readonly certificate: (() => ProxyCertificate | undefined) | undefined
  /** Takes what comes out of TLS that ends here. */
  readonly http: HttpFront['accept']
}

/** A fatal alert `unrecognized_name` (RFC 8446: section 6), as there is nobody by that name here. */
const UNRECOGNIZED_NAME = Uint8Array.of(0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x70)

/** TLS by the server name that the client asks for. */
export function createTlsFront(parts: TlsFrontParts): { accept(socket: Socket): void } {
  const { routes, limits } = parts
  const ended = createEnding(parts)
  const accept = (socket: Socket) => {
    let received: Uint8Array = new Uint8Array()
    const late = setTimeout(() => socket.destroy(), limits.headTimeoutMs)
    const decide = () => {
      clearTimeout(late)
      socket.off('data', take)
      socket.off('end', give)
      socket.pause()
    }
    const give = () => socket.destroy()
    const take = (chunk: Uint8Array) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
      const hello = readClientHello(received)
      if (hello.state === 'more' && received.length < MAX_HELLO_BYTES) return
      decide()
      const name = hello.state === 'hello' ? hello.serverName : undefined
      const route = name === undefined ? undefined : routes.get(name)
      if (hello.state !== 'hello') socket.destroy()
      else if (route?.tlsPassthrough) void passThrough(socket, received, route, parts)
      else if (route && ended(socket, received)) return
      else socket.end(UNRECOGNIZED_NAME, () => socket.destroySoon())
    }
    socket.once('close', () => clearTimeout(late))
    socket.on('end', give)
    socket.on('data', take)
  }
  return { accept }
}

async function passThrough(
  socket: Socket,
  received: Uint8Array,
  route: GatewayRoute,
  { limits, guard }: TlsFrontParts,
): Promise<void> {
  try {
    const { connectTimeoutMs } = limits
    const joined = await dial(route, { connectTimeoutMs, guard, halfOpen: true })
    if (socket.destroyed) return void joined.destroy()
    joined.write(received)
    splice(socket, joined, limits.idleTimeoutMs)
  } catch {
    // There is no status in TLS to say why.
    socket.destroy()
  }
}

/** Gives a function that ends TLS here; false without a certificate. */
function createEnding({ certificate, limits, http }: TlsFrontParts) {
  let server: Server | undefined
  let current = ''
  return (socket: Socket, received: Uint8Array): boolean => {
    const pair = certificate?.()
    if (!pair) return false
    if (!server || current !== pair.cert) {
      server = createServer({
        ...pair,
        minVersion: 'TLSv1.2',
        ALPNProtocols: ['http/1.1'],
        handshakeTimeout: limits.headTimeoutMs,
      })
      server.on('secureConnection', (secure) => http(secure, 'https'))
      server.on('tlsClientError', (_error, failed) => failed.destroy())
      current = pair.cert
    }
    socket.unshift(received)
    server.emit('connection', socket)
    return true
  }
}
