import type { IncomingHttpHeaders } from 'node:http'
import { askOnce, NoReply } from '../http/ask-once.ts'
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
 * Gets a small file over HTTP.
 *
 * @throws {TrustError} `PCCS_UNREACHABLE`, `PCCS_REFUSED`, `PCCS_TOO_LARGE`, or the signal's reason.
 */
export async function download({ url, ca, most, signal }: DownloadOptions): Promise<Downloaded> {
  const shown = `${url.origin}${url.pathname}`
  const { status, headers, body } = await askOnce({
    url,
    headers: { 'accept-encoding': 'identity' },
    ca,
    most,
    reads: (found) => found === 200,
    signal,
  }).catch((error) => {
    if (!(error instanceof NoReply)) throw error
    throw error.code === 'TOO_LARGE'
      ? new TrustError('PCCS_TOO_LARGE', `Cannot read ${shown}: ${error.message}`)
      : new TrustError('PCCS_UNREACHABLE', `Cannot get ${shown}: ${error.message}`)
  })
  if (status === 200) return { headers, body }
  const why = status >= 300 && status < 400 ? ', and redirects are not followed' : ''
  throw new TrustError('PCCS_REFUSED', `Cannot get ${shown}: status ${status}${why}`)
}
