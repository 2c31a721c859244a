import { isEngineError } from '../../../src/engine/error.ts'
import { messageOf } from '../../../src/errors.ts'
import type { Locks } from '../locks/locks.ts'
import { needsLock, type Step } from '../plan/steps.ts'
import type { Settings } from '../target/settings.ts'
import { type Hands, StaleStep } from './hands.ts'
import type { Lane } from './lane.ts'
import { perform } from './perform.ts'
import { SupervisorError } from './supervisor-error.ts'

/** Until a name of an image whose removal failed is tried again. */
const REMOVAL_RETRY_MS = 10 * 60_000
/** After an engine that went away in the middle of a step, or a step for what is not so. */
const SOON_MS = 200
/** Steps in a row that may be for what is not so any more, before that counts as a failure. */
const MAX_STALE = 2

export interface RoundsOptions {
  readonly hands: Hands
  readonly locks: Locks
  readonly settings: () => Settings
  /** A step was planned for what is not wanted any more. */
  readonly onStale: () => void
}

/** Has the steps of a lane done together, those that need its update locks under them. */
export class Rounds {
  readonly #options: RoundsOptions
  /** By name of an image: until when its removal is not tried again. */
  readonly #failedRemovals = new Map<string, number>()

  constructor(options: RoundsOptions) {
    this.#options = options
  }

  /** Names of images whose removal failed lately. */
  failedRemovals(): Set<string> {
    const now = Date.now()
    for (const [name, until] of this.#failedRemovals) {
      if (until <= now) this.#failedRemovals.delete(name)
    }
    return new Set(this.#failedRemovals.keys())
  }

  /** When they may be tried again. */
  removalTimes(): Iterable<number> {
    return this.#failedRemovals.values()
  }

  /** Never rejects: a failure is noted in the lane, and is that of the operation it has. */
  async do(lane: Lane, steps: readonly Step[]): Promise<void> {
    const locked = steps.filter(needsLock)
    const free = steps.filter((step) => !needsLock(step))
    const attempts = free.map((step) => this.#attempt(lane, step))
    if (locked.length > 0) attempts.push(this.#underLock(lane, locked))
    else if (lane.held) attempts.push(lane.unlock())
    const results = await Promise.allSettled(attempts)
    const errors = results.flatMap((result) =>
      result.status === 'rejected' ? [result.reason as unknown] : [],
    )
    const [first] = errors
    if (first === undefined) lane.stale = 0
    else await this.#failed(lane, errors.find((error) => !(error instanceof StaleStep)) ?? first)
  }

  async #underLock(lane: Lane, steps: readonly Step[]): Promise<void> {
    const { appId, operation } = lane
    if (appId === undefined) return
    const { hands, locks, settings } = this.#options
    const wanted = hands.appOf(appId)?.services.map(({ serviceName }) => serviceName) ?? []
    const there = hands.state.containersOf(appId).map(({ serviceName }) => serviceName)
    lane.held ??= await locks.acquire([appId], {
      services: () => new Set([...wanted, ...there]),
      force: lane.forced || operation?.force === true,
      override: settings().overrideLock,
      ...(operation ? {} : { waitMs: Number.POSITIVE_INFINITY }),
      signal: hands.signal,
    })
    const results = await Promise.allSettled(steps.map((step) => this.#attempt(lane, step)))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  async #attempt(lane: Lane, step: Step): Promise<void> {
    const { hands } = this.#options
    try {
      await perform(step, lane.appId ?? 0, hands)
    } catch (error) {
      if (step.kind !== 'remove-image' || hands.signal.aborted) throw error
      // Somebody uses it in a way that is not seen here: that is no failure (spec §24.8).
      this.#failedRemovals.set(step.image, Date.now() + REMOVAL_RETRY_MS)
      hands.note(`image ${step.image} could not be removed: ${messageOf(error)}`)
    }
  }

  async #failed(lane: Lane, error: unknown): Promise<void> {
    const { hands, settings, onStale } = this.#options
    if (hands.signal.aborted) return
    await lane.unlock()
    if (error instanceof StaleStep && lane.stale++ < MAX_STALE) {
      onStale()
      lane.retryAt = Date.now() + SOON_MS
      return
    }
    const away = isEngineError(error, 'ENGINE_UNREACHABLE')
    const message = messageOf(error)
    if (away) lane.retryAt = Date.now() + SOON_MS
    const { operation } = lane
    if (operation) operation.fail(asOperationError(error, away))
    // What an operation could not do may not be needed without it.
    if (away || operation) return
    const seconds = Math.ceil(lane.fail(message, settings().pollIntervalMs) / 1000)
    const locked = error instanceof Error && error.name === 'LockError'
    const whose = lane.appId === undefined ? 'what all apps share' : `app ${lane.appId}`
    hands.note(
      locked
        ? `Updates are locked, retrying in ${seconds}s. Reason: ${message}`
        : `${whose} could not be applied, retrying in ${seconds}s: ${message}`,
      'warn',
    )
  }
}

function asOperationError(error: unknown, away: boolean): unknown {
  if (error instanceof Error && error.name === 'LockError') return error
  const code = away ? 'ENGINE_AWAY' : 'OPERATION_FAILED'
  return new SupervisorError(code, messageOf(error), { cause: error })
}
