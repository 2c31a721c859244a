import type { PullProgress, RegistryCredentials } from '../../../src/engine/images.ts'
import { parseImageReference } from '../../../src/engine/reference.ts'
import { messageOf } from '../../../src/errors.ts'
import { imageKey } from '../compose/image-key.ts'

/** Pulls at a time (spec §16). */
const AT_A_TIME = 3
/** Layers of one image that are counted. */
const MAX_LAYERS = 1000

export interface PullsOptions {
  /** Pulls and resolves when the image is here and known. */
  readonly pull: (image: string, options: PullCall) => Promise<void>
  readonly credentialsOf?:
    | ((registry: string) => Promise<RegistryCredentials | undefined>)
    | undefined
  /** Longest time between two attempts. */
  readonly maxRetryMs: () => number
  /** Something began, went on, or ended. */
  readonly onChange: () => void
  readonly onEnd: (image: string, problem: string | undefined) => void
}

export interface PullCall {
  readonly credentials?: RegistryCredentials
  readonly signal: AbortSignal
  readonly onProgress: (progress: PullProgress) => void
}

interface Pull {
  readonly image: string
  readonly abort: AbortController
  readonly ended: Promise<void>
  readonly layers: Map<string, { current: number; total: number }>
  percent: number
}

/** Images on the way, each once whoever asks for it. */
export class Pulls {
  readonly #options: PullsOptions
  /** By `imageKey`. */
  readonly #running = new Map<string, Pull>()
  readonly #failed = new Map<string, { failures: number; retryAt: number }>()
  #busy = 0
  readonly #waiting: (() => void)[] = []

  constructor(options: PullsOptions) {
    this.#options = options
  }

  get downloads(): ReadonlySet<string> {
    return new Set(this.#running.keys())
  }

  get failed(): ReadonlyMap<string, { readonly retryAt: number }> {
    return this.#failed
  }

  /** Percent of one image; undefined when it is not being pulled. */
  progressOf(image: string): number | undefined {
    return this.#running.get(imageKey(image))?.percent
  }

  /** Mean percent of all; undefined without any (spec §5.5). */
  get progress(): number | undefined {
    const all = [...this.#running.values()]
    if (all.length === 0) return undefined
    return Math.round(all.reduce((sum, { percent }) => sum + percent, 0) / all.length)
  }

  /** Begins to pull; nothing when it goes on already. */
  begin(image: string): void {
    const key = imageKey(image)
    if (this.#running.has(key)) return
    const abort = new AbortController()
    const layers: Pull['layers'] = new Map()
    let begin = () => {}
    const begun = new Promise<void>((resolve) => {
      begin = resolve
    })
    const ended = begun.then(() => this.#run(key, pull))
    const pull: Pull = { image, abort, layers, percent: 0, ended }
    this.#running.set(key, pull)
    begin()
    this.#options.onChange()
  }

  /** @param keep Whether to go on; asked with `imageKey`. Default: nothing goes on. */
  async abort(keep: (key: string) => boolean = () => false): Promise<void> {
    const aborted = [...this.#running].filter(([key]) => !keep(key)).map(([, pull]) => pull)
    for (const { abort } of aborted) abort.abort(new Error('the pull was cancelled'))
    await Promise.all(aborted.map(({ ended }) => ended))
  }

  /** What failed may be tried at once. */
  forgive(): void {
    this.#failed.clear()
  }

  async #run(key: string, pull: Pull): Promise<void> {
    const { image, abort } = pull
    let problem: string | undefined
    try {
      await this.#turn(abort.signal)
      try {
        const registry = parseImageReference(image)?.registry ?? ''
        const credentials = await this.#options.credentialsOf?.(registry)
        abort.signal.throwIfAborted()
        await this.#options.pull(image, {
          ...(credentials ? { credentials } : {}),
          signal: abort.signal,
          onProgress: (progress) => this.#count(pull, progress),
        })
        this.#failed.delete(key)
      } finally {
        this.#busy--
        this.#waiting.shift()?.()
      }
    } catch (error) {
      problem = messageOf(error)
      if (!abort.signal.aborted) this.#fail(key)
    }
    this.#running.delete(key)
    if (!abort.signal.aborted) this.#options.onEnd(image, problem)
    this.#options.onChange()
  }

  #fail(key: string): void {
    const failures = (this.#failed.get(key)?.failures ?? 0) + 1
    const delay = Math.min(2 ** Math.min(failures, 30) * 500, this.#options.maxRetryMs())
    this.#failed.set(key, { failures, retryAt: Date.now() + delay })
  }

  /** Waits for a place. */
  async #turn(signal: AbortSignal): Promise<void> {
    while (this.#busy >= AT_A_TIME) {
      signal.throwIfAborted()
      await new Promise<void>((resolve) => {
        const go = () => {
          signal.removeEventListener('abort', go)
          const at = this.#waiting.indexOf(go)
          if (at >= 0) this.#waiting.splice(at, 1)
          resolve()
        }
        this.#waiting.push(go)
        signal.addEventListener('abort', go)
      })
    }
    signal.throwIfAborted()
    this.#busy++
  }

  #count(pull: Pull, { layer, current, total, status }: PullProgress): void {
    if (layer === '' || total <= 0 || status !== 'Downloading') return
    if (!pull.layers.has(layer) && pull.layers.size >= MAX_LAYERS) return
    pull.layers.set(layer, { current: Math.min(current, total), total })
    let done = 0
    let whole = 0
    for (const one of pull.layers.values()) {
      done += one.current
      whole += one.total
    }
    const percent = Math.floor((100 * done) / whole)
    if (percent === pull.percent) return
    pull.percent = percent
    this.#options.onChange()
  }
}
