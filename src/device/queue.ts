import { type CallOptions, QueueError } from './devices.ts'
import { FairLine } from './fair-line.ts'

/** What a queue is set up with; see `[attestation]` in the configuration. */
export interface QueueOptions {
  /** Named in messages: `TDX quotes`, `/dev/nsm`. */
  readonly device: string
  /** Calls that may wait behind the running one. Default 16. */
  readonly waiting?: number | undefined
  /** Time for one call, counted from its admission, waiting included. Default 10 s. */
  readonly deadlineMs?: number | undefined
  readonly observer?: QueueObserver | undefined
}

/** How a call ended for whoever made it. */
export type CallOutcome = 'done' | 'failed' | 'full' | 'deadline' | 'aborted'

/** Told what happens in a queue, for metrics; it must not throw. */
export interface QueueObserver {
  /** A caller has its answer, or was turned away. */
  call?(outcome: CallOutcome): void
  /** The device ended a call: how long that had waited, and how long the device took. */
  served?(waitMs: number, serviceMs: number): void
}

/** How one call is to be queued. */
export interface RunOptions extends CallOptions {
  /** Calls of equal key that are in flight share one result: operation and bytes, spelled out. */
  readonly key?: string
}

/** What a device is asked to do; `abandoned` aborts once nobody waits for the result any more. */
export type Work<T> = (abandoned: AbortSignal) => Promise<T>

interface Job {
  readonly caller: string
  readonly key: string | undefined
  readonly work: Work<unknown>
  readonly admitted: number
  /** Undefined while it waits. */
  started: number | undefined
  readonly abandoned: AbortController
  readonly listeners: Set<Listener>
}

type Listener = (outcome: CallOutcome, answer: { value: unknown } | { error: unknown }) => void

/** Share of the newest service time in the moving mean. */
const WEIGHT = 0.2
/** What a device is taken to need before it ever answered. */
const FIRST_GUESS_MS = 1000
/** Timers may fire this much early by the clock that measures. */
const TIMER_SLACK_MS = 2

/**
 * The way to one device, which takes one call at a time. Callers take turns by their key, equal
 * calls share one result, every call has a deadline, and what finds no place is refused at once.
 *
 * A call to the kernel cannot be taken back: one that outlives its deadline keeps the device until
 * it really ends. Meanwhile those who wait run into their own deadlines and new ones are refused;
 * afterwards the queue goes on by itself.
 */
export class DeviceQueue {
  readonly #device: string
  readonly #limit: number
  readonly #deadlineMs: number
  readonly #observer: QueueObserver
  readonly #line = new FairLine<Job>()
  readonly #byKey = new Map<string, Job>()
  #running: Job | undefined
  #meanMs: number | undefined

  constructor({ device, waiting = 16, deadlineMs = 10_000, observer = {} }: QueueOptions) {
    this.#device = device
    this.#limit = waiting
    this.#deadlineMs = deadlineMs
    this.#observer = observer
  }

  /** Calls that wait for the device now. */
  get waiting(): number {
    return this.#line.size
  }

  /** How long the device has been at its present call, in milliseconds; 0 when it is free. */
  get busyMs(): number {
    return this.#running ? performance.now() - (this.#running.started ?? 0) : 0
  }

