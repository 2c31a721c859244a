import { connect, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'

/** Where a raw client connects to, and from which loopback address. */
export type RawTarget =
  | {
      readonly port: number
      readonly from?: string
      /** Speaks TLS, and is connected when the handshake is done. */
      readonly tls?: ConnectionOptions
    }
  | { readonly unix: string; readonly from?: string; readonly tls?: never }

/** One answer as it came over the wire. */
export interface RawAnswer {
  readonly status: number
  /** Lower-case names; values of a repeated header joined by `, `. */
  readonly headers: ReadonlyMap<string, string>
  /** The body without its chunk framing. */
  readonly body: string
}

/** A TCP or Unix client that sends exactly the bytes it is given, as slowly as a test likes. */
export class RawClient {
  readonly #socket: Socket
  #received = Buffer.alloc(0)
  #wake: () => void = () => {}
  /** When the other side closed, as `performance.now()`; undefined while it has not. */
  closedAt: number | undefined
  /** Told of all that arrives. */
  heard: (data: Uint8Array) => void = () => {}

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data) => {
      this.#received = Buffer.concat([this.#received, data])
      this.heard(data)
      this.#wake()
    })
    const closed = () => {
      this.closedAt ??= performance.now()
      this.#wake()
    }
    socket.on('end', closed)
    socket.on('close', closed)
    socket.on('error', closed)
  }

  static connect(target: RawTarget): Promise<RawClient> {
    const socket = socketTo(target)
    return new Promise((resolve, reject) => {
      socket.once('error', reject)
      // One that is cut in the handshake may end without an error.
      const cut = () => reject(new Error('the connection was closed'))
      socket.once('close', cut)
      socket.once(target.tls ? 'secureConnect' : 'connect', () => {
        socket.off('error', reject)
        socket.off('close', cut)
        resolve(new RawClient(socket))
      })
    })
  }

  /** Everything received so far. */
  get text(): string {
    return this.#received.toString('latin1')
  }

  /** Sends bytes; false when the other side is not taking them at the moment. */
  send(data: string | Uint8Array): boolean {
    if (this.#socket.destroyed || !this.#socket.writable) return false
    return this.#socket.write(typeof data === 'string' ? Buffer.from(data, 'latin1') : data)
  }

  /** Waits until the other side has taken what was sent, or closed. */
  async drained(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs
    while (this.#socket.writableNeedDrain && this.closedAt === undefined) {
      if (performance.now() > deadline) return
      await pause(5)
    }
  }

  /** Says that nothing more will be sent, and goes on listening. */
  halfClose(): void {
    this.#socket.end()
  }

  /**
   * The next whole answer, taken off what was received; undefined when the other side closed, or
   * the time passed, before there was one. `bodyless`: the answer to a HEAD request.
   */
  async answer(timeoutMs: number, bodyless = false): Promise<RawAnswer | undefined> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const found = parseAnswer(this.#received, bodyless, this.closedAt !== undefined)
      if (found) {
        this.#received = this.#received.subarray(found.length)
        return found.answer
      }
      if (this.closedAt !== undefined || !(await this.#changed(deadline))) return undefined
    }
  }

  /** Whether the other side closed within the time. */
  async closed(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs
    while (this.closedAt === undefined) if (!(await this.#changed(deadline))) return false
    return true
  }

  /** Whether this text arrived within the time. */
  async received(text: string, timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs
    while (!this.text.includes(text)) {
      if (this.closedAt !== undefined || !(await this.#changed(deadline))) return false
    }
    return true
  }

  destroy(): void {
    this.#socket.destroy()
  }

  /** Waits for bytes or the end; false when the deadline came first. */
  #changed(deadline: number): Promise<boolean> {
    const left = deadline - performance.now()
    if (left <= 0) return Promise.resolve(false)
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), left)
      this.#wake = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }
}

function socketTo(target: RawTarget): Socket {
  const allowHalfOpen = true
  if ('unix' in target) return connect({ path: target.unix, allowHalfOpen })
  const { port, from, tls } = target
  const to = { port, host: '127.0.0.1', ...(from !== undefined && { localAddress: from }) }
  return tls ? connectTls({ ...to, ...tls }) : connect({ ...to, allowHalfOpen })
}

/** Sends one request, gives its answer and closes. */
export async function rawRequest(
  target: RawTarget,
  request: string | Uint8Array,
  timeoutMs = 5000,
): Promise<RawAnswer | undefined> {
  const client = await RawClient.connect(target)
  try {
    client.send(request)
    const bodyless = typeof request === 'string' && request.startsWith('HEAD ')
    return await client.answer(timeoutMs, bodyless)
  } finally {
    client.destroy()
  }
}

/** Waits. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

function parseAnswer(
  bytes: Buffer,
  bodyless: boolean,
  ended: boolean,
): { readonly answer: RawAnswer; readonly length: number } | undefined {
  const text = bytes.toString('latin1')
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd === -1) return undefined
  const [first = '', ...lines] = text.slice(0, headEnd).split('\r\n')
  const headers = new Map<string, string>()
  for (const line of lines) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    const before = headers.get(name)
    headers.set(name, before === undefined ? value : `${before}, ${value}`)
  }
  const status = Number(first.split(' ')[1])
  const start = headEnd + 4
  const done = (body: string, end: number) => ({ answer: { status, headers, body }, length: end })
  if (bodyless || status < 200 || status === 204 || status === 304) return done('', start)
  if (headers.get('transfer-encoding') === 'chunked') {
    let body = ''
    for (let at = start; ; ) {
      const lineEnd = text.indexOf('\r\n', at)
      if (lineEnd === -1) return undefined
      const size = Number.parseInt(text.slice(at, lineEnd), 16)
      const next = lineEnd + 2 + size + 2
      if (next > text.length) return undefined
      if (size === 0) return done(body, next)
      body += text.slice(lineEnd + 2, next - 2)
      at = next
    }
  }
  const length = headers.get('content-length')
  if (length === undefined) return ended ? done(text.slice(start), text.length) : undefined
  const end = start + Number(length)
  return end <= text.length ? done(text.slice(start, end), end) : undefined
}
