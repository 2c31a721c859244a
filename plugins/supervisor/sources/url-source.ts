import { messageOf } from '../../../src/errors.ts'
import { pause } from '../../../src/pause.ts'
import { readBody, retryAfterMs } from './http.ts'
import { MAX_TARGET_BYTES, type SourceOptions, type TargetSource } from './source.ts'

export interface UrlSourceOptions extends SourceOptions {
  readonly url: string
  /** For `Authorization: Bearer`; read for every request, and never shown. */
  readonly token?: (() => Promise<string>) | undefined
  /** Between two polls that succeed. */
  readonly intervalMs: () => number
  readonly timeoutMs: () => number
  /** From 0 to 1. */
  readonly random?: () => number
  /** First pause after a failure. Default: 15 s (spec §19). */
  readonly retryMs?: number
}

const RETRY_MS = 15_000
/** Added to the interval at most, so that not all devices poll together (spec §19). */
const JITTER_MS = 60_000

/** A target polled from a URL (spec §19): ETag, interval and jitter, back-off. */
export class UrlSource implements TargetSource {
  readonly #options: UrlSourceOptions
  readonly #abort = new AbortController()
  #etag: string | undefined
  #failures = 0
  #good: boolean | undefined
  #problem: string | undefined
  #ended: Promise<void> | undefined
  #last: Promise<void> = Promise.resolve()
  #wake: () => void = () => {}
  /** Asked for by the last answer. */
  #retryAfterMs: number | undefined

  constructor(options: UrlSourceOptions) {
    this.#options = options
  }

  get good(): boolean | undefined {
    return this.#good
  }

  start(): void {
    this.#ended ??= this.#loop()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    this.#wake()
    await this.#ended
    await this.#last
  }

  async refresh(): Promise<void> {
    if (this.#abort.signal.aborted) return
    await this.#poll()
    // Counts as the poll that was due.
    this.#wake()
  }

  async #loop(): Promise<void> {
    const { signal } = this.#abort
    await this.#poll()
    while (!signal.aborted) {
      const woken = new AbortController()
      this.#wake = () => woken.abort()
      await pause(this.#delay(), woken.signal)
      if (woken.signal.aborted) continue
      await this.#poll()
    }
  }

  #delay(): number {
    const { intervalMs, random = Math.random, retryMs = RETRY_MS } = this.#options
    const interval = intervalMs()
    if (this.#failures === 0) return interval + random() * Math.min(JITTER_MS, interval)
    const backOff = Math.min(retryMs * 2 ** Math.min(this.#failures - 1, 30), interval)
    return Math.max(backOff, this.#retryAfterMs ?? 0)
  }

  #poll(): Promise<void> {
    this.#last = this.#last.then(() => this.#fetch())
    return this.#last
  }

  async #fetch(): Promise<void> {
    const { url, onTarget, onProblem, timeoutMs } = this.#options
    const { signal } = this.#abort
    if (signal.aborted) return
    const abort = new AbortController()
    const end = () => abort.abort()
    signal.addEventListener('abort', end)
    const timer = setTimeout(end, timeoutMs())
    this.#retryAfterMs = undefined
    let problem: string | undefined
    try {
      const response = await fetch(url, {
        headers: await this.#headers(),
        // The token is for this place alone.
        redirect: 'manual',
        signal: abort.signal,
      })
      this.#retryAfterMs = retryAfterMs(response.headers.get('retry-after'), Date.now())
      if (response.status === 304) await response.body?.cancel()
      else if (response.status !== 200) {
        await response.body?.cancel()
        throw new Error(`the server answered ${response.status}`)
      } else {
        const text = await readBody(response, MAX_TARGET_BYTES)
        const etag = response.headers.get('etag') ?? undefined
        this.#etag = undefined
        await onTarget(parsed(text))
        this.#etag = etag
      }
      this.#failures = 0
    } catch (error) {
      if (signal.aborted) {
        return
      }
      this.#failures++
      const late = abort.signal.aborted
      const why = late ? `no answer within ${timeoutMs()} ms` : reasonOf(error)
      problem = `Cannot fetch the target: ${why}`
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
    }
    this.#good = problem === undefined
    if (problem !== this.#problem) onProblem(problem)
    this.#problem = problem
  }

  async #headers(): Promise<Record<string, string>> {
    const { token } = this.#options
    return {
      accept: 'application/json',
      ...(token ? { authorization: `Bearer ${await token()}` } : {}),
      ...(this.#etag === undefined ? {} : { 'if-none-match': this.#etag }),
    }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new SyntaxError('the answer is no JSON')
  }
}

/** Fetch hides why in the cause. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error ? messageOf(cause) || messageOf(error) : messageOf(error)
}
