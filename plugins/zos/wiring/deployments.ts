import type { DriverBoard } from '../drivers/board.ts'
import type { WorkloadType } from '../model.ts'
import { createDeployments } from '../provision/create-deployments.ts'
import type { Deployments } from '../provision/deployments.ts'
import type { DeploymentsOptions } from '../provision/options.ts'

/** {@link Deployments} that begin again when the host becomes able to run more. */
export interface RenewedDeployments extends Deployments {
  /** Brings everything up once more, with the drivers as they are by then. */
  renew(): Promise<void>
}

/**
 * Deployments over the drivers of a board. A driver takes part from the start on or not at all, so
 * when there is a new one, all begin again: what runs goes on, journals are read once more.
 */
export function renewedDeployments(
  options: Omit<DeploymentsOptions, 'drivers' | 'lacks'>,
  board: Pick<DriverBoard, 'drivers' | 'lacks'>,
): RenewedDeployments {
  // Asked by deployments that have no driver for it: one that is there now came after they began.
  const lacks = (type: WorkloadType) =>
    board.drivers.has(type) ? 'its driver is just being taken up' : board.lacks(type)
  const create = () => createDeployments({ ...options, lacks, drivers: new Map(board.drivers) })
  let current = create()
  /** Starts, stops and renewals come one after the other. */
  let line: Promise<unknown> = Promise.resolve()
  let renewal: Promise<void> | undefined
  let over = false
  const inLine = <T>(work: () => Promise<T>): Promise<T> => {
    const done = line.then(work)
    line = done.catch(() => undefined)
    return done
  }
  return {
    start: () => inLine(() => current.start()),
    stop: () => {
      over = true
      return inLine(() => current.stop())
    },
    renew: () => {
      // One that has not begun yet takes what is new now with it.
      renewal ??= inLine(async () => {
        renewal = undefined
        if (over) return
        await current.stop()
        const next = create()
        try {
          await next.start()
        } catch (error) {
          await next.stop()
          throw error
        }
        // Until here the one before told what there is.
        current = next
      })
      return renewal
    },
    deploy: (caller, deployment) => current.deploy(caller, deployment),
    update: (caller, deployment) => current.update(caller, deployment),
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
