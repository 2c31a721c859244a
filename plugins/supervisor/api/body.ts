import type { Context } from 'hono'
import { ApiError } from '../../../src/errors.ts'
import { parseForm } from './form.ts'

/** A body's members; a list counts as an object (spec §5.10). */
export type Body = Readonly<Record<string, unknown>>

/** A missing body, and one of any other type (spec §1). */
const NOTHING: Body = Object.freeze({})

/**
 * The body as JSON or as a form, by its type (spec §1).
 *
 * @throws {ApiError} 400 `INVALID_BODY` for JSON that is no object or list, and for a form without
 *   bounds; what was sent is not repeated.
 */
export async function readBody(c: Context): Promise<Body> {
  const [type = ''] = (c.req.header('content-type') ?? '').split(';')
  switch (type.trim().toLowerCase()) {
    case 'application/json':
      return parseObject(await c.req.text())
    case 'application/x-www-form-urlencoded':
      return readForm(await c.req.text())
    default:
      return NOTHING
  }
}

/** JSON that is an object or a list; an empty text is `{}`. Errors as {@link readBody}. */
export function parseObject(text: string): Body {
  if (text.trim() === '') return NOTHING
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw invalid('it is no JSON', cause)
  }
  if (typeof value === 'object' && value !== null) return value as Body
  throw invalid('it is no JSON object')
}

function readForm(text: string): Body {
  try {
    return parseForm(text)
  } catch (cause) {
    throw invalid(cause instanceof RangeError ? cause.message : 'it is no form', cause)
  }
}

function invalid(why: string, cause?: unknown): ApiError {
  return new ApiError(400, 'INVALID_BODY', `Cannot read the body: ${why}`, { cause })
}
