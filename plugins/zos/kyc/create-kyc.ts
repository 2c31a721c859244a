import { askOnce, NoReply } from '../../../src/http/ask-once.ts'
import { TimedCache } from '../registry/timed-cache.ts'
import { sleep } from '../waiting.ts'
import { ZosError } from '../zos-error.ts'

/** Tries after the first one. */
const RETRIES = 5

const MAX_ANSWER_BYTES = 65_536

const MAX_CACHED = 10_000

/** Questions under way at once. */
const MAX_ASKING = 64

export interface KycOptions {
  /** Of the service, such as `https://kyc.example`; its path is kept. */
  readonly url: URL
  /** PEM: who may have signed its certificate, in place of the system's authorities. */
  readonly ca?: string | undefined
  /** Time for one answer, in milliseconds; default 5000. */
  readonly timeoutMs?: number | undefined
  /** Pause before the first retry, in milliseconds, doubled for each one after; default 500. */
  readonly pauseMs?: number | undefined
  /** How long it is remembered that a twin is verified, in milliseconds; default 10 minutes. */
  readonly cacheMs?: number | undefined
  /** Monotonic milliseconds. */
  readonly now?: (() => number) | undefined
}

/** Asks a service who of the twins proved who they are (spec zos §2). */
export interface Kyc {
  /**
   * @throws {ZosError} `forbidden`: `user with twin id 42 is not verified`; `unavailable` when the
   *   service gives no answer. Or the signal's reason.
   */
  check(twinId: number, signal?: AbortSignal): Promise<void>
}

export function createKyc(options: KycOptions): Kyc {
  const { url, ca, timeoutMs = 5000, pauseMs = 500, cacheMs = 600_000 } = options
  const verified = new TimedCache<number, true>(
    MAX_CACHED,
    options.now ?? (() => performance.now()),
  )
  let asking = 0

  /** Whether the twin is verified; a text why that is not known. */
  async function ask(twinId: number, signal: AbortSignal | undefined): Promise<boolean | string> {
    const late = AbortSignal.timeout(timeoutMs)
    try {
      const { status, body } = await askOnce({
        url: statusUrl(url, twinId),
        headers: { accept: 'application/json', 'accept-encoding': 'identity' },
        ca,
        most: MAX_ANSWER_BYTES,
        signal: signal ? AbortSignal.any([signal, late]) : late,
      })
      if (status === 404) return false
      if (status !== 200) return `status ${status}`
      return readStatus(new TextDecoder().decode(body))
    } catch (error) {
      signal?.throwIfAborted()
      if (late.aborted) return `no answer within ${timeoutMs} ms`
      if (error instanceof NoReply) return error.message
      throw error
    }
  }

  async function askPatiently(twinId: number, signal: AbortSignal | undefined): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      const answer = await ask(twinId, signal)
      if (typeof answer === 'boolean') return answer
      if (tries === RETRIES) {
        throw new ZosError(
          'unavailable',
          `failed to get the verification status of twin ${twinId} from ${url.origin}: ${answer}`,
        )
      }
      await sleep(pauseMs * 2 ** tries, signal)
    }
  }

  return {
    async check(twinId, signal) {
      if (verified.get(twinId)) return
      if (asking >= MAX_ASKING) {
        throw new ZosError('unavailable', 'too many verification statuses are asked for just now')
      }
      asking++
      try {
        if (!(await askPatiently(twinId, signal))) {
          throw new ZosError('forbidden', `user with twin id ${twinId} is not verified`)
        }
        verified.set(twinId, true, cacheMs)
      } finally {
        asking--
      }
    },
  }
}

function statusUrl(url: URL, twinId: number): URL {
  const asked = new URL(url)
  asked.pathname = `${url.pathname.replace(/\/+$/, '')}/api/v1/status`
  asked.searchParams.set('twin_id', String(twinId))
  return asked
}

/** Reads `{"result":{"status":"VERIFIED"}}`. */
function readStatus(text: string): boolean | string {
  try {
    const { status } = JSON.parse(text).result
    if (typeof status === 'string') return status === 'VERIFIED'
  } catch {
    // What JSON.parse says quotes the text.
  }
  return 'its answer has no result.status'
}
