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

/** What happens on the way. */
export interface MiddleEvent {
  /** By its number from 0. */
  readonly connection: number
  /**
   * Who speaks, however many pieces it takes: the client for the first time in 1, the server for the
   * first time in 2; 0 when the client has connected.
   */
  readonly turn: number
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
    let turn = 0
    const pass = (from: Socket, to: Socket, parity: number) => {
      from.on('data', (data: Buffer) => {
        seen.push(Buffer.from(data))
        if (turn % 2 !== parity || turn === 0) turn += 1
        onEvent?.({ connection, turn })
        if (!to.destroyed) to.write(data)
      })
      from.on('close', () => to.destroy())
    }
    track(client)
    track(server)
    pass(client, server, 1)
    pass(server, client, 0)
  }

  const server = createServer((socket) => {
    const connection = connections++
    track(socket)
    onEvent?.({ connection, turn: 0 })
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
