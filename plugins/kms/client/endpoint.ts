import { KmsError } from './connection.ts'

/** Where a KMS is asked. */
export interface Endpoint {
  /** As errors name it: without the path. */
  readonly url: string
  /** DNS name or IP address, without brackets. */
  readonly host: string
  readonly port: number
  /** Name and port as HTTP has them. */
  readonly authority: string
  /** Under which the methods are, without a slash at the end: `/prpc`. */
  readonly path: string
}

const MAX_URL_LENGTH = 2048

/**
 * Reads the URL of a KMS: `https://HOST:PORT`, to which `/prpc` is added where it does not end in
 * that (spec dstack §9.5).
 *
 * @throws {KmsError} `KMS_UNREACHABLE` for another one. It does not repeat the URL, in which there
 *   may be a password.
 */
export function endpointOf(text: string): Endpoint {
  const url = text.length <= MAX_URL_LENGTH && URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'https:' || url.username !== '' || url.password !== '') throw unreadable()
  // An empty query or fragment shows in the text alone.
  if (/[?#]/.test(text)) throw unreadable()
  const path = url.pathname.replace(/\/$/, '')
  return {
    url: `https://${url.host}`,
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 443 : Number(url.port),
    authority: url.host,
    path: path.endsWith('/prpc') ? path : `${path}/prpc`,
  }
}

function unreadable(): KmsError {
  return new KmsError(
    'KMS_UNREACHABLE',
    'Cannot read the URL of the KMS: expected https://HOST:PORT, with /prpc at the end or without',
  )
}
