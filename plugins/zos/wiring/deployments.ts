import { messageOf } from '../../../src/errors.ts'
import { pause } from '../../../src/pause.ts'
import type { DriverBoard } from '../drivers/board.ts'
import type { WorkloadType } from '../model.ts'
import { createDeployments } from '../provision/create-deployments.ts'
import type { Deployments } from '../provision/deployments.ts'
import type { DeploymentsOptions } from '../provision/options.ts'
import { limited, unlessAborted } from '../waiting.ts'

/** {@link Deployments} that begin again when the host becomes able to run more. */
export interface RenewedDeployments extends Deployments {
  /** Brings everything up once more, with the drivers as they are by then. */
  renew(): Promise<void>
}

/** Milliseconds. */
export interface RenewalTimes {
  /** Between two attempts. Default 10 s. */
  readonly againMs?: number
  /** How long a deployment or update waits for a renewal, and one for those under way. Default 15 s. */
  readonly waitMs?: number
}

/**
 * Deployments over the drivers of a board. A driver takes part from the start on or not at all, so
 * when there is a new one, all begin again: what runs goes on, journals are read once more. That is
 * tried until it works, as without it nothing is taken or looked after. What is under way ends before
 * that, and what comes meanwhile waits.
 */
export function renewedDeployments(
  options: Omit<DeploymentsOptions, 'drivers' | 'lacks'>,
  board: Pick<DriverBoard, 'drivers' | 'lacks'>,
  { againMs = 10_000, waitMs = 15_000 }: RenewalTimes = {},
): RenewedDeployments {
  // Asked by deployments that have no driver for it: one that is there now came after they began.
  const lacks = (type: WorkloadType) =>
    board.drivers.has(type) ? 'its driver is just being taken up' : board.lacks(type)
  const create = () => createDeployments({ ...options, lacks, drivers: new Map(board.drivers) })
  let current = create()
  /** Starts, stops and renewals come one after the other. */
  let line: Promise<unknown> = Promise.resolve()
  let renewal: Promise<void> | undefined
  const ending = new AbortController()
  const { signal } = ending
  const inLine = <T>(work: () => Promise<T>): Promise<T> => {
    const done = line.then(work)
    line = done.catch(() => undefined)
    return done
  }
  /** Deployments and updates under way. */
  const taking = new Set<Promise<void>>()
  let beginning: Promise<void> | undefined
  /** Waits for work to end in whatever way, but not for long. */
  const patiently = async (work: Iterable<Promise<void>>) => {
    const limit = limited(waitMs, signal)
    await unlessAborted(Promise.allSettled(work), limit.signal)
    limit.end()
  }
  const take = async (work: (now: Deployments) => Promise<void>): Promise<void> => {
    if (beginning) await patiently([beginning])
    const done = work(current).finally(() => taking.delete(done))
    taking.add(done)
    return done
  }
  const beginAgain = async () => {
    await patiently(taking)
    await current.stop()
    while (!signal.aborted) {
      const next = create()
      try {
        await next.start()
        // Until here the one before told what there is.
        current = next
        return
      } catch (error) {
        await next.stop()
        options.log.error(`Cannot begin again with the deployments: ${messageOf(error)}`)
      }
      await pause(againMs, signal)
    }
  }
  return {
    start: () => inLine(() => current.start()),
    stop: () => {
      ending.abort()
      return inLine(() => current.stop())
    },
    renew: () => {
      // One that has not begun yet takes what is new now with it.
      renewal ??= inLine(async () => {
        renewal = undefined
        if (signal.aborted) return
        beginning = beginAgain()
        await beginning.finally(() => {
          beginning = undefined
        })
      })
      return renewal
    },
    deploy: (caller, deployment) => take((now) => now.deploy(caller, deployment)),
    update: (caller, deployment) => take((now) => now.update(caller, deployment)),
    get: (twinId, contractId) => current.get(twinId, contractId),
    changes: (twinId, contractId) => current.changes(twinId, contractId),
    list: (twinId) => current.list(twinId),
    running: () => current.running(),
    used: () => current.used(),
    users: () => current.users(),
    health: (twinId, contractId) => current.health(twinId, contractId),
    logs: (twinId, contractId, name) => current.logs(twinId, contractId, name),
    sync: () => current.sync(),
    idle: () => current.idle(),
  }
}