  /**
   * Runs a call when its turn comes. Callers with an equal key get the same object, so it must not
   * be changed.
   *
   * @throws {QueueError} `QUEUE_FULL`, `DEADLINE` or `ABORTED`; else whatever `work` throws.
   */
  run<T>(work: Work<T>, options: RunOptions = {}): Promise<T> {
    if (options.signal?.aborted) return this.#refuse('aborted', this.#aborted())
    const same = options.key === undefined ? undefined : this.#byKey.get(options.key)
    if (same && !this.#overdue(same)) return this.#listen<T>(same, options.signal)
    const { caller = '', key } = options
    if (this.#running && !this.#makeRoomFor(caller)) return this.#refuse('full', this.#full())
    const job: Job = {
      caller,
      key,
      work,
      admitted: performance.now(),
      started: undefined,
      abandoned: new AbortController(),
      listeners: new Set(),
    }
    if (key !== undefined) this.#byKey.set(key, job)
    const result = this.#listen<T>(job, options.signal)
    if (this.#running) this.#line.push(job)
    else this.#start(job)
    return result
  }

  /** Takes part in a call; leaving the last one drops it, or tells its work so. */
  #listen<T>(job: Job, signal: AbortSignal | undefined): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const listener: Listener = (outcome, answer) => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abort)
        job.listeners.delete(listener)
        this.#observer.call?.(outcome)
        if ('value' in answer) resolve(answer.value as T)
        else reject(answer.error)
      }
      const leave = (outcome: CallOutcome, error: QueueError) => {
        listener(outcome, { error })
        if (job.listeners.size === 0) this.#drop(job)
      }
      const abort = () => leave('aborted', this.#aborted())
      const timer = setTimeout(() => leave('deadline', this.#late(job)), this.#deadlineMs)
      signal?.addEventListener('abort', abort)
      job.listeners.add(listener)
    })
  }

  #start(job: Job): void {
    this.#running = job
    const started = performance.now()
    job.started = started
    const end = (outcome: 'done' | 'failed', answer: { value: unknown } | { error: unknown }) => {
      const ms = performance.now() - started
      this.#meanMs = this.#meanMs === undefined ? ms : this.#meanMs + WEIGHT * (ms - this.#meanMs)
      this.#observer.served?.(started - job.admitted, ms)
      this.#forget(job)
      for (const listener of [...job.listeners]) listener(outcome, answer)
      this.#running = undefined
      const next = this.#line.shift()
      if (next) this.#start(next)
    }
    // The wrapper also catches what work throws before it gives a promise.
    const call = async () => await job.work(job.abandoned.signal)
    call().then(
      (value) => end('done', { value }),
      (error) => end('failed', { error }),
    )
  }

  /** Nobody is left who wants it. */
  #drop(job: Job): void {
    this.#forget(job)
    this.#line.remove(job)
    job.abandoned.abort()
  }

  #forget(job: Job): void {
    if (job.key !== undefined && this.#byKey.get(job.key) === job) this.#byKey.delete(job.key)
  }

  /**
   * Whether a call of this caller may wait. In a full queue the newest call of whoever holds most
   * places gives way to a caller who would still hold fewer; or one caller could keep out all others.
   */
  #makeRoomFor(caller: string): boolean {
    if (this.#running && this.#overdue(this.#running)) return false
    if (this.#line.size < this.#limit) return true
    const longest = this.#line.longest()
    if (!longest || longest.length <= this.#line.countOf(caller) + 1) return false
    const loser = longest[longest.length - 1] as Job
    const error = this.#full()
    for (const listener of [...loser.listeners]) listener('full', { error })
    this.#drop(loser)
    return true
  }

  #overdue({ started }: Job): boolean {
    if (started === undefined) return false
    return performance.now() - started >= this.#deadlineMs - TIMER_SLACK_MS
  }

  #refuse(outcome: CallOutcome, error: QueueError): Promise<never> {
    this.#observer.call?.(outcome)
    return Promise.reject(error)
  }

  #aborted(): QueueError {
    return new QueueError('ABORTED', `Cannot ask ${this.#device}: the caller went away`)
  }

  #late({ started }: Job): QueueError {
    const state = started === undefined ? 'its turn did not come' : 'no answer came'
    const message = `Cannot ask ${this.#device}: ${state} within ${this.#deadlineMs} ms`
    return new QueueError('DEADLINE', message)
  }

  #full(): QueueError {
    const { size } = this.#line
    const mean = this.#meanMs ?? FIRST_GUESS_MS
    const busy = this.busyMs
    if (this.#running && this.#overdue(this.#running)) {
      const message = `Cannot ask ${this.#device}: it has not answered for ${Math.round(busy)} ms`
      return new QueueError('QUEUE_FULL', message, this.#deadlineMs)
    }
    const message = `Cannot ask ${this.#device}: ${size} calls wait already`
    const ahead = Math.max(mean - busy, 0) + mean * size
    return new QueueError('QUEUE_FULL', message, Math.ceil(ahead))
  }
}
