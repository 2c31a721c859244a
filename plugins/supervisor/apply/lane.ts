import type { HeldLocks } from '../locks/locks.ts'
import type { Round, Step, WaitKind } from '../plan/steps.ts'
import type { Operation } from './operation.ts'

/** First pause after a failure is twice this (spec §16). */
const UNIT_MS = 500
/** That the same steps are done one after the other without a pause. */
const MOST_TIMES = 5

/** What keeps nothing from being applied. */
const QUIET: ReadonlySet<WaitKind> = new Set<WaitKind>([
  'reboot',
  'volume-changed',
  'network-owner',
  'failed-update',
  'name-taken',
  'rejected',
])

/** What goes on for one app, or for what belongs to none: nothing in one lane waits for another. */
export class Lane {
  /** Undefined: what belongs to no app. */
  readonly appId: number | undefined
  /** The last plan for it. */
  round: Round = { steps: [], waits: [] }
  /** Steps are being done, or an operation has it alone. */
  busy: Promise<unknown> | undefined
  busySince = 0
  operation: Operation | undefined
  /** Ends when the operation before is through. */
  turn: Promise<unknown> = Promise.resolve()
  held: HeldLocks | undefined
  /** Update locks are removed until the target is reached. */
  forced = false
  failures = 0
  /** Milliseconds since 1970. */
  retryAt = 0
  /** Why the last attempt failed. */
  problem: string | undefined
  /** Steps in a row that were planned for what is not so any more. */
  stale = 0

  #last = ''
  #times = 0

  constructor(appId: number | undefined) {
    this.appId = appId
  }

  /** Whether there is anything to do, or to wait for that will come by itself. */
  get atWork(): boolean {
    if (this.busy !== undefined || this.operation !== undefined) return true
    return this.round.steps.length > 0 || this.round.waits.some(({ kind }) => !QUIET.has(kind))
  }

  /** It does not become what the target says: it was rolled back, or a stranger is in its place. */
  get fallsShort(): boolean {
    return this.round.waits.some(({ kind }) => kind === 'failed-update' || kind === 'name-taken')
  }

  /** @returns Milliseconds until the next attempt. */
  fail(problem: string, maxMs: number): number {
    this.failures++
    const delay = Math.min(2 ** Math.min(this.failures, 30) * UNIT_MS, maxMs)
    this.retryAt = Date.now() + delay
    this.problem = problem
    return delay
  }

  /** Whether the same steps were done again and again, and changed nothing that is seen here. */
  repeats(steps: readonly Step[]): boolean {
    const text = JSON.stringify(steps)
    this.#times = text === this.#last ? this.#times + 1 : 0
    this.#last = text
    if (this.#times < MOST_TIMES) return false
    this.#times = 0
    return true
  }

  /** The next attempt is a first one. */
  forgive(): void {
    this.failures = 0
    this.retryAt = 0
    this.stale = 0
  }

  /** Nothing is left to be done. */
  settle(): void {
    this.forgive()
    this.problem = undefined
    this.forced = false
  }

  async unlock(): Promise<void> {
    const { held } = this
    this.held = undefined
    await held?.release()
  }
}
