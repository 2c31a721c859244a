import type { Context, MiddlewareHandler } from 'hono'
import type { z } from 'zod'
import { ApiError } from '../../errors.ts'
import { documented } from '../../validate.ts'

/** A body of this dialect; its largest honest field is data to be signed. */
const MAX_BODY_BYTES = 1024 * 1024

/** Elements of one list, before any of them is looked at. */
const MAX_LIST = 256

/** What JSON calls white space, RFC 8259 §2. */
const BLANKS: ReadonlySet<number> = new Set(Buffer.from(' \t\r\n'))

/** The first byte of every JSON object and of no protobuf message of these APIs. */
const OPENING_BRACE = 0x7b

/** Wrong fields that one error names. */
const MAX_NAMED = 8

type Checked<Target extends 'query' | 'json', Schema extends z.ZodType> = MiddlewareHandler<
  object,
  string,
  { in: { [K in Target]: z.input<Schema> }; out: { [K in Target]: z.output<Schema> } }
>

/**
 * The arguments of a method called by GET, from the query string; the handler reads them with
 * `c.req.valid('query')`. Lists are written `alt_names[0]=a&alt_names[1]=b`; unknown fields are
 * ignored, and every field of the schema is to have a default.
 *
 * @throws {ApiError} 400 `INVALID_REQUEST`, naming the wrong fields.
 */
export function prpcQuery<Schema extends z.ZodObject>(schema: Schema): Checked<'query', Schema> {
  return checked('query', schema, (c) => queryFields(new URL(c.req.url).searchParams, schema))
}

/**
 * The arguments of a method called by POST, from a JSON object under any content type; the handler
 * reads them with `c.req.valid('json')`. No body at all counts as `{}`, and `null` in place of a
 * value as a field left out.
 *
 * @throws {ApiError} 400 `INVALID_JSON` or `INVALID_REQUEST`, 413 `BODY_TOO_LARGE` over 1 MiB,
 *   415 `BODY_NOT_JSON`, which is what protobuf gets.
 */
export function prpcBody<Schema extends z.ZodObject>(schema: Schema): Checked<'json', Schema> {
  return checked('json', schema, async (c) => bodyFields(await c.req.arrayBuffer()))
}

function checked<Target extends 'query' | 'json', Schema extends z.ZodObject>(
  target: Target,
  schema: Schema,
  read: (c: Context) => object | Promise<object>,
): Checked<Target, Schema> {
  const middleware: Checked<Target, Schema> = async (c, next) => {
    const result = schema.safeParse(await read(c))
    if (!result.success) throw invalid(result.error.issues)
    c.req.addValidatedData(target, result.data)
    await next()
  }
  return Object.assign(middleware, documented(target, schema))
}

function queryFields(query: URLSearchParams, schema: z.ZodObject): object {
  const given = new Map<string, { readonly index: number; readonly value: string }[]>()
  for (const [key, value] of query) {
    const [, name = key, digits = ''] = /^(.*)\[(\d*)\]$/s.exec(key) ?? []
    const values = given.get(name) ?? []
    values.push({ index: Number(digits), value })
    given.set(name, values)
  }
  const fields = Object.entries(schema.shape).flatMap(([name, field]) => {
    const values = given.get(name)?.sort((a, b) => a.index - b.index)
    return values
      ? [
          [
            name,
            typed(
              values.map(({ value }) => value),
              kindOf(field),
            ),
          ] as const,
        ]
      : []
  })
  return bounded(fields)
}

/** What JSON would have had in place of the text of a query. */
function typed(values: readonly string[], kind: string): unknown {
  const [text = '', ...more] = values
  if (kind === 'array' || more.length > 0) return values
  if (kind === 'boolean' && /^(true|false|1|0)$/.test(text)) return text === 'true' || text === '1'
  if (kind === 'number' && /^-?\d{1,16}$/.test(text)) return Number(text)
  return text
}

/** What a field takes beneath its default and what is made of it. */
function kindOf(field: z.core.$ZodType): string {
  const {
    type,
    innerType,
    in: input,
  } = field._zod.def as {
    readonly type: string
    readonly innerType?: z.core.$ZodType
    readonly in?: z.core.$ZodType
  }
  const inner = innerType ?? input
  return inner ? kindOf(inner) : type
}

function bodyFields(body: ArrayBuffer): object {
  if (body.byteLength > MAX_BODY_BYTES) {
    throw new ApiError(413, 'BODY_TOO_LARGE', 'payload too large')
  }
  const bytes = new Uint8Array(body)
  const first = bytes.find((byte) => !BLANKS.has(byte))
  if (first === undefined) return {}
  if (first !== OPENING_BRACE && !isNull(bytes)) throw notJson()
  return bounded(Object.entries(parse(bytes) ?? {}))
}

/** The empty message as it is answered. */
function isNull(bytes: Uint8Array): boolean {
  return bytes.length < 64 && Buffer.from(bytes).toString('latin1').trim() === 'null'
}

function parse(bytes: Uint8Array): object | null {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    // What follows the body is taken for the next request, so the connection has no future. The
    // text is not repeated: it may hold what was to be signed.
    throw new ApiError(
      400,
      'INVALID_JSON',
      'Cannot read the body as JSON: it is malformed, or shorter than what was sent because ' +
        'Content-Length counts characters and not bytes',
      { cause, headers: { connection: 'close' } },
    )
  }
}

function notJson(): ApiError {
  return new ApiError(
    415,
    'BODY_NOT_JSON',
    'Cannot read the body: send a JSON object such as {"report_data": "1234"}, in UTF-8; ' +
      'protobuf is not spoken here',
  )
}

/** @throws {ApiError} When a list is too long to look at each of its elements. */
function bounded(fields: readonly (readonly [name: string, value: unknown])[]): object {
  for (const [name, value] of fields) {
    if (!Array.isArray(value) || value.length <= MAX_LIST) continue
    throw invalid([{ path: [name], message: `${value.length} values, at most ${MAX_LIST} fit` }])
  }
  return Object.fromEntries(fields.filter(([, value]) => value !== null))
}

/** What an issue of zod tells; its own type has more. */
interface Issue {
  readonly path: readonly PropertyKey[]
  readonly message: string
}

function invalid(issues: readonly Issue[]): ApiError {
  const named = issues
    .slice(0, MAX_NAMED)
    .map(({ path, message }) => `${path.map(String).join('.')}: ${message}`)
  return new ApiError(400, 'INVALID_REQUEST', `Invalid ${named.join('; ')}`)
}
