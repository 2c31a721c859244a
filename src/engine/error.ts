/**
 * What went wrong, in words that stay the same:
 *
 * - `ENGINE_UNREACHABLE`: nobody listens on the socket, or the connection was lost.
 * - `ENGINE_TIMEOUT`: the engine did not answer, or a stream fell silent, beyond the deadline.
 * - `ENGINE_NOT_FOUND`: 404, there is no such object.
 * - `ENGINE_CONFLICT`: 409, the state of the object or its name is in the way.
 * - `ENGINE_REJECTED`: 400 to 403, or a name that was not even sent: the request is wrong.
 * - `ENGINE_UNSUPPORTED`: this engine does not have the call (spec balena-supervisor §23.4).
 * - `ENGINE_FAILED`: any other status, or an error inside a stream.
 * - `ENGINE_VERSION`: the engine speaks no version of the API that is spoken here.
 * - `ENGINE_MALFORMED`: the answer is not what the API promises, or larger than allowed.
 */
export type EngineErrorCode =
  | 'ENGINE_UNREACHABLE'
  | 'ENGINE_TIMEOUT'
  | 'ENGINE_NOT_FOUND'
  | 'ENGINE_CONFLICT'
  | 'ENGINE_REJECTED'
  | 'ENGINE_UNSUPPORTED'
  | 'ENGINE_FAILED'
  | 'ENGINE_VERSION'
  | 'ENGINE_MALFORMED'

export interface EngineErrorOptions extends ErrorOptions {
  /** HTTP status of the engine's answer. */
  readonly status?: number
  /** The engine's own words, as {@link engineWords} bounds them. */
  readonly detail?: string
}

/** The one error of the engine client beside the reason of an aborted signal. */
export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code: EngineErrorCode
  /** HTTP status of the engine's answer, where there was one. */
  readonly status: number | undefined
  /** The engine's own words, where it said any: at most 500 characters, secrets masked. */
  readonly detail: string | undefined

  /** @param action What was being done: `create container "api"`. */
  constructor(
    code: EngineErrorCode,
    action: string,
    reason: string,
    options: EngineErrorOptions = {},
  ) {
    super(`Cannot ${action}: ${reason}`, options)
    this.code = code
    this.status = options.status
    this.detail = options.detail
  }
}

/** Whether something thrown is an {@link EngineError}, and has this code where one is given. */
export function isEngineError(thrown: unknown, code?: EngineErrorCode): thrown is EngineError {
  if (!(thrown instanceof Error) || thrown.name !== 'EngineError') return false
  return code === undefined || (thrown as EngineError).code === code
}

/** Characters of the engine's own words that an error shows. */
const MAX_WORDS = 500

/** Shorter values are too common in other words to be hidden there. */
const MIN_SECRET = 4

/**
 * The engine's words as an error may show them: one line, at most 500 characters, and none of the
 * secrets that were sent, which an engine likes to quote back.
 */
export function engineWords(text: string, secrets: readonly string[] = []): string {
  let words = text
  // Also each line of a secret, for an engine may quote a part of it.
  const hidden = [...secrets, ...secrets.flatMap((secret) => secret.split(/\r?\n/))]
  // The longest first, or a secret that contains another would show its rest.
  for (const secret of hidden.sort((a, b) => b.length - a.length)) {
    if (secret.length >= MIN_SECRET) words = words.replaceAll(secret, '[masked]')
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is meant
  words = words.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim()
  return words.length <= MAX_WORDS ? words : `${words.slice(0, MAX_WORDS - 1)}…`
}

/** An answer whose status says that the call failed. */
export function errorOfStatus(
  action: string,
  status: number,
  body: string,
  secrets: readonly string[],
): EngineError {
  const said = saidIn(body)
  const detail = engineWords(said ?? body, secrets)
  const code = codeOf(status, said, detail)
  const words = detail === '' ? '' : `: ${detail}`
  return new EngineError(code, action, `the engine answered ${status}${words}`, { status, detail })
}

/** The member `message` of the engine's JSON; undefined where the answer is something else. */
function saidIn(body: string): string | undefined {
  try {
    const { message } = JSON.parse(body) as { message?: unknown }
    return typeof message === 'string' ? message : undefined
  } catch {
    return undefined
  }
}

function codeOf(status: number, said: string | undefined, detail: string): EngineErrorCode {
  switch (status) {
    case 400:
      // "client version 1.41 is too old" or "too new": the engine was replaced by another one.
      return /^client version\b/.test(detail) ? 'ENGINE_VERSION' : 'ENGINE_REJECTED'
    case 401:
    case 403:
      return 'ENGINE_REJECTED'
    case 404:
      // A route the engine lacks is answered by its router, in plain text.
      return said === undefined || said === 'page not found'
        ? 'ENGINE_UNSUPPORTED'
        : 'ENGINE_NOT_FOUND'
    case 405:
    case 501:
      return 'ENGINE_UNSUPPORTED'
    case 409:
      return 'ENGINE_CONFLICT'
    default:
      return 'ENGINE_FAILED'
  }
}
