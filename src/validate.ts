import { zValidator } from '@hono/zod-validator'
import type { MiddlewareHandler, ValidationTargets } from 'hono'
import type { ZodType, z } from 'zod'
import { ApiError } from './errors.ts'

const SCHEMA = Symbol.for('cvmd.route.schema')

/** A request schema as `src/openapi.ts` finds it on a route. */
export interface RequestSchema {
  readonly target: keyof ValidationTargets
  readonly schema: ZodType
}

/**
 * Checks one part of a request (`param`, `query`, `json`, `form`, `header`) against a zod schema.
 * The handler reads the result with `c.req.valid(target)`.
 *
 * @throws {ApiError} 400 `INVALID_REQUEST`, naming every wrong field with its path.
 */
export function validate<Target extends keyof ValidationTargets, Schema extends ZodType>(
  target: Target,
  schema: Schema,
) {
  const middleware = zValidator(target, schema, (result) => {
    if (!result.success) throw invalidRequest(target, result.error)
  })
  return Object.assign(middleware, { [SCHEMA]: { target, schema } satisfies RequestSchema })
}

/**
 * Like `validate('json', schema)` for routes whose clients do not label their JSON: any content
 * type is read as JSON (`curl -d` sends a form type), and an empty body counts as `{}`.
 *
 * @throws {ApiError} 400 `INVALID_JSON` or `INVALID_REQUEST`.
 */
export function looseJson<Schema extends ZodType>(
  schema: Schema,
): MiddlewareHandler<
  object,
  string,
  { in: { json: z.input<Schema> }; out: { json: z.output<Schema> } }
> {
  const middleware: MiddlewareHandler<
    object,
    string,
    { in: { json: z.input<Schema> }; out: { json: z.output<Schema> } }
  > = async (c, next) => {
    const result = schema.safeParse(parseJson(await c.req.text()))
    if (!result.success) throw invalidRequest('json', result.error)
    c.req.addValidatedData('json', result.data as object)
    await next()
  }
  return Object.assign(middleware, {
    [SCHEMA]: { target: 'json', schema } satisfies RequestSchema,
  })
}

/**
 * Documents a part of a request that the handler reads itself, because no schema can say how (raw
 * bytes, values that are never refused). Checks nothing, and costs nothing on hot paths.
 */
export function documented<Target extends keyof ValidationTargets, Schema extends ZodType>(
  target: Target,
  schema: Schema,
): MiddlewareHandler<object, string, { in: { [K in Target]: z.input<Schema> } }> {
  const middleware: MiddlewareHandler = (_c, next) => next()
  return Object.assign(middleware, { [SCHEMA]: { target, schema } satisfies RequestSchema })
}

/** The request schema a handler carries, if it was made by one of the functions above. */
export function schemaOf(handler: unknown): RequestSchema | undefined {
  if (typeof handler !== 'function') return undefined
  return (handler as { [SCHEMA]?: RequestSchema })[SCHEMA]
}

/** What zod's classic and core errors have in common. */
interface Issue {
  readonly path: readonly PropertyKey[]
  readonly message: string
}

function parseJson(text: string): unknown {
  if (text.trim() === '') return {}
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new ApiError(400, 'INVALID_JSON', `Cannot read the body as JSON: ${text.slice(0, 40)}`, {
      cause,
    })
  }
}

function invalidRequest(target: string, error: { readonly issues: readonly Issue[] }): ApiError {
  const fields = error.issues.map((issue) => {
    const path = issue.path.map(String).join('.')
    return path === '' ? issue.message : `${path}: ${issue.message}`
  })
  return new ApiError(400, 'INVALID_REQUEST', `Invalid ${target}: ${fields.join('; ')}`, {
    cause: error,
  })
}
