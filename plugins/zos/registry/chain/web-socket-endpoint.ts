import { Connection } from './connection.ts'
import { type Endpoint, MAX_ANSWER_BYTES, unreachable } from './endpoint.ts'

/** JSON-RPC over a WebSocket, as public nodes offer it; kept between requests. */
export function createWebSocketEndpoint(url: URL, ca?: string): Endpoint {
  const shown = `${url.protocol}//${url.host}`
  let current: Promise<Connection> | undefined

  async function connect(): Promise<Connection> {
    const { WebSocket } = await import('ws')
    const socket = new WebSocket(url, {
      perMessageDeflate: false,
      maxPayload: MAX_ANSWER_BYTES,
      followRedirects: false,
      ...(ca !== undefined && { ca }),
    })
    return new Connection(socket, shown, () => {
      current = undefined
    })
  }

  return {
    shown,
    drop() {
      current?.then((connection) => connection.end(unreachable(shown, 'it was given up')))
      current = undefined
    },
    async call(method, params, signal) {
      current ??= connect()
      return (await current).ask(method, params, signal)
    },
  }
}
