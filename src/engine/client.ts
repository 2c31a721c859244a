import * as v from 'valibot'
import { EngineError, errorOfStatus, isEngineError } from './error.ts'
import { type Answer, exchange } from './exchange.ts'
import { createScope, type Scope } from './scope.ts'
import { createSlots } from './slots.ts'
import { chooseVersion, type Spoken } from './version.ts'

/** What every call to the engine takes. */
export interface CallOptions {
  /** Ends the call; its reason is what is thrown. */
  readonly signal?: AbortSignal | undefined
  /** For the whole call; of a stream, until it begins. */
  readonly deadlineMs?: number | undefined
}

/** One call, in the engine's terms. */
export interface Call extends CallOptions {
  /** For errors: `create container "api"`. */
  readonly action: string
  readonly method?: 'GET' | 'POST' | 'DELETE'
  /** Without the version: `/containers/json`. */
  readonly path: string
  /** Never a secret: engines log the request line. Undefined members are left out. */
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  readonly body?: unknown
  /** What an error must not show, though the engine may quote it. */
  readonly secrets?: readonly string[]
  /** A status beside 2xx that is no error, such as 304. */
  readonly accept?: number
}

/** A `long` call waits for a container, and must not keep others waiting. */
export type Lane = 'short' | 'long'

export interface EngineClient {
  readonly socketPath: string
  /** The version spoken, asked for once and again after the connection was lost. */
  spoken(options?: CallOptions): Promise<Spoken>
  /** Asks for it again before the next call. */
  forget(): void
  /**
   * A call answered with JSON.
   *
   * @throws {EngineError} Any code; `ENGINE_MALFORMED` where the schema does not match.
   */
  json<Schema extends v.GenericSchema>(
    call: Call,
    schema: Schema,
    lane?: Lane,
  ): Promise<v.InferOutput<Schema>>
  /** A call whose answer says nothing but its status. */
  status(call: Call, lane?: Lane): Promise<number>
  /** A call answered bit by bit; the deadline is for its beginning. */
  stream(call: Call): Promise<Answer>
}

/** @see EngineOptions in engine.ts */
export interface ClientOptions {
  readonly socketPath: string
  readonly deadlineMs?: number
  readonly maxAnswerBytes?: number
}

const DEADLINE_MS = 30_000
const MAX_ANSWER_BYTES = 32 * 1024 * 1024
/** Of an answer that is no success, or of one that says nothing. */
const MAX_WORDS_BYTES = 64 * 1024
/** Calls at a time, beside streams. */
const SLOTS = 16

