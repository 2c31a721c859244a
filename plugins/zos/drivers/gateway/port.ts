import { type AddressInfo, createServer, type Socket } from 'node:net'
import { descriptors } from '../../../../src/device/descriptors.ts'
import { errnoOf, messageOf } from '../../../../src/errors.ts'
import { addressText } from './route.ts'

export interface PortLimits {
  /** At the same time, on all ports together. */
  readonly maxConnections: number
  readonly maxConnectionsPerPeer: number
}

/** A port that is listened on. */
export interface Bound {
  readonly port: number
  close(): Promise<void>
}

/**
 * Listens, and gives connections on unless there are too many.
 *
 * @param open All that are open, of all ports.
 * @throws {Error} Saying what is in the way.
 */
export function openPort(
  at: { readonly host: string; readonly port: number },
  { maxConnections, maxConnectionsPerPeer }: PortLimits,
  open: Set<Socket>,
  accept: (socket: Socket) => void,
): Promise<Bound> {
  const files = descriptors()
  const perPeer = new Map<string, number>()
  let credit = 0
  // Counting costs a read of /proc, so each count is good for half of what it found. Every
  // connection needs a second one, to its backend.
  const hasDescriptors = () => {
    if (credit < 2) credit = files.spare() / 2
    credit -= 2
    return credit >= 0
  }
  // Half-closed connections are for whoever takes them over.
  const server = createServer({ allowHalfOpen: true, keepAlive: true }, (socket) => {
    const peer = socket.remoteAddress ?? ''
    const count = (perPeer.get(peer) ?? 0) + 1
    // A connection that breaks is over, whoever has it by then.
    socket.on('error', () => socket.destroy())
    if (open.size >= maxConnections || count > maxConnectionsPerPeer || !hasDescriptors()) {
      socket.destroy()
      return
    }
    open.add(socket)
    perPeer.set(peer, count)
    socket.once('close', () => {
      open.delete(socket)
      const left = (perPeer.get(peer) ?? 1) - 1
      if (left > 0) perPeer.set(peer, left)
      else perPeer.delete(peer)
    })
    accept(socket)
  })
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const why = errnoOf(error) === 'EADDRINUSE' ? 'the port is in use' : messageOf(error)
      reject(new Error(`Cannot listen on ${addressText(at)}: ${why}`, { cause: error }))
    })
    server.listen({ host: at.host, port: at.port, backlog: files.backlog }, () => {
      resolve({
        port: (server.address() as AddressInfo).port,
        close: () => new Promise((closed) => server.close(() => closed())),
      })
    })
  })
}
