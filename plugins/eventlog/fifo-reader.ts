import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { Socket } from 'node:net'
import { runtime } from '../../src/runtime.ts'

/** Bytes read at a time: the capacity of a pipe (pipe(7)). */
const CHUNK = 64 * 1024

/** Chunks taken in one turn of the event loop. */
const BURST = 2

/** Longest pause between two looks at a FIFO nobody writes to. */
const IDLE_MS = 100

/** What a reader reports. */
export interface FifoHandler {
  /** Bytes, in a buffer that is used again; a promise holds the reader back. */
  data(chunk: Uint8Array): Promise<void> | undefined
  /** The last writer closed. */
  end(): void
}

/** An open FIFO. */
export interface FifoReader {
  /** Device and inode, to notice when the path leads elsewhere. */
  readonly identity: string
  /** Takes what is in the pipe now, then lets go of it. */
  close(): void
}

/**
 * Reads a FIFO, over any number of writers that come and go, without ever being without an open
 * descriptor, so that no writer gets SIGPIPE between two of them.
 *
 * Node waits on the descriptor. Bun and Deno cannot (a socket on a FIFO stays silent on one and is
 * refused by the other), and their blocking reads take a thread of a pool that may have three; so
 * there a non-blocking descriptor is looked at, up to ten times a second while it is idle.
 *
 * @throws {Error} The system error, or when the path is not a FIFO.
 */
export function readFifo(path: string, handler: FifoHandler): FifoReader {
  return runtime === 'node' ? new SocketReader(path, handler) : new PollReader(path, handler)
}

/** Opens without waiting for a writer. */
function openFifo(path: string): { fd: number; identity: string } {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const stat = fstatSync(fd)
  if (stat.isFIFO()) return { fd, identity: `${stat.dev}:${stat.ino}` }
  closeSync(fd)
  throw new Error(`file ${path} is not a named pipe`)
}

/** Reads without waiting: bytes read, 0 when there is no writer, -1 when there is but no data. */
function readNow(fd: number, into: Uint8Array): number {
  try {
    return readSync(fd, into)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return -1
    throw error
  }
}

/** Takes what is in the pipe, at most its capacity a few times over, and ends the last line. */
function drain(fd: number, handler: FifoHandler): void {
  const buffer = new Uint8Array(CHUNK)
  for (let i = 0; i < 4 * BURST; i++) {
    const size = readNow(fd, buffer)
    if (size <= 0) break
    // Not awaited: the reader is closing, and this is a few chunks.
    void handler.data(buffer.subarray(0, size))
  }
  handler.end()
}

/** For Node: the event loop waits on the descriptor. */
class SocketReader implements FifoReader {
  readonly #path: string
  readonly #handler: FifoHandler
  #socket: Socket
  #fd: number
  identity: string

  constructor(path: string, handler: FifoHandler) {
    this.#path = path
    this.#handler = handler
    const { fd, identity } = openFifo(path)
    this.#fd = fd
    this.identity = identity
    this.#socket = this.#listen(fd)
  }

  close(): void {
    if (this.#socket.destroyed) return
    this.#socket.pause()
    // Held back while the journal was busy.
    const held = this.#socket.read() as Uint8Array | null
    if (held) void this.#handler.data(held)
    drain(this.#fd, this.#handler)
    this.#socket.destroy()
  }

  #listen(fd: number): Socket {
    const socket = new Socket({ fd, readable: true, writable: false })
    let chunks = 0
    socket.on('data', (chunk) => {
      const busy = this.#handler.data(chunk)
      if (!busy && ++chunks % BURST > 0) return
      // libuv reads 32 chunks at a stretch if it is let.
      socket.pause()
      const resume = () => socket.resume()
      if (busy) void busy.then(resume)
      else setImmediate(resume)
    })
    socket.on('end', () => this.#reopen(socket))
    socket.on('error', () => this.#reopen(socket))
    return socket
  }

  /** End of file is for good on this socket; the next descriptor is opened before it goes. */
  #reopen(old: Socket): void {
    this.#handler.end()
    try {
      const { fd, identity } = openFifo(this.#path)
      this.#fd = fd
      this.identity = identity
      this.#socket = this.#listen(fd)
    } catch {
      // The path leads elsewhere now, which the owner of this reader looks for.
      this.identity = ''
    }
    old.destroy()
  }
}

/** For Bun and Deno: looks at the descriptor, often while there is traffic. */
class PollReader implements FifoReader {
  readonly #handler: FifoHandler
  readonly #fd: number
  readonly #buffer = new Uint8Array(CHUNK)
  #pause = 1
  #open = false
  #closed = false
  #timer: ReturnType<typeof setTimeout> | undefined
  identity: string

  constructor(path: string, handler: FifoHandler) {
    this.#handler = handler
    const { fd, identity } = openFifo(path)
    this.#fd = fd
    this.identity = identity
    this.#later()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#timer)
    drain(this.#fd, this.#handler)
    closeSync(this.#fd)
  }

  #later(): void {
    this.#timer = setTimeout(() => void this.#look(), this.#pause)
    this.#timer.unref?.()
  }

  async #look(): Promise<void> {
    for (let burst = 1; !this.#closed; burst++) {
      const size = this.#read()
      if (size > 0) {
        this.#pause = 1
        this.#open = true
        await this.#handler.data(this.#buffer.subarray(0, size))
        if (burst % BURST === 0) await new Promise((resolve) => setImmediate(resolve))
        continue
      }
      if (size === 0 && this.#open) {
        this.#open = false
        this.#handler.end()
      }
      this.#pause = Math.min(2 * this.#pause, IDLE_MS)
      return this.#later()
    }
  }

  #read(): number {
    try {
      return readNow(this.#fd, this.#buffer)
    } catch {
      this.identity = ''
      return -1
    }
  }
}
