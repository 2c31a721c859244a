import type { ServerResponse } from 'node:http'
import { setImmediate } from 'node:timers'

/**
 * Requests that may wait on one connection for the answers of those before them. `node:http` reads on
 * and keeps what nobody fetches, some 50 KB for each; who sends more at once is cut, and has to be
 * prepared for that (RFC 9112, section 9.3.2).
 */
export const MAX_WAITING_ANSWERS = 16

/** The answers promised to one connection of a `node:http` server, and whether they were sent. */
export class WaitingAnswers {
  readonly #cut: () => void
  readonly #atOnce: boolean
  #last: ServerResponse | undefined
  /** Those before the last, in the order in which they are sent; empty unless it had to wait. */
  readonly #before: ServerResponse[] = []
  #tooMany = false

  /**
   * @param cut Ends the connection.
   * @param atOnce Whether to do so while requests are parsed: `NodeQuirks.cutAtOnce`.
   */
  constructor(cut: () => void, atOnce: boolean) {
    this.#cut = cut
    this.#atOnce = atOnce
  }

  /** The answer to the newest request; undefined before the first. */
  get last(): ServerResponse | undefined {
    return this.#last
  }

  /** Whether nothing is to be sent. */
  get idle(): boolean {
    return this.#last?.writableFinished ?? true
  }

  /**
   * Takes note of a request, and cuts the connection when it is one too many; to be called first of
   * all that is done for it.
   *
   * @returns Whether to answer it.
   */
  asked(answer: ServerResponse): boolean {
    // Looked at here and not told by an event: a listener for each answer costs more.
    const before = this.#last
    this.#last = answer
    return before === undefined || before.writableFinished || this.#mayWait(before)
  }

  #mayWait(before: ServerResponse): boolean {
    if (this.#tooMany) return false
    const sent = this.#before.findIndex((answer) => !answer.writableFinished)
    this.#before.splice(0, sent === -1 ? this.#before.length : sent)
    this.#before.push(before)
    if (this.#before.length < MAX_WAITING_ANSWERS) return true
    this.#tooMany = true
    // Node's parser, which is at work on what came with this one, would find itself gone.
    if (this.#atOnce) this.#cut()
    else setImmediate(this.#cut)
    return false
  }
}
