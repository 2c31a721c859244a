import {
  type AddressInfo,
  createServer as createNetServer,
  type Server,
  type Socket,
} from 'node:net'
import type { TestContext } from 'node:test'
import {
  createProxy,
  type GatewayProxy,
  type ProxyOptions,
} from '../../plugins/zos/drivers/gateway/proxy.ts'
import type { GatewayRoute } from '../../plugins/zos/drivers/gateway/route.ts'
import { within } from '../../src/deadline.ts'

export const ANY = { host: '127.0.0.1', port: 0 } as const

/** Fails with a clear word instead of waiting for ever. */
export const soon = <T>(what: string, work: Promise<T>): Promise<T> => within(15_000, work, what)

/** A proxy on ports of its own, whose backends may be on this machine; closed with the test. */
export async function startProxy(
  t: TestContext,
  options: Partial<ProxyOptions> = {},
): Promise<{ readonly proxy: GatewayProxy; readonly http: number; readonly tls: number }> {
  const proxy = createProxy({ http: [ANY], tls: [ANY], guard: () => undefined, ...options })
  t.after(() => proxy.stop())
  const probed = await proxy.probe(new AbortController().signal)
  if (!probed.able) throw new Error(probed.reason)
  const ports = proxy.ports()
  return { proxy, http: ports.http[0] ?? 0, tls: ports.tls[0] ?? 0 }
}

/** A route to a port of this machine. */
export function routeTo(
  port: number,
  host: string,
  more: Partial<GatewayRoute> = {},
): GatewayRoute {
  const backend = { host: '127.0.0.1', port }
  return {
    id: `1-1-${host.replace(/\W/g, '_')}`,
    host,
    kind: 'fqdn',
    tlsPassthrough: false,
    backend,
    ...more,
  }
}

/** Lets a server listen on a port of its own, and ends it and its connections with the test. */
export async function listenTo(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => sockets.delete(socket))
  })
  t.after(async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    for (const socket of sockets) socket.destroy()
    await closed
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

/** A backend that does with each connection what a test says. */
export function rawBackend(t: TestContext, accept: (socket: Socket) => void): Promise<number> {
  return listenTo(t, createNetServer({ allowHalfOpen: true }, accept))
}
