import type { Socket } from 'node:net'
import { clearTimeout, setTimeout } from 'node:timers'

/** Limits of the listener; times in milliseconds. */
export interface ConnectionLimits {
  readonly maxConnections: number
  /** Of one address. */
  readonly maxConnectionsPerPeer: number
  /** From the connection to the end of the handshake. */
  readonly handshakeTimeoutMs: number
  /** From there, or the last answer's end, to the end of a request's head. */
  readonly idleTimeoutMs: number
  /** From there to the end of the answer. */
  readonly requestTimeoutMs: number
}

interface Connection {
  /** What came in, and what TLS made of it. */
  readonly sockets: Set<Socket>
  timer: ReturnType<typeof setTimeout>
  busy: boolean
}

/**
 * Cuts connections that are too many or too slow. The runtimes' own HTTP servers do so on
 * connections they accepted themselves; these come out of TLS. A connection is known by its other
 * end, as nothing else leads from the one socket to the other on all runtimes.
 */
export class Connections {
  readonly #limits: ConnectionLimits
  readonly #open = new Map<string, Connection>()
  readonly #perPeer = new Map<string, number>()
  #closing = false

  constructor(limits: ConnectionLimits) {
    this.#limits = limits
  }

  /** Takes note of a connection before its handshake; false: it was cut. */
  opened(socket: Socket): boolean {
    const { maxConnections, maxConnectionsPerPeer, handshakeTimeoutMs } = this.#limits
    const peer = socket.remoteAddress
    const count = (this.#perPeer.get(peer ?? '') ?? 0) + 1
    const tooMany = count > maxConnectionsPerPeer || this.#open.size >= maxConnections
    if (peer === undefined || tooMany || this.#closing) {
      socket.destroy()
      return false
    }
    const key = keyOf(socket)
    this.#perPeer.set(peer, count)
    const timer = this.#cutAfter(key, handshakeTimeoutMs)
    this.#open.set(key, { sockets: new Set([socket]), timer, busy: false })
    socket.once('close', () => {
      clearTimeout(this.#open.get(key)?.timer)
      this.#open.delete(key)
      const left = (this.#perPeer.get(peer) ?? 1) - 1
      if (left > 0) this.#perPeer.set(peer, left)
      else this.#perPeer.delete(peer)
    })
    return true
  }

  /** The handshake is done. */
  secured(socket: Socket): void {
    this.#open.get(keyOf(socket))?.sockets.add(socket)
    this.#wait(socket, this.#limits.idleTimeoutMs, false)
  }

  /** A request's head has arrived. */
  asked(socket: Socket): void {
    this.#wait(socket, this.#limits.requestTimeoutMs, true)
  }

  /** Its answer is sent. */
  answered(socket: Socket): void {
    if (this.#closing) socket.end()
    this.#wait(socket, this.#limits.idleTimeoutMs, false)
  }

  /** Cuts those where nothing is asked now; the others end when they are answered. */
  drain(): void {
    this.#closing = true
    for (const [key, { busy }] of this.#open) if (!busy) this.#cut(key)
  }

  cutAll(): void {
    for (const key of this.#open.keys()) this.#cut(key)
  }

  #wait(socket: Socket, ms: number, busy: boolean): void {
    const key = keyOf(socket)
    const found = this.#open.get(key)
    if (!found) return
    clearTimeout(found.timer)
    found.timer = this.#cutAfter(key, ms)
    found.busy = busy
  }

  #cutAfter(key: string, ms: number): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => this.#cut(key), ms)
    timer.unref()
    return timer
  }

  #cut(key: string): void {
    for (const socket of this.#open.get(key)?.sockets ?? []) socket.destroy()
  }
}

const keyOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`
