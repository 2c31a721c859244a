import type { Socket } from 'node:net'
import { clearTimeout, setImmediate, setTimeout } from 'node:timers'
import { runtime } from '../../../src/runtime.ts'

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
  /** Requests whose answer is not sent yet. */
  unanswered: number
}

/**
 * Requests that may wait on one connection for the answers of those before them. The runtimes read
 * on and keep what nobody fetches, some 50 KB for each; no client of a KMS sends two at a time.
 */
const MAX_UNANSWERED = 16

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
    this.#open.set(key, { sockets: new Set([socket]), timer, unanswered: 0 })
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
    this.#wait(socket, 0)
  }

  /** A request's head has arrived; false: there were too many, and the connection was cut. */
  asked(socket: Socket): boolean {
    const unanswered = this.#wait(socket, 1)
    if (unanswered !== undefined && unanswered <= MAX_UNANSWERED) return true
    const cut = () => this.#cut(keyOf(socket))
    // Deno's parser (2.9) goes on with the next request at once, and stops only here; Node's, which is
    // at work on what came with this one, would find itself gone.
    if (runtime === 'deno') cut()
    else setImmediate(cut)
    return false
  }

  /** Its answer is sent, or nobody is there any more to get it. */
  answered(socket: Socket): void {
    if (this.#wait(socket, -1) === 0 && this.#closing) socket.end()
  }

  /** Cuts those where nothing is asked now; the others end when they are answered. */
  drain(): void {
    this.#closing = true
    for (const [key, { unanswered }] of this.#open) if (unanswered === 0) this.#cut(key)
  }

  cutAll(): void {
    for (const key of this.#open.keys()) this.#cut(key)
  }

  /** Waits anew, for an answer or for a request; gives how many are unanswered now. */
  #wait(socket: Socket, more: 0 | 1 | -1): number | undefined {
    const key = keyOf(socket)
    const found = this.#open.get(key)
    if (!found) return undefined
    found.unanswered += more
    const { requestTimeoutMs, idleTimeoutMs } = this.#limits
    clearTimeout(found.timer)
    found.timer = this.#cutAfter(key, found.unanswered > 0 ? requestTimeoutMs : idleTimeoutMs)
    return found.unanswered
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
