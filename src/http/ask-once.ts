import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { errnoOf } from '../errors.ts'

/** One request to a service that is not ours. */
export interface Question {
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  /** To POST; left out, the request is a GET. */
  readonly body?: string | undefined
  /** PEM: who may have signed the server's certificate, in place of the system's authorities. */
  readonly ca?: string | undefined
  /** Longest body that is read, in bytes. */
  readonly most: number
  /** Whether the body of an answer with this status is wanted; default: of any. */
  readonly reads?: (status: number) => boolean
  readonly signal: AbortSignal
}

/** What came back, whatever its status. */
export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** Empty where it was not wanted. */
  readonly body: Uint8Array
}

/**
 * Why there is no answer. It has no `cause`, and its message no URL: the errors of some runtimes hold
 * the whole of it, where secrets may be.
 */
export class NoReply extends Error {
  override readonly name = 'NoReply'
  readonly code: 'UNREACHABLE' | 'TOO_LARGE'

  constructor(code: NoReply['code'], message: string) {
    super(message)
    this.code = code
  }
}

/**
 * Asks once, on a connection of its own. A redirect is an answer like any other: what is trusted for
 * being where the configuration says may not come from elsewhere.
 *
 * @throws {NoReply} Or the signal's reason.
 */
export function askOnce({ url, headers, body, ca, most, reads, signal }: Question): Promise<Reply> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method: body === undefined ? 'GET' : 'POST',
      agent: false,
      headers,
      ...(ca !== undefined && { ca }),
    })
    const end = (settle: () => void) => {
      signal.removeEventListener('abort', onAbort)
      settle()
    }
    const fail = (error: unknown) => {
      end(() => reject(error))
      request.destroy()
    }
    const onAbort = () => fail(signal.reason)
    signal.addEventListener('abort', onAbort)
    // Stays for good: destroying a request may report an error of its own.
    request.on('error', (error) => {
      fail(new NoReply('UNREACHABLE', errnoOf(error) ?? 'the connection failed'))
    })
    request.on('response', (response) => {
      const { statusCode: status = 0, headers } = response
      if (reads?.(status) === false) {
        response.on('error', () => undefined)
        end(() => resolve({ status, headers, body: new Uint8Array() }))
        request.destroy()
        return
      }
      collect(response, most).then((bytes) => {
        end(() => resolve({ status, headers, body: bytes }))
      }, fail)
    })
    request.end(body)
  })
}

function collect(response: IncomingMessage, most: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const brokeOff = () => reject(new NoReply('UNREACHABLE', 'the connection broke off'))
    const parts: Uint8Array[] = []
    let total = 0
    response.on('data', (part: Uint8Array) => {
      total += part.length
      if (total > most) reject(new NoReply('TOO_LARGE', `more than ${most} bytes`))
      else parts.push(part)
    })
    response.on('end', () => resolve(Buffer.concat(parts)))
    response.on('error', brokeOff)
    // An answer that was cut short closes without ending.
    response.on('close', brokeOff)
  })
}
