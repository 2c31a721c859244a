import { messageOf } from '../../../src/errors.ts'
import { pause } from '../../../src/pause.ts'
import { retryAfterMs } from '../sources/http.ts'
import { difference, type State } from './difference.ts'

export interface ReporterOptions {
  readonly url: string
  /** For `Authorization: Bearer`; read for every request, and never shown. */
  readonly token?: (() => Promise<string>) | undefined
  readonly deviceUuid: string
  /** All that is reported, as it is now. */
  readonly state: () => State
  /** Least time between two reports. Default: 10 s (spec §19). */
  readonly intervalMs?: number | undefined
  /** Longest pause after failures. */
  readonly maxRetryMs: () => number
  readonly timeoutMs: () => number
  /** First pause after a failure. Default: 15 s. */
  readonly retryMs?: number
  /** What is wrong, or undefined: all is well again. */
  readonly onProblem: (problem: string | undefined) => void
}

const INTERVAL_MS = 10_000
const RETRY_MS = 15_000

/** Tells a server what changed (spec §19): one report at a time, with the state of its moment. */
export class Reporter {
  readonly #options: ReporterOptions
  readonly #abort = new AbortController()
  #accepted: State = {}
  #failures = 0
  #retryAfterMs: number | undefined
  #problem: string | undefined
  #dirty = true
  #wake: () => void = () => {}
  #ended: Promise<void> | undefined

  constructor(options: ReporterOptions) {
    this.#options = options
  }

  start(): void {
    this.#ended ??= this.#loop()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    this.#wake()
    await this.#ended
  }

  /** Something may have to be reported. */
  changed(): void {
    this.#dirty = true
    this.#wake()
  }

  async #loop(): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      if (!this.#dirty) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        continue
      }
      this.#dirty = false
      const now = this.#options.state()
      const changed = difference(this.#accepted, now)
      if (Object.keys(changed).length === 0) continue
      await this.#send(changed, now)
      await pause(this.#delay(), signal)
    }
  }

  #delay(): number {
    const { intervalMs = INTERVAL_MS, maxRetryMs, retryMs = RETRY_MS } = this.#options
    const asked = this.#retryAfterMs ?? 0
    if (this.#failures === 0) return Math.max(intervalMs, asked)
    if (asked > 0) return asked
    return Math.min(retryMs * 2 ** Math.min(this.#failures - 1, 30), maxRetryMs())
  }

  async #send(changed: State, now: State): Promise<void> {
    const { url, token, deviceUuid, timeoutMs, onProblem } = this.#options
    const { signal } = this.#abort
    const abort = new AbortController()
    const end = () => abort.abort()
    signal.addEventListener('abort', end)
    const timer = setTimeout(end, timeoutMs())
    this.#retryAfterMs = undefined
    let problem: string | undefined
    try {
      const response = await fetch(url, {
        method: 'PATCH',
        headers: {
          'content-type': 'application/json',
          ...(token ? { authorization: `Bearer ${await token()}` } : {}),
        },
        body: JSON.stringify({ [deviceUuid]: changed }),
        redirect: 'manual',
        signal: abort.signal,
      })
      await response.body?.cancel()
      this.#retryAfterMs = retryAfterMs(response.headers.get('retry-after'), Date.now())
      if (!response.ok) throw new Error(`the server answered ${response.status}`)
      this.#accepted = now
      this.#failures = 0
    } catch (error) {
      if (signal.aborted) return
      this.#failures++
      this.#dirty = true
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
      const late = abort.signal.aborted
      problem = `Cannot report: ${late ? `no answer within ${timeoutMs()} ms` : messageOf(cause)}`
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
    }
    if (problem !== this.#problem) onProblem(problem)
    this.#problem = problem
  }
}
