import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { errnoOf } from '../../../src/errors.ts'
import type { Reply } from './answer.ts'
import { KmsError } from './connection.ts'
import type { Endpoint } from './endpoint.ts'

/**
 * Calls a method.
 *
 * @param body JSON.
 * @returns What came back, whatever its status; undefined when the connection ended before anything
 *   did.
 * @throws {KmsError} `KMS_UNREACHABLE` for an answer that broke off, `KMS_MALFORMED`, or the
 *   signal's reason. The connection is closed then.
 */
export type Exchange = (
  method: string,
  body: string,
  signal: AbortSignal,
) => Promise<Reply | undefined>

/** Longest answer that is read. */
const MAX_ANSWER_BYTES = 1024 * 1024

/** Speaks HTTP/1.1 on a connection, one request after the other, and never on another connection. */
export function exchangeOn(socket: TLSSocket, { url, authority, path }: Endpoint): Exchange {
  const agent = agentOf(socket)
  return async (method, body, signal) => {
    signal.throwIfAborted()
    const asked = request({
      agent,
      method: 'POST',
      // JSON is answered to what has this query, by every version of dstack (spec dstack §4).
      path: `${path}/KMS.${method}?json`,
      headers: {
        host: authority,
        accept: 'application/json',
        'content-type': 'application/json',
        'content-length': String(Buffer.byteLength(body)),
      },
    })
    const onAbort = () => {
      asked.destroy()
      socket.destroy()
    }
    signal.addEventListener('abort', onAbort)
    try {
      const response = await responseTo(asked, body)
      const bytes = await bodyOf(response)
      if (response.headers.connection?.toLowerCase() === 'close') socket.destroy()
      const encoding = response.headers['content-encoding']
      return { status: response.statusCode ?? 0, encoding, bytes }
    } catch (error) {
      // Whatever follows on this connection would be no answer to what is asked next.
      socket.destroy()
      signal.throwIfAborted()
      if (error instanceof NoAnswer) return undefined
      throw failure(`Cannot ask KMS ${url} for ${method}`, error)
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }
}

/** The connection ended before an answer. */
class NoAnswer extends Error {}

/** An answer is none that a KMS gives. */
class Unexpected extends Error {}

/** An agent that has one connection, and no other once it is closed. */
function agentOf(socket: TLSSocket): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, maxFreeSockets: 1 })
  let given = false
  // A request's own `createConnection` is not heard on every runtime, which then looks the host up.
  const createConnection = (
    _options: unknown,
    done: (error: Error | null, socket?: TLSSocket) => void,
  ): undefined => {
    if (given || socket.destroyed) done(new Error('the connection is closed'))
    else done(null, socket)
    given = true
  }
  return Object.assign(agent, { createConnection })
}

function responseTo(asked: ClientRequest, body: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    asked.on('response', resolve)
    asked.on('upgrade', (_response, socket) => {
      socket.destroy()
      reject(new Unexpected('it switches to another protocol'))
    })
    // Stays for good: destroying a request may report an error of its own.
    asked.on('error', (error) => {
      const code = errnoOf(error)
      if (code?.startsWith('HPE_')) reject(new Unexpected(`it is not HTTP (${code})`))
      else reject(new NoAnswer())
    })
    asked.on('close', () => reject(new NoAnswer()))
    asked.end(body)
  })
}

function bodyOf(response: IncomingMessage): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = []
    let total = 0
    response.on('data', (part: Uint8Array) => {
      total += part.length
      if (total > MAX_ANSWER_BYTES) {
        reject(new Unexpected(`it has more than ${MAX_ANSWER_BYTES} bytes`))
        response.destroy()
      } else {
        parts.push(part)
      }
    })
    response.on('end', () => {
      const bytes = new Uint8Array(Buffer.concat(parts))
      // There may be keys in it.
      for (const part of parts) part.fill(0)
      resolve(bytes)
    })
    response.on('error', () => reject(new Error('the connection broke off')))
    // An answer that was cut short closes without ending.
    response.on('close', () => reject(new Error('the connection broke off')))
  })
}

function failure(what: string, error: unknown): KmsError {
  const why = error instanceof Error ? error.message : String(error)
  const code = error instanceof Unexpected ? 'KMS_MALFORMED' : 'KMS_UNREACHABLE'
  return new KmsError(code, `${what}: ${why}`)
}
