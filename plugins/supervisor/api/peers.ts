import { ApiError, messageOf } from '../../../src/errors.ts'

/** Another device, as the configuration names it. */
export interface Peer {
  readonly uuid: string
  readonly deviceId: number | undefined
  readonly appIds: readonly number[]
  /** Base of its API: `http://10.0.0.2:48484`. */
  readonly url: string
  /** Its key; read for every request. @throws {Error} When it cannot be read. */
  readonly key: () => string
}

/** What is asked of a device. */
export interface PeerRequest {
  /** Path and query. */
  readonly target: string
  readonly method: 'GET' | 'POST' | 'PATCH'
  readonly body: string | undefined
}

/** Headers of an answer that are the client's business; others are about the connection. */
const PASSED_ON = ['content-type', 'retry-after'] as const

/**
 * Asks another device. Its key goes in a header and nowhere else; redirects are not followed.
 *
 * @param timeoutMs Until the answer begins.
 * @param signal Of a client that waits for the whole answer.
 * @throws {ApiError} 502 `REMOTE_UNREACHABLE`, 504 `REMOTE_TIMEOUT`.
 */
export async function askPeer(
  peer: Peer,
  { target, method, body }: PeerRequest,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<Response> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), timeoutMs)
  try {
    const answer = await fetch(`${peer.url.replace(/\/+$/, '')}${target}`, {
      method,
      headers: {
        authorization: `Bearer ${peer.key()}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      redirect: 'manual',
      signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal,
      ...(body === undefined ? {} : { body }),
    })
    const headers = new Headers()
    for (const name of PASSED_ON) {
      const value = answer.headers.get(name)
      if (value !== null) headers.set(name, value)
    }
    const bodiless = [204, 205, 304].includes(answer.status)
    return new Response(bodiless ? null : answer.body, { status: answer.status, headers })
  } catch (cause) {
    if (late.signal.aborted) {
      const message = `Device "${peer.uuid}" did not answer within ${timeoutMs} ms`
      throw new ApiError(504, 'REMOTE_TIMEOUT', message, { cause })
    }
    // The reason may name addresses, never a key.
    const why = cause instanceof TypeError ? 'no connection' : messageOf(cause)
    const message = `Cannot reach device "${peer.uuid}": ${why}`
    throw new ApiError(502, 'REMOTE_UNREACHABLE', message, { cause })
  } finally {
    clearTimeout(timer)
  }
}
