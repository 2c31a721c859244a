import { type EngineErrorCode, isEngineError } from '../../../src/engine/error.ts'
import { messageOf } from '../../../src/errors.ts'
import { DriverError } from './driver.ts'

/** What passes by itself when the engine is back, or less busy. */
const TRANSIENT: ReadonlySet<EngineErrorCode> = new Set([
  'ENGINE_UNREACHABLE',
  'ENGINE_TIMEOUT',
  'ENGINE_VERSION',
])

/**
 * What was thrown, as a {@link DriverError}: transient where the engine is
 * away, or the work was only interrupted.
 *
 * @param data Becomes `result.data`.
 */
export function engineFailure(thrown: unknown, data?: unknown): DriverError {
  if (thrown instanceof DriverError) {
    if (data === undefined || thrown.data !== undefined) return thrown
    return new DriverError(thrown.kind, thrown.message, { cause: thrown.cause, data })
  }
  const transient = isEngineError(thrown)
    ? TRANSIENT.has(thrown.code)
    : thrown instanceof Error && thrown.name === 'AbortError'
  return new DriverError(transient ? 'transient' : 'failed', messageOf(thrown), {
    cause: thrown,
    data,
  })
}
