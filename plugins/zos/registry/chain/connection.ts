import type { RawData, WebSocket } from 'ws'
import type { RegistryError } from '../registry.ts'
import { badAnswer, MAX_ANSWER_BYTES, readReply, requestText, unreachable } from './endpoint.ts'

/** Time a connection is kept that nothing is asked over. */
const IDLE_MS = 30_000

/** Requests that may wait for their replies at once: more than are ever asked for. */
const MAX_WAITING = 256

interface Waiting {
  resolve(result: unknown): void
  reject(error: unknown): void
}

/**
 * Requests and replies over one WebSocket, from its opening to its end. A reply that cannot be read
 * ends it: who it was for is not known.
 */
export class Connection {
  readonly #socket: WebSocket
  readonly #shown: string
  readonly #ended: () => void
  readonly #waiting = new Map<number, Waiting>()
  /** What waits for the socket to open. */
  #unsent: (() => void)[] | undefined = []
  #over: RegistryError | undefined
  #idle: ReturnType<typeof setTimeout> | undefined
  #last = 0

  /**
   * @param shown What errors call the other side.
   * @param ended Called once.
   */
  constructor(socket: WebSocket, shown: string, ended: () => void) {
    this.#socket = socket
    this.#shown = shown
    this.#ended = ended
    socket.on('open', () => {
      for (const send of this.#unsent ?? []) send()
      this.#unsent = undefined
    })
    // Stays for good: ending a socket may report an error of its own.
    socket.on('error', () => this.end(unreachable(shown, 'the connection failed')))
    socket.on('close', () => this.end(unreachable(shown, 'the connection ended')))
    socket.on('message', (data: RawData, isBinary: boolean) => this.#receive(data, isBinary))
  }

  /** As the endpoint's `call`. */
  ask(method: string, params: readonly unknown[], signal: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      if (this.#over) return reject(this.#over)
      if (this.#waiting.size >= MAX_WAITING) {
        return reject(unreachable(this.#shown, 'too many requests wait'))
      }
      const id = ++this.#last
      const settle = (work: () => void) => {
        this.#waiting.delete(id)
        signal.removeEventListener('abort', onAbort)
        this.#restIfIdle()
        work()
      }
      const onAbort = () => settle(() => reject(signal.reason))
      signal.addEventListener('abort', onAbort)
      this.#waiting.set(id, {
        resolve: (result) => settle(() => resolve(result)),
        reject: (error) => settle(() => reject(error)),
      })
      clearTimeout(this.#idle)
      const send = () => {
        if (this.#waiting.has(id)) this.#socket.send(requestText(id, method, params))
      }
      if (this.#unsent) this.#unsent.push(send)
      else send()
    })
  }

  /** Ends it, and what waits with this error. */
  end(error: RegistryError): void {
    if (this.#over) return
    this.#over = error
    clearTimeout(this.#idle)
    this.#ended()
    for (const { reject } of [...this.#waiting.values()]) reject(error)
    this.#socket.terminate()
  }

  #receive(data: RawData, isBinary: boolean): void {
    const text = isBinary ? undefined : textOf(data)
    const reply = text === undefined ? undefined : readReply(text)
    if (reply === undefined) {
      this.end(badAnswer(this.#shown, 'its answer is no JSON-RPC reply'))
      return
    }
    const { id, result, error } = reply
    if (id === undefined) {
      // An error for no request in particular is for one that could not be read; the rest is news.
      if (error !== undefined) this.end(badAnswer(this.#shown, error))
      return
    }
    const asked = this.#waiting.get(id)
    if (error === undefined) asked?.resolve(result)
    else asked?.reject(badAnswer(this.#shown, error))
  }

  #restIfIdle(): void {
    if (this.#over || this.#waiting.size > 0) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(
      () => this.end(unreachable(this.#shown, 'the connection was not used')),
      IDLE_MS,
    )
    this.#idle.unref()
  }
}

/** The text of a message; undefined where it is longer than the runtime's own socket minds. */
function textOf(data: RawData): string | undefined {
  const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data as Buffer)
  return bytes.length > MAX_ANSWER_BYTES ? undefined : bytes.toString('utf8')
}
