import type { Context, MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { within } from '../../../src/deadline.ts'
import { ApiError } from '../../../src/errors.ts'

/** The longest honest one is a form with a URL, a name and a token. */
const MAX_BODY_BYTES = 16 * 1024

/** For all of a body, in milliseconds. */
const BODY_TIMEOUT_MS = 10_000

const limit = bodyLimit({
  maxSize: MAX_BODY_BYTES,
  onError: () => {
    throw new ApiError(413, 'BODY_TOO_LARGE', 'payload too large', {
      headers: { connection: 'close' },
    })
  },
})

/**
 * Reads a body whole, so that those who look at it later find it there.
 *
 * @throws {ApiError} 413 `BODY_TOO_LARGE` over 16 KiB; 408 `REQUEST_TIMEOUT` after 10 s; 400
 *   `BODY_INCOMPLETE`.
 */
export const wholeBody: MiddlewareHandler = async (c, next) => {
  const late = () =>
    new ApiError(408, 'REQUEST_TIMEOUT', `Cannot read the body within ${BODY_TIMEOUT_MS} ms`, {
      headers: { connection: 'close' },
    })
  await within(BODY_TIMEOUT_MS, read(c), late)
  await next()
}

async function read(c: Context): Promise<void> {
  try {
    await limit(c, async () => void (await c.req.arrayBuffer()))
  } catch (cause) {
    if (cause instanceof ApiError) throw cause
    throw new ApiError(400, 'BODY_INCOMPLETE', 'Cannot read the body: it broke off', { cause })
  }
}

/**
 * The fields of a form that was read by {@link wholeBody}.
 *
 * @throws {ApiError} 415 `BODY_NOT_FORM`.
 */
export async function formFields(c: Context): Promise<URLSearchParams> {
  const [type = ''] = (c.req.header('content-type') ?? '').split(';')
  if (type.trim().toLowerCase() === 'application/x-www-form-urlencoded') {
    return new URLSearchParams(await c.req.text())
  }
  const message = 'Cannot read the body: it is no form; the methods are below /prpc/'
  throw new ApiError(415, 'BODY_NOT_FORM', message)
}
