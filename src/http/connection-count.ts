import type { Socket } from 'node:net'
import { descriptors } from '../device/descriptors.ts'

/** How many connections there may be at a time. */
export interface ConnectionLimits {
  readonly maxConnections: number
  readonly maxConnectionsPerPeer: number
}

/**
 * Remembers open connections and cuts those that are too many, in all or of one peer, or for which
 * there is no descriptor. Not by `server.maxConnections`: Deno accepts nothing more once that was
 * reached (2.9).
 */
export class ConnectionCount {
  readonly #limits: ConnectionLimits
  readonly #open: Set<Socket>
  readonly #each: number
  readonly #ofPeer = new Map<string, number>()
  readonly #files = descriptors()
  /** Counting costs a read of /proc, so each count is good for half of what it found. */
  #credit = 0

  /**
   * @param open All that are open; servers that share a limit share it.
   * @param each Descriptors that a connection takes, its own included.
   */
  constructor(limits: ConnectionLimits, open: Set<Socket>, each = 1) {
    this.#limits = limits
    this.#open = open
    this.#each = each
  }

  /**
   * Counts a connection until it is closed, or cuts it.
   *
   * @returns Whether it stays.
   */
  admit(socket: Socket): boolean {
    const peer = socket.remoteAddress ?? ''
    const count = (this.#ofPeer.get(peer) ?? 0) + 1
    const tooMany =
      (peer !== '' && count > this.#limits.maxConnectionsPerPeer) ||
      this.#open.size >= this.#limits.maxConnections ||
      !this.#hasDescriptors()
    if (tooMany) {
      socket.destroy()
      return false
    }
    this.#open.add(socket)
    this.#ofPeer.set(peer, count)
    socket.once('close', () => {
      this.#open.delete(socket)
      const left = (this.#ofPeer.get(peer) ?? 1) - 1
      if (left > 0) this.#ofPeer.set(peer, left)
      else this.#ofPeer.delete(peer)
    })
    return true
  }

  #hasDescriptors(): boolean {
    if (this.#credit < this.#each) {
      const spare = this.#files.spare()
      if (spare < this.#each) return false
      this.#credit = Math.max(spare / 2, this.#each)
    }
    this.#credit -= this.#each
    return true
  }
}
