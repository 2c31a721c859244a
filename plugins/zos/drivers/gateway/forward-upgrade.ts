import { type ClientRequest, type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { splice } from './dial.ts'
import { ask, type Exchange } from './forward.ts'
import { endToEnd } from './headers.ts'

/**
 * A request that asks for another protocol, such as a WebSocket. When the backend agrees, both are
 * joined; when it answers otherwise, that is passed on and the connection ends.
 *
 * @param head What came after the request head.
 */
export async function forwardUpgrade(
  exchange: Exchange,
  socket: Socket,
  head: Uint8Array,
): Promise<void> {
  const { incoming, limits } = exchange
  socket.on('error', () => socket.destroy())
  // What comes while the backend is connected to must wait; Deno would drop it.
  socket.pause()
  const { upgrade = '' } = incoming.headers
  // A length is enough for programs that try HTTP/2 with each request.
  if (incoming.headers['transfer-encoding'] !== undefined) return end(socket, 400)
  let backend: Socket
  try {
    backend = await exchange.connect()
  } catch {
    return end(socket, 502)
  }
  if (socket.destroyed) return void backend.destroy()
  socket.once('close', () => backend.destroy())
  backend.setTimeout(limits.idleTimeoutMs, () => backend.destroy())
  const asked = ask(exchange, backend, [
    ['Connection', 'Upgrade'],
    ['Upgrade', upgrade],
  ])
  const late = setTimeout(() => {
    end(socket, 504)
    backend.destroy()
  }, limits.answerTimeoutMs)
  socket.once('close', () => clearTimeout(late))
  asked.once('error', () => {
    clearTimeout(late)
    end(socket, 502)
  })
  asked.once('upgrade', (answer: IncomingMessage, joined: Socket, rest: Uint8Array) => {
    clearTimeout(late)
    joined.on('error', () => joined.destroy())
    const accepted = answer.headers.upgrade ?? upgrade
    socket.write(headText(answer, ['Connection: Upgrade', `Upgrade: ${accepted}`]), 'latin1')
    if (rest.length > 0) socket.write(rest)
    splice(socket, joined, limits.idleTimeoutMs)
  })
  asked.once('response', (answer) => {
    clearTimeout(late)
    answer.on('error', () => socket.destroy())
    answer.on('aborted', () => socket.destroy())
    socket.write(headText(answer, ['Connection: close']), 'latin1')
    answer.pipe(socket)
  })
  sendBody(asked, incoming, socket, head)
}

/** What belongs to the request goes with it; what follows is of the new protocol. */
function sendBody(
  asked: ClientRequest,
  incoming: IncomingMessage,
  socket: Socket,
  head: Uint8Array,
): void {
  let missing = Number(incoming.headers['content-length'] ?? 0)
  const give = (chunk: Uint8Array): boolean => {
    const part = chunk.subarray(0, missing)
    missing -= part.length
    const more = part.length === 0 || asked.write(part)
    if (chunk.length > part.length) socket.unshift(chunk.subarray(part.length))
    return more
  }
  if (head.length > 0) give(head)
  if (missing === 0) return void asked.end()
  // Deno's parser goes on to read the body, the others leave it on the connection.
  const sources = [socket, incoming]
  const take = (chunk: Uint8Array) => {
    for (const source of sources) source.pause()
    if (missing > chunk.length) {
      if (give(chunk)) for (const source of sources) source.resume()
      else asked.once('drain', () => sources.forEach((source) => void source.resume()))
      return
    }
    for (const source of sources) source.off('data', take)
    give(chunk)
    asked.end()
  }
  for (const source of sources) {
    source.on('data', take)
    source.resume()
  }
}

function headText(answer: IncomingMessage, extra: readonly string[]): string {
  const lines = endToEnd(answer.rawHeaders).map(([name, value]) => `${name}: ${value}`)
  const { statusCode, statusMessage } = answer
  return `${[`HTTP/1.1 ${statusCode} ${statusMessage}`, ...lines, ...extra].join('\r\n')}\r\n\r\n`
}

function end(socket: Socket, status: number): void {
  if (!socket.writable) return void socket.destroy()
  const line = `HTTP/1.1 ${status} ${STATUS_CODES[status]}`
  socket.end(`${line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
}
