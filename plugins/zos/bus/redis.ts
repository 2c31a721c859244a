import { within } from '../../../src/deadline.ts'
import type { BusAddress } from './address.ts'

/** What Redis answers to the commands used here. */
export type RedisReply = string | number | null | readonly RedisReply[]

/** One connection, without queue and without attempts of its own to connect again. */
export interface RedisLink {
  /**
   * @param ms Longest wait; the connection is closed when it passes, for then nobody knows whether
   *   the command was carried out.
   * @throws {RedisRefusal} What Redis says against the command.
   * @throws {Error} The connection is lost.
   */
  send(args: readonly string[], ms: number): Promise<RedisReply>
  /** Ends it at once. May be called again. */
  close(): void
}

/** An error reply of Redis. */
export class RedisRefusal extends Error {
  override readonly name = 'RedisRefusal'
  /** First word: `WRONGTYPE`, `OOM`, `READONLY`, … */
  readonly kind: string

  constructor(message: string) {
    super(message)
    this.kind = /^[A-Z]+/.exec(message)?.[0] ?? 'ERR'
  }
}

/** Commands at a time on one connection; more would only wait in memory. */
const MAX_COMMANDS = 1024

/**
 * @param ms Longest wait for the connection and the answer to the credentials.
 * @throws {Error} In words without credentials.
 */
export async function connectRedis({ url, label }: BusAddress, ms: number): Promise<RedisLink> {
  const { createClient, ErrorReply } = await import('@redis/client')
  const client = createClient({
    url,
    RESP: 2,
    disableClientInfo: true,
    disableOfflineQueue: true,
    commandsQueueMaxLength: MAX_COMMANDS,
    socket: { reconnectStrategy: false, connectTimeout: ms },
  })
  // Every error also rejects what waits for it.
  client.on('error', () => {})
  const close = () => {
    try {
      client.destroy()
    } catch {
      // It is closed already.
    }
  }
  try {
    await within(ms, client.connect(), `answer at ${label}`)
  } catch (error) {
    close()
    throw error
  }
  return {
    close,
    async send(args, limit) {
      try {
        return await within(limit, client.sendCommand<RedisReply>(args), 'answer')
      } catch (error) {
        if (error instanceof ErrorReply) throw new RedisRefusal(error.message)
        close()
        throw error
      }
    },
  }
}
