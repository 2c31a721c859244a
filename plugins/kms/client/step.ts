import { KmsError } from './connection.ts'

/** What bounds everything that is done with one KMS. */
export interface StepLimits {
  /** For errors. */
  readonly url: string
  /** For each step, in milliseconds. */
  readonly deadlineMs: number
  readonly signals: readonly (AbortSignal | undefined)[]
}

/**
 * Does one step, until its deadline or one of the signals ends it. The work's own signal aborts at
 * that moment, too, so that it can tidy up; whatever it does then, nobody waits for it.
 *
 * @param what Completes "Cannot … KMS": `connect to`.
 * @throws {KmsError} `KMS_TIMEOUT` or `KMS_ABORTED`; or what the work throws.
 */
export async function step<T>(
  what: string,
  { url, deadlineMs, signals }: StepLimits,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = new AbortController()
  const end = (code: 'KMS_TIMEOUT' | 'KMS_ABORTED', why: string) =>
    ending.abort(new KmsError(code, `Cannot ${what} KMS ${url}: ${why}`))
  const aborted = () => end('KMS_ABORTED', 'it is not wanted any more')
  if (signals.some((signal) => signal?.aborted)) aborted()
  ending.signal.throwIfAborted()
  const ended = new Promise<never>((_, reject) => {
    ending.signal.addEventListener('abort', () => reject(ending.signal.reason), { once: true })
  })
  for (const signal of signals) signal?.addEventListener('abort', aborted)
  const late = setTimeout(() => end('KMS_TIMEOUT', `not done in ${deadlineMs} ms`), deadlineMs)
  try {
    return await Promise.race([ended, work(ending.signal)])
  } finally {
    clearTimeout(late)
    for (const signal of signals) signal?.removeEventListener('abort', aborted)
  }
}
