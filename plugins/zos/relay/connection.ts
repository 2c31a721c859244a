import type { RawData, WebSocket } from 'ws'
import { createBackoff } from '../rmb/backoff.ts'
import { joined } from '../rmb/protobuf.ts'
import type { RelayAddress } from './address.ts'

/** The WebSocket to one relay, made again whenever it ends (spec §10.4). */
export interface RelayConnection {
  readonly host: string
  start(): void
  /** Ends it for good; may be called again, and without `start`. */
  stop(): Promise<void>
  /** @returns Whether it went out: false without a connection, or where too much waits already. */
  send(bytes: Uint8Array): boolean
  isOpen(): boolean
  /** Why there is no connection; undefined while there is. */
  reason(): string | undefined
}

export interface ConnectionOptions extends RelayAddress {
  /** A token for one attempt. */
  token(): string
  onMessage(bytes: Uint8Array): void
  /** Once for each loss, and once for each return. */
  onLost(reason: string): void
  onOpen(): void
  readonly retryMs: number
  readonly maxRetryMs: number
  /** A connection that lasted so long was a good one: the next pause is short again. */
  readonly stableMs: number
  readonly connectMs: number
  /** Pause between pings; without a sign of life for twice as long the connection is given up. */
  readonly pingMs: number
  /** Largest message that ends no connection. */
  readonly maxMessageBytes: number
}

/** What may wait to go out, where the relay reads too slowly. */
const MAX_BUFFERED = 32 << 20

const CLOSE_MS = 1000

export function createRelayConnection(options: ConnectionOptions): RelayConnection {
  const { host, prefix, pingMs, stableMs } = options
  const backoff = createBackoff(options.retryMs, options.maxRetryMs)
  const closing = new AbortController()
  let socket: WebSocket | undefined
  let open = false
  let reason: string | undefined = 'not connected yet'
  let told = false
  let loop: Promise<void> | undefined

  const run = async () => {
    // On demand: most daemons have no relay.
    const { WebSocket: Client } = await import('ws')
    while (!closing.signal.aborted) {
      const token = options.token()
      socket = new Client(`${prefix}${token}`, [], {
        perMessageDeflate: false,
        maxPayload: options.maxMessageBytes,
      })
      const begun = performance.now()
      const ended = await session(socket)
      open = false
      socket.terminate()
      if (closing.signal.aborted) return
      // Some runtimes quote the address, and with it the token.
      reason = ended.replaceAll(token, '[token]')
      if (!told) options.onLost(reason)
      told = true
      // Of two with one identity each drops the other: they must not do it as fast as they can.
      if (performance.now() - begun >= stableMs) backoff.reset()
      await backoff.pause(closing.signal)
    }
  }

  /** Lives as long as the connection; says why it ended. */
  const session = (ws: WebSocket) =>
    new Promise<string>((resolve) => {
      let sign = performance.now()
      let failure: string | undefined
      let late: ReturnType<typeof setTimeout> | undefined
      const end = (why: string) => {
        clearTimeout(connecting)
        clearTimeout(late)
        clearInterval(pinging)
        closing.signal.removeEventListener('abort', close)
        resolve(why)
      }
      const close = () => {
        if (!open) return end('stopped')
        ws.close(1000)
        late = setTimeout(() => end('stopped'), CLOSE_MS)
      }
      const connecting = setTimeout(
        () => end(`it did not answer within ${options.connectMs} ms`),
        options.connectMs,
      )
      const pinging = setInterval(() => {
        if (!open) return
        if (performance.now() - sign > 2 * pingMs) end('it says nothing any more')
        else ws.ping()
      }, pingMs)
      closing.signal.addEventListener('abort', close)
      const alive = () => {
        sign = performance.now()
      }
      ws.on('open', () => {
        alive()
        clearTimeout(connecting)
        open = true
        reason = undefined
        told = false
        options.onOpen()
      })
      ws.on('ping', alive)
      ws.on('pong', alive)
      ws.on('message', (data, isBinary) => {
        alive()
        if (closing.signal.aborted) return
        if (isBinary) options.onMessage(bytesOf(data))
        else end('it sent text, where only binary messages are allowed')
      })
      ws.on('error', (error) => {
        failure ??= error.message
      })
      ws.on('close', (code, words) => {
        const said = words.length > 0 ? `: ${words.toString().slice(0, 200)}` : ''
        end(failure ?? `it closed the connection (${code}${said})`)
      })
    })

  return {
    host,
    start() {
      if (!closing.signal.aborted) loop ??= run()
    },
    async stop() {
      closing.abort()
      await loop
    },
    send(bytes) {
      if (!socket || !open || socket.readyState !== socket.OPEN) return false
      if (socket.bufferedAmount + bytes.length > MAX_BUFFERED) return false
      socket.send(bytes, () => {
        // An error ends the connection, which tells it.
      })
      return true
    },
    isOpen: () => open,
    reason: () => reason,
  }
}

function bytesOf(data: RawData): Uint8Array {
  if (Array.isArray(data)) return joined(data)
  return data instanceof ArrayBuffer ? new Uint8Array(data) : data
}
