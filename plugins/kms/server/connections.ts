import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { clearTimeout, setTimeout } from 'node:timers'
import { WaitingAnswers } from '../../../src/http/waiting-answers.ts'
import { NODE_QUIRKS } from '../../../src/runtime.ts'

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
  readonly answers: WaitingAnswers
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
    const answers = new WaitingAnswers(() => this.#cut(key), NODE_QUIRKS.cutAtOnce)
    this.#open.set(key, { sockets: new Set([socket]), timer, answers })
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
    this.#wait(socket)
  }

  /** A request's head has arrived; false: there were too many, and the connection was cut. */
  asked(socket: Socket, answer: ServerResponse): boolean {
    if (!this.#open.get(keyOf(socket))?.answers.asked(answer)) return false
    this.#wait(socket)
    return true
  }

  /** Its answer is sent, or nobody is there any more to get it. */
  answered(socket: Socket): void {
    if (this.#wait(socket) && this.#closing) socket.end()
  }

  /** Cuts those where nothing is asked now; the others end when they are answered. */
  drain(): void {
    this.#closing = true
    for (const [key, { answers }] of this.#open) if (answers.idle) this.#cut(key)
  }

  cutAll(): void {
    for (const key of this.#open.keys()) this.#cut(key)
  }

  /** Waits anew, for an answer or for a request; whether it is for a request. */
  #wait(socket: Socket): boolean {
    const key = keyOf(socket)
    const found = this.#open.get(key)
    if (!found) return false
    const { idle } = found.answers
    const { requestTimeoutMs, idleTimeoutMs } = this.#limits
    clearTimeout(found.timer)
    found.timer = this.#cutAfter(key, idle ? idleTimeoutMs : requestTimeoutMs)
    return idle
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
