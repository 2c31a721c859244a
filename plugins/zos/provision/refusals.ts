import { messageOf } from '../../../src/errors.ts'
import { ZosError } from '../zos-error.ts'

/** Of an update. */
export function missing(what: 'twin' | 'deployment'): ZosError {
  return new ZosError('not-found', `${what} not found: deployment does not exist`)
}

export function ending(): ZosError {
  return new ZosError(
    'conflict',
    'the deployment ends with its contract, its workloads are still being removed',
  )
}

/** Nothing more is taken just now. */
export function full(message: string): ZosError {
  return new ZosError('unavailable', message)
}

/** @throws {ZosError} For what a disk did not take. */
export function notStored(cause: unknown): never {
  throw new ZosError('unavailable', `failed to store the deployment: ${messageOf(cause)}`, {
    cause,
  })
}
