import { goErrno } from '../../src/compat/go-errors.ts'
import { ApiError, errnoOf } from '../../src/errors.ts'

/** `read`: the body did not arrive; `write`: the file could not be replaced; else `refused`. */
export type FailureKind = 'read' | 'write' | 'refused'

/** An upload that left the old file as it was. */
export class UploadFailure extends Error {
  override readonly name = 'UploadFailure'
  readonly kind: FailureKind
  /** The same failure for a native route; for `refused`, for the compatible one too. */
  readonly api: ApiError

  /** @param message In Go's words, as system-api records it (spec system-api §5.5). */
  constructor(kind: FailureKind, message: string, api: ApiError) {
    super(message, { cause: api.cause })
    this.kind = kind
    this.api = api
  }
}

/** A failure that is the caller's or the configuration's doing. */
export function refused(
  status: ApiError['status'],
  code: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): UploadFailure {
  return new UploadFailure('refused', message, new ApiError(status, code, message, { headers }))
}

/** What Go meets while writing; everything else it meets when it opens the file. */
const WHILE_WRITING = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO'])

/**
 * Anything thrown while a file was being replaced, as an {@link UploadFailure}.
 *
 * @param path As configured: the only path a client or the event log gets to see.
 * @throws What was thrown, when it is no system error and so a fault of the program.
 */
export function asFailure(thrown: unknown, name: string, path: string): UploadFailure {
  if (thrown instanceof UploadFailure) return thrown
  const errno = errnoOf(thrown)
  if (errno === undefined) throw thrown
  const operation = WHILE_WRITING.has(errno) ? 'write' : 'open'
  const full = errno === 'ENOSPC' || errno === 'EDQUOT'
  const words = goErrno(errno)
  return new UploadFailure(
    'write',
    `${operation} ${path}: ${words}`,
    new ApiError(
      full ? 507 : 500,
      full ? 'UPLOAD_NO_SPACE' : 'UPLOAD_WRITE_FAILED',
      `Cannot write upload "${name}" to "${path}": ${words}`,
      { cause: thrown },
    ),
  )
}
