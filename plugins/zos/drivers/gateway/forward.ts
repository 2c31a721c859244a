import { type ClientRequest, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { asRecord, type Client, endToEnd, requestHeaders } from './headers.ts'
import type { ProxyLimits } from './proxy.ts'

/** One request, and what it is forwarded with. */
export interface Exchange {
  readonly incoming: IncomingMessage
  readonly client: Client
  readonly limits: ProxyLimits
  /** @throws {Error} */
  connect(): Promise<Socket>
}

/**
 * Asks the backend on a connection of its own, and passes on what both say while they say it.
 *
 * Status 502: the backend does not accept, or its answer is none. 504: it takes too long to begin.
 */
export async function forward(exchange: Exchange, outgoing: ServerResponse): Promise<void> {
  const { incoming, limits } = exchange
  let backend: Socket
  try {
    backend = await exchange.connect()
  } catch {
    return fail(incoming, outgoing, 502)
  }
  if (outgoing.destroyed) return void backend.destroy()
  backend.setTimeout(limits.idleTimeoutMs, () => backend.destroy())
  const { 'transfer-encoding': coding, 'content-length': length } = incoming.headers
  const extra: [string, string][] = coding === undefined ? [] : [['Transfer-Encoding', 'chunked']]
  const asked = ask(exchange, backend, extra)

  let late: ReturnType<typeof setTimeout> | undefined
  const waitForAnswer = () => {
    late = setTimeout(() => {
      fail(incoming, outgoing, 504)
      asked.destroy()
    }, limits.answerTimeoutMs)
  }
  asked.on('error', () => {
    clearTimeout(late)
    fail(incoming, outgoing, 502)
    backend.destroy()
  })
  outgoing.once('close', () => {
    clearTimeout(late)
    asked.destroy()
    backend.destroy()
  })
  asked.once('response', (answer) => {
    clearTimeout(late)
    answer.on('error', () => outgoing.destroy())
    answer.on('aborted', () => outgoing.destroy())
    passOn(answer, incoming, outgoing)
  })
  if (coding === undefined && length === undefined) {
    asked.end()
    waitForAnswer()
    return
  }
  incoming.once('end', () => {
    if (!outgoing.headersSent && !outgoing.destroyed) waitForAnswer()
  })
  incoming.on('error', () => asked.destroy())
  incoming.pipe(asked)
}

/** The same request for the backend. */
export function ask(
  { incoming, client }: Exchange,
  backend: Socket,
  extra: readonly [string, string][],
): ClientRequest {
  const pairs = [...requestHeaders(incoming.rawHeaders, client), ...extra]
  return request({
    createConnection: () => backend,
    method: incoming.method ?? 'GET',
    path: incoming.url ?? '/',
    headers: asRecord(pairs),
    setHost: false,
  })
}

function passOn(
  answer: IncomingMessage,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): void {
  try {
    // The rest of the body is not wanted any more; the connection cannot be used again then.
    if (!incoming.complete) outgoing.setHeader('Connection', 'close')
    outgoing.writeHead(
      answer.statusCode ?? 502,
      answer.statusMessage,
      asRecord(endToEnd(answer.rawHeaders)),
    )
    // The head of a stream may come long before its first byte.
    outgoing.flushHeaders()
  } catch {
    answer.destroy()
    fail(incoming, outgoing, 502)
    return
  }
  answer.pipe(outgoing)
}

const TEXTS = { 502: 'Bad Gateway\n', 504: 'Gateway Timeout\n' } as const

function fail(incoming: IncomingMessage, outgoing: ServerResponse, status: 502 | 504): void {
  if (outgoing.headersSent || outgoing.destroyed) return void outgoing.destroy()
  const text = TEXTS[status]
  if (!incoming.complete) outgoing.setHeader('Connection', 'close')
  outgoing.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': String(text.length),
  })
  outgoing.end(incoming.method === 'HEAD' ? undefined : text)
}
