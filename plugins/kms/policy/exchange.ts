import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { errnoOf } from '../../../src/errors.ts'
import { PolicyError } from './policy.ts'

/** One request to a policy service. */
export interface ExchangeOptions {
  readonly url: URL
  /** What errors call the service. */
  readonly shown: string
  /** JSON to POST; left out, the request is a GET. */
  readonly body?: string | undefined
  readonly token?: string | undefined
  /** PEM: who may have signed the service's certificate, in place of the system's authorities. */
  readonly ca?: string | undefined
  /** Its reason, a {@link PolicyError}, is what the caller gets. */
  readonly signal: AbortSignal
}

/** What came back, whatever its status. */
export interface Answer {
  readonly status: number
  readonly text: string
}

/** Longest body that is read. */
const MAX_BODY_BYTES = 64 * 1024

/**
 * Asks once, on a connection of its own. A redirect is an answer like any other: who may get keys
 * is asked where the configuration says, and nowhere else.
 *
 * @throws {PolicyError} `POLICY_UNREACHABLE`, `POLICY_TOO_LARGE`, or the signal's reason. It has no
 *   `cause`: the errors of some runtimes hold the whole URL.
 */
export function exchange(options: ExchangeOptions): Promise<Answer> {
  const { url, shown, body, token, ca, signal } = options
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method: body === undefined ? 'GET' : 'POST',
      agent: false,
      headers: {
        accept: 'application/json',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && {
          'content-type': 'application/json',
          'content-length': String(Buffer.byteLength(body)),
        }),
      },
      ...(ca !== undefined && { ca }),
    })
    const fail = (error: unknown) => {
      signal.removeEventListener('abort', onAbort)
      reject(error)
      request.destroy()
    }
    const onAbort = () => fail(signal.reason)
    const unreachable = (why: string) =>
      fail(new PolicyError('POLICY_UNREACHABLE', `Cannot ask ${shown}: ${why}`))
    signal.addEventListener('abort', onAbort)
    // Stays for good: destroying a request may report an error of its own.
    request.on('error', (error) => unreachable(errnoOf(error) ?? 'the connection failed'))
    request.on('response', (response) => {
      collect(response).then(
        (text) => {
          signal.removeEventListener('abort', onAbort)
          resolve({ status: response.statusCode ?? 0, text })
        },
        (why: unknown) => {
          if (why !== TOO_LARGE) return unreachable('the connection broke off')
          const most = `more than ${MAX_BODY_BYTES} bytes`
          fail(new PolicyError('POLICY_TOO_LARGE', `Cannot read answer of ${shown}: ${most}`))
        },
      )
    })
    request.end(body)
  })
}

const TOO_LARGE = Symbol('too large')

function collect(response: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = []
    let total = 0
    response.on('data', (part: Uint8Array) => {
      total += part.length
      if (total > MAX_BODY_BYTES) reject(TOO_LARGE)
      else parts.push(part)
    })
    response.on('end', () => resolve(new TextDecoder().decode(Buffer.concat(parts))))
    response.on('error', reject)
    // An answer that was cut short closes without ending.
    response.on('close', () => reject(new Error('closed')))
  })
}
