import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls'
import type { PemPair } from '../../src/tls/self-signed.ts'

/** Somebody on the way to a server, who passes everything on and notes it. */
export interface Middle {
  readonly port: number
  readonly url: string
  /** How many connections there were. */
  readonly connections: number
  /** Everything that passed, in both directions, as he could read it; see {@link MiddleOptions}. */
  seen(): Buffer
  close(): void
}

export interface MiddleOptions {
  /** Port of the server. */
  readonly target: number
  /**
   * With what he answers a connection himself, by its number from 0, to read what passes; undefined
   * to pass it on as it is.
   */
  readonly pairFor: (n: number) => PemPair | undefined
  /** Told of each connection, and of each piece that passes, before it does. */
  readonly onEvent?: (event: MiddleEvent) => void
}

/** By the number of the connection, and of the event on it, from 0. */
export interface MiddleEvent {
  readonly connection: number
  readonly kind: 'connected' | 'to-server' | 'to-client'
}

/** Listens on a port of its own. */
export async function middle({ target, pairFor, onEvent }: MiddleOptions): Promise<Middle> {
  const seen: Buffer[] = []
  const sockets = new Set<Socket>()
  const track = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => sockets.delete(socket))
  }
  let connections = 0

  function join(connection: number, client: Socket, server: Socket): void {
    const pass = (from: Socket, to: Socket, kind: MiddleEvent['kind']) => {
      from.on('data', (data: Buffer) => {
        seen.push(Buffer.from(data))
        onEvent?.({ connection, kind })
        if (!to.destroyed) to.write(data)
      })
      from.on('close', () => to.destroy())
    }
    track(client)
    track(server)
    pass(client, server, 'to-server')
    pass(server, client, 'to-client')
  }

  const server = createServer((socket) => {
    const connection = connections++
    track(socket)
    onEvent?.({ connection, kind: 'connected' })
    const pair = pairFor(connection)
    if (!pair) {
      join(connection, socket, connect(target, '127.0.0.1'))
      return
    }
    // One server for each, as certificates may change from one connection to the next.
    const answering = createTlsServer(
      { ...pair, requestCert: true, rejectUnauthorized: false },
      (client) => {
        const options = { host: '127.0.0.1', port: target, rejectUnauthorized: false }
        join(connection, client, tlsConnect(options))
      },
    )
    answering.on('tlsClientError', () => socket.destroy())
    answering.emit('connection', socket)
  })
  const port = await new Promise<number>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })
  return {
    port,
    url: `https://127.0.0.1:${port}`,
    get connections() {
      return connections
    },
    seen: () => Buffer.concat(seen),
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}
