import type { Commands } from '../commands/command.ts'
import { ZosError } from '../zos-error.ts'

/** What goes back to who called. */
export type Answer =
  /** JSON text. */
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly code: number; readonly message: string }

export interface Asked {
  readonly command: string
  readonly twin: number
  /** JSON text, or ''. */
  readonly payload: string
}

export interface AnswerOptions {
  readonly commands: Pick<Commands, 'dispatch'>
  /** How long a command may take before the caller is told that it did not answer. */
  readonly deadlineMs: number
  /** Largest reply, in bytes of UTF-8. */
  readonly maxReplyBytes: number
  /** Ends the command too. */
  readonly signal: AbortSignal
  /** Gets what is thrown and is no {@link ZosError}: a mistake of ours, which callers do not see. */
  readonly onFault: (command: string, fault: unknown) => void
}

export interface Answering {
  /** Never rejects. */
  readonly answer: Promise<Answer>
  /** When the command has ended, which may be later where it does not heed its signal. */
  readonly ended: Promise<void>
}

/** Calls a command for a message: with a deadline, a bound for the reply, and errors as answers. */
export function beginAnswer(asked: Asked, options: AnswerOptions): Answering {
  const { command, twin, payload } = asked
  const { deadlineMs } = options
  const controller = new AbortController()
  const abort = () => controller.abort(options.signal.reason)
  if (options.signal.aborted) abort()
  else options.signal.addEventListener('abort', abort, { once: true })
  const { signal } = controller
  const work = (async () => options.commands.dispatch({ command, twin, payload, signal }))()
  const ended = work.then(
    () => {},
    () => {},
  )
  const answer = new Promise<Answer>((resolve) => {
    const timer = setTimeout(() => {
      controller.abort(new DOMException('The command took too long', 'TimeoutError'))
      resolve(refusal(`${command} did not answer within ${deadlineMs} ms, try again later`))
    }, deadlineMs)
    work
      .then(
        (text) => bounded(command, text, options.maxReplyBytes),
        (error) => answerOf(command, error, options),
      )
      .then((result) => {
        clearTimeout(timer)
        options.signal.removeEventListener('abort', abort)
        resolve(result)
      })
  })
  return { answer, ended }
}

/** Of the bus, unless there is a better one (spec §10.1). */
const CODE = 255

function refusal(message: string): Answer {
  return { ok: false, code: CODE, message }
}

function bounded(command: string, text: string, maxBytes: number): Answer {
  const size = Buffer.byteLength(text)
  if (size <= maxBytes) return { ok: true, text }
  return refusal(`the reply of ${command} has ${size} bytes, at most ${maxBytes} can be sent`)
}

function answerOf(command: string, error: unknown, options: AnswerOptions): Answer {
  if (error instanceof ZosError) return { ok: false, code: error.code, message: error.message }
  if (options.signal.aborted) return refusal('the node is stopping, try again later')
  options.onFault(command, error)
  return refusal('internal error')
}
