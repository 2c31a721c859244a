import { z } from 'zod'
import { systemApiJson } from '../../src/compat/system-api.ts'
import { ApiError } from '../../src/errors.ts'
import { entityTag } from './conditions.ts'
import type { UploadFailure } from './failure.ts'

/** Answer of system-api's upload, in its key order. */
export const SystemApiJson = z.object({
  file: z.string().describe('The path as configured'),
  message: z.literal('File uploaded successfully'),
  size_bytes: z.string().describe('A decimal number'),
})

/** The answer to an upload that is in place (spec system-api §5.5); the entity tag is our own. */
export function systemApiStored(path: string, size: number, sha256: string): Response {
  const answer = systemApiJson(200, {
    file: path,
    message: 'File uploaded successfully',
    size_bytes: String(size),
  } satisfies z.output<typeof SystemApiJson>)
  answer.headers.set('etag', entityTag(sha256))
  return answer
}

/** What system-api answers and records; a refusal is something only cvmd does. */
export function systemApiFailure({ kind, api }: UploadFailure): {
  readonly event: string
  readonly error: ApiError
} {
  const failure = (event: string, message: string) => ({
    event,
    error: new ApiError(500, api.code, message, { cause: api.cause }),
  })
  switch (kind) {
    case 'read':
      return failure('failed to read', 'Failed to read content from payload')
    case 'write':
      return failure('failed to write', 'Failed to write content to file')
    case 'refused':
      return { event: 'refused', error: api }
  }
}
