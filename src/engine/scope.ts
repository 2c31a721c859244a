import { EngineError } from './error.ts'

/** The life of one call: the caller's signal and a deadline, as one signal. */
export interface Scope {
  /** Aborts with the reason of the caller's signal, or an `ENGINE_TIMEOUT`. */
  readonly signal: AbortSignal
  /** Takes the deadline away: the answer has begun, and may last. */
  disarm(): void
  /** Lets go of the timer and of the caller's signal. */
  end(): void
}

export function createScope(
  action: string,
  signal: AbortSignal | undefined,
  deadlineMs: number,
): Scope {
  const controller = new AbortController()
  const aborted = () => controller.abort(signal?.reason)
  if (signal?.aborted) aborted()
  else signal?.addEventListener('abort', aborted)
  const late = () => {
    const reason = `the engine did not answer within ${deadlineMs} ms`
    controller.abort(new EngineError('ENGINE_TIMEOUT', action, reason))
  }
  const timer = setTimeout(late, deadlineMs)
  return {
    signal: controller.signal,
    disarm: () => clearTimeout(timer),
    end: () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', aborted)
    },
  }
}
