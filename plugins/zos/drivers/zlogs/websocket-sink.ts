import { isIP } from 'node:net'
import { within } from '../../../../src/deadline.ts'
import { reachable } from './local-address.ts'
import type { Output } from './output.ts'
import type { Sink, SinkOptions } from './sink.ts'
import { unlessAborted } from './unless-aborted.ts'

/** Of answers, which nobody reads. */
const MAX_ANSWER_BYTES = 64 * 1024
/** Not yet taken by the network. */
const MAX_WAITING_BYTES = 1024 * 1024

/** Sends each chunk as one binary message. */
export async function openWebSocketSink(
  output: Output & { readonly kind: 'websocket' },
  { refuses, deadlineMs, onLost, signal }: SinkOptions,
): Promise<Sink> {
  const address = await unlessAborted(reachable(output.host, output.port, refuses), signal)
  const { WebSocket } = await import('ws')
  const { url, headers } = targetOf(output, address)
  const socket = new WebSocket(url, {
    headers,
    perMessageDeflate: false,
    maxPayload: MAX_ANSWER_BYTES,
  })
  let broken: Error | undefined
  let wake = () => {}
  const breaks = (reason: string) => {
    broken ??= new Error(reason)
    wake()
    onLost()
  }
  socket.on('error', (error) => breaks(error.message))
  socket.on('close', () => breaks('the connection was closed'))
  const opened = new Promise<void>((done, failed) => {
    wake = () => failed(broken)
    socket.on('open', () => done())
  })
  try {
    await within(deadlineMs, unlessAborted(opened, signal), 'open')
  } catch (error) {
    socket.terminate()
    throw error
  }
  return {
    get lost() {
      return broken !== undefined
    },
    send: async (chunk) => {
      if (!broken && socket.bufferedAmount > MAX_WAITING_BYTES) breaks('it takes too little')
      if (broken) throw broken
      const sent = new Promise<void>((done, failed) => {
        wake = () => failed(broken)
        socket.send(chunk, { binary: true }, (error) => (error ? failed(error) : done()))
      })
      await within(deadlineMs, sent, 'take what was sent')
    },
    close: () => socket.terminate(),
  }
}

/**
 * Without TLS the address that was looked up is used, so that the name cannot stand for another one
 * a moment later. With TLS the certificate says who it is.
 */
function targetOf(output: Output & { readonly kind: 'websocket' }, address: string) {
  if (output.tls || isIP(output.host) > 0) return { url: output.url, headers: {} }
  const url = new URL(output.url)
  const headers = { host: url.host }
  url.hostname = isIP(address) === 6 ? `[${address}]` : address
  return { url: url.href, headers }
}