export function createClient(options: ClientOptions): EngineClient {
  const { socketPath, deadlineMs = DEADLINE_MS, maxAnswerBytes = MAX_ANSWER_BYTES } = options
  const slots = createSlots(SLOTS)
  let known: Spoken | undefined

  const scopeOf = (call: Call) =>
    createScope(call.action, call.signal, call.deadlineMs ?? deadlineMs)

  const send = async (call: Call, prefix: string, signal: AbortSignal) => {
    try {
      return await exchange({
        socketPath,
        action: call.action,
        method: call.method ?? 'GET',
        path: `${prefix}${call.path}${queryOf(call.query)}`,
        headers: call.headers ?? {},
        signal,
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
      })
    } catch (error) {
      // What comes back may be another engine.
      if (isEngineError(error, 'ENGINE_UNREACHABLE')) known = undefined
      throw error
    }
  }

  const negotiate = async (scope: Scope): Promise<Spoken> => {
    if (known) return known
    const call: Call = { action: 'reach the engine', path: '/_ping' }
    const answer = await send(call, '', scope.signal)
    await checked(answer, call)
    await readAll(answer, call.action, MAX_WORDS_BYTES)
    const highest = answer.headers['api-version']
    const product = 'libpod-api-version' in answer.headers ? 'podman' : 'docker'
    known = chooseVersion(typeof highest === 'string' ? highest : undefined, product)
    return known
  }

  /** Sends with the version, and makes an error of a status that is no success. */
  const begin = async (call: Call, scope: Scope): Promise<Answer> => {
    const { version } = await negotiate(scope)
    const answer = await send(call, `/v${version}`, scope.signal)
    try {
      return await checked(answer, call)
    } catch (error) {
      if (isEngineError(error, 'ENGINE_VERSION')) known = undefined
      throw error
    }
  }

  /** Within the deadline to its end, waiting for a place included. */
  const whole = async <T>(call: Call, work: (scope: Scope) => Promise<T>, lane: Lane = 'short') => {
    const scope = scopeOf(call)
    let leave = () => {}
    try {
      if (lane === 'short') leave = await slots.take(scope.signal)
      return await work(scope)
    } finally {
      leave()
      scope.end()
    }
  }

  return {
    socketPath,
    spoken: (options = {}) => {
      if (known) return Promise.resolve(known)
      return whole({ action: 'reach the engine', path: '/_ping', ...options }, negotiate)
    },
    forget: () => {
      known = undefined
    },
    json: (call, schema, lane) => {
      const read = async (scope: Scope) => {
        const answer = await begin(call, scope)
        const text = await readAll(answer, call.action, maxAnswerBytes)
        return parsed(text, schema, call.action)
      }
      return whole(call, read, lane)
    },
    status: (call, lane) => {
      const read = async (scope: Scope) => {
        const answer = await begin(call, scope)
        await readAll(answer, call.action, MAX_WORDS_BYTES)
        return answer.status
      }
      return whole(call, read, lane)
    },
    async stream(call) {
      const scope = scopeOf(call)
      try {
        const answer = await begin(call, scope)
        scope.disarm()
        return {
          ...answer,
          async *chunks(idleMs) {
            try {
              yield* answer.chunks(idleMs)
            } finally {
              scope.end()
            }
          },
          close: () => {
            scope.end()
            answer.close()
          },
        }
      } catch (error) {
        scope.end()
        throw error
      }
    },
  }
}

/** An answer that is a success; otherwise its words become the error. */
async function checked(answer: Answer, call: Call): Promise<Answer> {
  const { status } = answer
  if ((status >= 200 && status < 300) || status === call.accept) return answer
  const text = await readAll(answer, call.action, MAX_WORDS_BYTES)
  throw errorOfStatus(call.action, status, text, call.secrets ?? [])
}

/** @throws {EngineError} `ENGINE_MALFORMED` when it is longer than allowed. */
async function readAll(answer: Answer, action: string, limit: number): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of answer.chunks()) {
    size += chunk.length
    if (size > limit) {
      const reason = `the answer has more than ${limit} bytes`
      throw new EngineError('ENGINE_MALFORMED', action, reason, { status: answer.status })
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** The engine's JSON, checked. Says where it is wrong, never what stands there. */
export function parsed<Schema extends v.GenericSchema>(
  text: string,
  schema: Schema,
  action: string,
): v.InferOutput<Schema> {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new EngineError('ENGINE_MALFORMED', action, 'the answer is not JSON')
  }
  const result = v.safeParse(schema, json, { abortEarly: true })
  if (result.success) return result.output
  const [issue] = result.issues
  const place = v.getDotPath(issue) ?? 'the answer'
  const reason = `${place} should be ${issue.expected ?? 'something else'}`
  throw new EngineError('ENGINE_MALFORMED', action, reason.slice(0, 200))
}

function queryOf(query: Call['query']): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) search.set(name, String(value))
  }
  const text = search.toString()
  return text === '' ? '' : `?${text}`
}

/**
 * A name or an id as one segment of a path.
 *
 * @throws {EngineError} `ENGINE_REJECTED` for what could be read as another path.
 */
export function segment(name: string, action: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is meant
  if (!/^[^\u0000-\u001f\u007f/\\]{1,255}$/.test(name) || name === '.' || name === '..') {
    throw new EngineError('ENGINE_REJECTED', action, 'this is no name of an object')
  }
  return encodeURIComponent(name)
}

/** The engine's filters, as its query wants them. */
export function filtersOf(filters: Readonly<Record<string, readonly string[] | undefined>>) {
  const given = Object.entries(filters).filter(([, values]) => values !== undefined)
  return given.length === 0 ? undefined : JSON.stringify(Object.fromEntries(given))
}
