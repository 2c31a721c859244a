import { askOnce, NoReply } from '../../../src/http/ask-once.ts'
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
 * Asks once. A redirect is an answer like any other: who may get keys is asked where the
 * configuration says, and nowhere else.
 *
 * @throws {PolicyError} `POLICY_UNREACHABLE`, `POLICY_TOO_LARGE`, or the signal's reason. It has no
 *   `cause`: the errors of some runtimes hold the whole URL.
 */
export async function exchange(options: ExchangeOptions): Promise<Answer> {
  const { url, shown, body, token, ca, signal } = options
  const { status, body: bytes } = await askOnce({
    url,
    headers: {
      accept: 'application/json',
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && {
        'content-type': 'application/json',
        'content-length': String(Buffer.byteLength(body)),
      }),
    },
    body,
    ca,
    most: MAX_BODY_BYTES,
    signal,
  }).catch((error) => {
    if (!(error instanceof NoReply)) throw error
    throw error.code === 'TOO_LARGE'
      ? new PolicyError('POLICY_TOO_LARGE', `Cannot read answer of ${shown}: ${error.message}`)
      : new PolicyError('POLICY_UNREACHABLE', `Cannot ask ${shown}: ${error.message}`)
  })
  return { status, text: new TextDecoder().decode(bytes) }
}
