import { request } from 'node:http'

/** An answer read whole. */
export interface Answer {
  readonly status: number
  readonly body: string
  /** The body as JSON. */
  json<T = Record<string, unknown>>(): T
}

export interface CallInit {
  readonly method?: string
  readonly key?: string
  /** Sent as JSON. */
  readonly body?: unknown
}

/** Longest wait for an answer: a restart waits for the engine. */
const CALL_MS = 30_000

/** One request on a connection of its own: what is killed leaves none behind that looks alive. */
export function call(url: string, { method = 'GET', key, body }: CallInit = {}): Promise<Answer> {
  const sent = body === undefined ? undefined : JSON.stringify(body)
  const headers = {
    ...(key !== undefined && { authorization: `Bearer ${key}` }),
    ...(sent !== undefined && {
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(sent)),
    }),
  }
  return new Promise((done, failed) => {
    const outgoing = request(url, { method, headers, agent: false }, (incoming) => {
      let text = ''
      incoming.setEncoding('utf8')
      incoming.on('data', (data) => {
        text += data
      })
      incoming.on('error', failed)
      incoming.on('end', () => {
        clearTimeout(timer)
        done({ status: incoming.statusCode ?? 0, body: text, json: () => JSON.parse(text) })
      })
    })
    const timer = setTimeout(() => {
      failed(new Error(`${method} ${url} was not answered within ${CALL_MS} ms`))
      outgoing.destroy()
    }, CALL_MS)
    outgoing.on('error', failed)
    outgoing.once('close', () => {
      clearTimeout(timer)
      failed(new Error(`${method} ${url}: the connection was lost`))
    })
    outgoing.end(sent)
  })
}
