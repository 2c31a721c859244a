import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { ApiError } from '../../../src/errors.ts'
import { RootStoreError } from '../server/root-folder.ts'

const STATUS: Readonly<Record<RootStoreError['code'], ContentfulStatusCode>> = {
  ROOT_KEYS_EXIST: 409,
  ROOT_KEYS_INCOMPLETE: 500,
  ROOT_KEYS_UNUSABLE: 500,
  ROOT_VERSION_UNKNOWN: 404,
  ROOT_VERSION_DIFFERS: 409,
  ROOT_VERSIONS_FULL: 409,
}

/** What an operator gets to see of what went wrong: of the root keys' folder everything. */
export function adminProblem(error: unknown): unknown {
  if (!(error instanceof RootStoreError)) return error
  return new ApiError(STATUS[error.code], error.code, error.message, { cause: error })
}
