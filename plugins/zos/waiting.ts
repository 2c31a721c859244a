import { within } from '../../src/deadline.ts'

/** Resolves after so many milliseconds; rejects with the signal's reason. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** A signal that aborts with another, or after a time. */
export interface Limit {
  readonly signal: AbortSignal
  /** Aborts it now and lets go of the other; to be called in any case. */
  end(): void
}

export function limited(ms: number, signal?: AbortSignal): Limit {
  const controller = new AbortController()
  const end = () => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', end)
    controller.abort()
  }
  const timer = setTimeout(end, ms)
  if (signal?.aborted) end()
  else signal?.addEventListener('abort', end)
  return { signal: controller.signal, end }
}

/** What comes of work, which goes on where the signal aborts first. @throws The signal's reason. */
export function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/** The same, with undefined where the signal aborts first. */
export async function unlessAborted<T>(
  work: Promise<T>,
  signal: AbortSignal,
): Promise<T | undefined> {
  try {
    return await orAborted(work, signal)
  } catch (error) {
    if (signal.aborted) return undefined
    throw error
  }
}

/**
 * Work with a signal that aborts after a time, and waited for no longer than that.
 *
 * @throws {Error} What the work threw, the signal's reason, or that it took too long.
 */
export function bounded<T>(
  ms: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const controller = new AbortController()
    const end = (reason: unknown) => {
      leave()
      controller.abort(reason)
      reject(reason)
    }
    const aborted = () => end(signal.reason)
    const timer = setTimeout(() => end(new Error(`it took more than ${ms} ms`)), ms)
    const leave = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
    }
    signal.addEventListener('abort', aborted, { once: true })
    // What throws at once is a rejection, too.
    Promise.resolve()
      .then(() => work(controller.signal))
      .then(resolve, reject)
      .finally(leave)
  })
}

/**
 * Work that is told to end when a signal says so, or after a time, and is then given a while to do
 * so: what it has begun should not go on beside what comes next.
 *
 * @throws {Error} What the work threw, or that it does not end.
 */
export async function attended<T>(
  times: { readonly step: number; readonly grace: number },
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  const ended = new Promise<void>((resolve) => {
    controller.signal.addEventListener('abort', () => resolve(), { once: true })
  })
  const abort = () => controller.abort(signal.reason)
  const timer = setTimeout(() => {
    controller.abort(new Error(`it took more than ${Math.round(times.step / 1000)} s`))
  }, times.step)
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  try {
    const running = (async () => work(controller.signal))()
    const late = ended.then(() => within(times.grace, running, 'end'))
    return await Promise.race([running, late])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
  }
}
