import { within } from '../../../../src/deadline.ts'
import { reachable } from './local-address.ts'
import type { Output } from './output.ts'
import type { Sink, SinkOptions } from './sink.ts'
import { unlessAborted } from './unless-aborted.ts'

/** Publishes each chunk to a channel. Who does not listen does not get it. */
export async function openRedisSink(
  output: Output & { readonly kind: 'redis' },
  { refuses, deadlineMs, onLost, signal }: SinkOptions,
): Promise<Sink> {
  const { username, password, channel, port } = output
  const host = await unlessAborted(reachable(output.host, port, refuses), signal)
  const { createClient } = await import('@redis/client')
  const client = createClient({
    RESP: 2,
    disableClientInfo: true,
    disableOfflineQueue: true,
    commandsQueueMaxLength: 16,
    socket: { host, port, connectTimeout: deadlineMs, reconnectStrategy: false },
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  })
  let lost = false
  const gone = () => {
    lost = true
    onLost()
  }
  client.on('error', gone)
  client.on('end', gone)
  let closed = false
  const close = () => {
    closed = true
    try {
      client.destroy()
    } catch {
      // It is closed.
    }
  }
  // The client forgets a connection that is just being made when it is told to end.
  client.on('connect', () => {
    if (closed) close()
  })
  try {
    await within(deadlineMs, unlessAborted(client.connect(), signal), 'connect')
  } catch (error) {
    close()
    throw error
  }
  return {
    get lost() {
      return lost
    },
    send: async (chunk) => {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
      await within(deadlineMs, client.publish(channel, bytes), 'take what was sent')
    },
    close,
  }
}
