import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { errnoOf } from '../../../src/errors.ts'
import { TrustError } from './trust-error.ts'

/** Something to get. */
export interface DownloadOptions {
  /** Without credentials; errors name it up to its query. */
  readonly url: URL
  /** PEM: who may have signed the server's certificate, in place of the system's authorities. */
  readonly ca?: string | undefined
  /** Longest body that is read, in bytes. */
  readonly most: number
  /** Its reason, a {@link TrustError}, is what the caller gets. */
  readonly signal: AbortSignal
}

/** An answer with status 200. */
export interface Downloaded {
  readonly headers: IncomingHttpHeaders
  readonly body: Uint8Array
}

/**
 * Gets a small file over HTTP, on a connection of its own. Redirects are not followed: what is
 * trusted for being where the configuration says may not come from elsewhere.
 *
 * @throws {TrustError} `PCCS_UNREACHABLE`, `PCCS_REFUSED`, `PCCS_TOO_LARGE`, or the signal's reason.
 */
export function download({ url, ca, most, signal }: DownloadOptions): Promise<Downloaded> {
  const shown = `${url.origin}${url.pathname}`
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      agent: false,
      headers: { 'accept-encoding': 'identity' },
      ...(ca !== undefined && { ca }),
    })
    const fail = (error: unknown) => {
      signal.removeEventListener('abort', onAbort)
      reject(error)
      request.destroy()
    }
    const onAbort = () => fail(signal.reason)
    const unreachable = (why: string) =>
      fail(new TrustError('PCCS_UNREACHABLE', `Cannot get ${shown}: ${why}`))
    signal.addEventListener('abort', onAbort)
    // Stays for good: destroying a request may report an error of its own.
    request.on('error', (error) => unreachable(errnoOf(error) ?? 'the connection failed'))
    request.on('response', (response) => {
      const { statusCode = 0, headers } = response
      if (statusCode !== 200) {
        response.on('error', () => undefined)
        const why = statusCode >= 300 && statusCode < 400 ? ', and redirects are not followed' : ''
        return fail(
          new TrustError('PCCS_REFUSED', `Cannot get ${shown}: status ${statusCode}${why}`),
        )
      }
      collect(response, most).then(
        (body) => {
          signal.removeEventListener('abort', onAbort)
          resolve({ headers, body })
        },
        (why: unknown) => {
          if (why !== TOO_LARGE) return unreachable('the connection broke off')
          fail(new TrustError('PCCS_TOO_LARGE', `Cannot read ${shown}: more than ${most} bytes`))
        },
      )
    })
    request.end()
  })
}

const TOO_LARGE = Symbol('too large')

function collect(response: IncomingMessage, most: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = []
    let total = 0
    response.on('data', (part: Uint8Array) => {
      total += part.length
      if (total > most) reject(TOO_LARGE)
      else parts.push(part)
    })
    response.on('end', () => resolve(Buffer.concat(parts)))
    response.on('error', reject)
    // An answer that was cut short closes without ending.
    response.on('close', () => reject(new Error('closed')))
  })
}
