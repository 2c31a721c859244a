import { ApiError } from '../errors.ts'

/** Errors of the module that the caller's arguments caused (spec nitro §8). */
const ARGUMENT_ERRORS = new Set(['InvalidIndex', 'InvalidArgument', 'InputTooLarge'])

/**
 * What a failed device call means over HTTP (spec tdx §10, nitro §8). Anything that is no device
 * error is given back as it is.
 */
export function deviceProblem(error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') {
    return error
  }
  const make = (status: ApiError['status'], code: string, retryAfterMs?: number) =>
    new ApiError(status, code, error.message, {
      cause: error,
      ...(retryAfterMs !== undefined && {
        headers: { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) },
      }),
    })
  switch (error.name) {
    case 'QueueError':
      return queueProblem(error.code, make, (error as { retryAfterMs?: number }).retryAfterMs)
    case 'NsmError':
      if (ARGUMENT_ERRORS.has(error.code)) return make(400, 'NSM_ARGUMENT')
      return error.code === 'ReadOnlyIndex' ? make(409, 'PCR_LOCKED') : make(502, 'NSM_FAILED')
    case 'DeviceError':
      return errnoProblem(error.code, make)
    default:
      return error
  }
}

type Make = (status: ApiError['status'], code: string, retryAfterMs?: number) => ApiError

function queueProblem(code: string, make: Make, retryAfterMs = 1000): ApiError {
  if (code === 'QUEUE_FULL') return make(429, 'DEVICE_QUEUE_FULL', retryAfterMs)
  if (code === 'DEADLINE') return make(504, 'DEVICE_TIMEOUT')
  return make(503, 'DEVICE_ABORTED')
}

function errnoProblem(code: string, make: Make): ApiError {
  switch (code) {
    case 'EBUSY':
    case 'EINTR':
    case 'EAGAIN':
      return make(503, 'DEVICE_BUSY', 1000)
    case 'ETIMEDOUT':
      return make(504, 'DEVICE_TIMEOUT')
    case 'EMSGSIZE':
      return make(400, 'NSM_ARGUMENT')
    case 'ENOTSUP':
      return make(501, 'DEVICE_UNSUPPORTED')
    default:
      return make(502, 'DEVICE_FAILED')
  }
}
