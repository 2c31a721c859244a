import { LockError } from '../locks/locks.ts'
import type { Lane } from './lane.ts'
import type { Operation } from './operation.ts'
import { SupervisorError } from './supervisor-error.ts'
import { abortable, limited } from './waiting.ts'

/** An operation waits at most this long for the one before it (spec §8.3). */
const TURN_MS = 10_000
/** The longest operation (spec §1). */
const OPERATION_MS = 15 * 60_000

export interface RequestsOptions {
  /** @throws {SupervisorError} When nothing can be begun now. */
  readonly assertReady: () => void
  readonly lane: (appId: number) => Lane
  /** The lane is at work until the promise settles. */
  readonly occupy: (lane: Lane, work: Promise<unknown>) => void
  readonly kick: () => void
}

/** What callers of the API ask for, one after the other in each app's lane. */
export class Requests {
  readonly #options: RequestsOptions

  constructor(options: RequestsOptions) {
    this.#options = options
  }

  /**
   * Does work alone in an app's lane, after what is under way there.
   *
   * @throws {LockError} `LOCKS_BUSY` when that takes too long.
   */
  async exclusively<T>(appId: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return await this.#inTurn(appId, signal, async (lane) => {
      while (lane.busy) {
        await abortable(
          lane.busy.catch(() => {}),
          signal,
        )
      }
      const run = work()
      this.#options.occupy(lane, run)
      return await run
    })
  }

  /** Has an operation done; errors are those of its steps. */
  async operate(
    appId: number,
    signal: AbortSignal,
    begin: () => Operation | Promise<Operation>,
  ): Promise<void> {
    const { occupy, kick } = this.#options
    await this.#inTurn(appId, signal, async (lane) => {
      while (lane.busy) await abortable(lane.busy, signal)
      const begun = lane.unlock().then(begin)
      occupy(lane, begun)
      const operation = await begun
      const limit = limited(signal, OPERATION_MS, () => {
        return new SupervisorError('OPERATION_FAILED', 'Cannot finish: it takes too long')
      })
      try {
        lane.operation = operation
        lane.forgive()
        kick()
        await abortable(operation.done, limit.signal)
      } finally {
        limit.end()
        lane.operation = undefined
        kick()
      }
    })
  }

  async #inTurn<T>(
    appId: number,
    signal: AbortSignal,
    work: (lane: Lane) => Promise<T>,
  ): Promise<T> {
    this.#options.assertReady()
    const lane = this.#options.lane(appId)
    const before = lane.turn
    let pass = () => {}
    lane.turn = new Promise<void>((resolve) => {
      pass = () => before.then(() => resolve())
    })
    try {
      const limit = limited(signal, TURN_MS, () => LockError.bySupervisor(appId))
      try {
        await abortable(before, limit.signal)
      } finally {
        limit.end()
      }
      return await work(lane)
    } finally {
      pass()
    }
  }
}
