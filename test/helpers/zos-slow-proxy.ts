import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

/** Passes connections on, as late as it is told. */
export interface SlowProxy {
  readonly port: number
  /** Delay of each piece, in each direction. */
  delayMs: number
  /** Connections made so far. */
  readonly connections: number
  /** Nothing passes, and nothing is closed, from now on. */
  freeze(): void
  /** Cuts all connections; new ones pass as before. */
  cut(): void
}

export async function slowProxy(t: TestContext, target: number): Promise<SlowProxy> {
  const sockets = new Set<Socket>()
  let frozen = false
  let connections = 0
  const state = { delayMs: 0 }
  const server = createServer((near) => {
    connections++
    const far = connect(target, '127.0.0.1')
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.on('data', (piece) => {
        if (frozen) return
        // Of equal delays the first ends first, so the order stays.
        setTimeout(() => to.writable && to.write(piece), state.delayMs)
      })
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  t.after(async () => {
    cut()
    await new Promise((closed) => server.close(closed))
  })
  return {
    port: (server.address() as { port: number }).port,
    get delayMs() {
      return state.delayMs
    },
    set delayMs(ms) {
      state.delayMs = ms
    },
    get connections() {
      return connections
    },
    freeze() {
      frozen = true
    },
    cut() {
      frozen = false
      cut()
    },
  }
}
