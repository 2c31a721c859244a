import type { Socket } from 'node:net'

/** Who connected to a Unix socket, as the kernel recorded it then (unix(7), SO_PEERCRED). */
export interface PeerCredentials {
  readonly uid: number
  /** The primary group alone. */
  readonly gid: number
}

/**
 * Reads them from a descriptor.
 *
 * @throws {Error} With the errno's name as `code` where it is no connected Unix socket.
 */
export type PeerReader = (fd: number) => PeerCredentials

/** Who is at the other end of each connection of one listener. */
export class UnixPeers {
  readonly #read: PeerReader
  readonly #known = new WeakMap<Socket, PeerCredentials>()

  constructor(read: PeerReader) {
    this.#read = read
  }

  /**
   * Looks at a connection. To be called as soon as it is accepted: later the runtime may have closed
   * the descriptor, and its number may be another's.
   */
  accepted(socket: Socket): void {
    const { _handle: handle } = socket as { readonly _handle?: { readonly fd?: unknown } | null }
    if (typeof handle?.fd !== 'number' || handle.fd < 0) return
    try {
      this.#known.set(socket, this.#read(handle.fd))
    } catch {
      // Who cannot be told is nobody.
    }
  }

  /** Undefined where it could not be told. */
  of(socket: Socket): PeerCredentials | undefined {
    return this.#known.get(socket)
  }
}
