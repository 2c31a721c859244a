import { within } from '../../../src/deadline.ts'

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

/** Waits for something no longer than until a signal. @throws The signal's reason. */
export function unlessAborted<T>(waiting: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    waiting.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
