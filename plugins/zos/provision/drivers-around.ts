import { within } from '../../../src/deadline.ts'
import { messageOf } from '../../../src/errors.ts'
import { pause } from '../../../src/pause.ts'
import type { Crash, Driver } from '../drivers/driver.ts'
import { bounded, orAborted } from '../waiting.ts'
import type { Room } from './room.ts'

/**
 * What comes before any work: the registry is asked, so that what ended meanwhile is not brought up
 * again, and drivers remove what is left over of workloads that are no more.
 *
 * @param sync Asks; it is not waited for longer than some questions take.
 * @param complete Whether all deployments are known: without that nothing is removed.
 */
export async function bringUp(
  room: Room,
  sync: () => Promise<void>,
  complete: boolean,
): Promise<void> {
  const { times, signal, log } = room
  const asked = within(times.registry + times.contract, sync(), 'answer').catch((error) => {
    log.warn(`Deployments come up without the registry: ${messageOf(error)}`)
  })
  await orAborted(asked, signal).catch(() => undefined)
  if (!complete || signal.aborted) return
  const wanted = new Set<string>()
  for (const keeper of room.book.all()) {
    for (const name of keeper.state.workloads.keys()) wanted.add(keeper.idOf(name))
  }
  const sweeps = distinct(room).map(async (driver) => {
    if (!driver.sweep) return
    try {
      await bounded(times.sweep, signal, async (limited) => driver.sweep?.(wanted, limited))
    } catch (error) {
      log.warn(`Driver ${driver.name} of ${driver.type} cannot clean up: ${messageOf(error)}`)
    }
  })
  await Promise.all(sweeps)
}

/** Watches that go on until the end. */
export interface Watching {
  /** Resolves when all have ended, or do not. */
  ended(): Promise<void>
}

/** Lets drivers tell of workloads that ended by themselves. */
export function watchDrivers(room: Room): Watching {
  const { signal, times, log } = room
  const crashed = ({ id, reason }: Crash) => {
    // The name is the rest: it has no `-`.
    const [, twin, contract, name] = /^(\d{1,10})-(\d{1,20})-(\w+)$/.exec(id) ?? []
    if (name === undefined) return
    room.book.get(Number(twin), BigInt(contract as string))?.crashed(name, reason)
  }
  const watches = distinct(room).map(async (driver) => {
    while (driver.watch && !signal.aborted) {
      try {
        await driver.watch(crashed, signal)
      } catch (error) {
        if (signal.aborted) return
        log.warn(`Driver ${driver.name} of ${driver.type} cannot watch: ${messageOf(error)}`)
      }
      await pause(times.disk, signal)
    }
  })
  const all = Promise.allSettled(watches).then(() => undefined)
  return { ended: () => within(times.grace, all, 'end').catch(() => undefined) }
}

/** One driver may serve several types. */
function distinct({ drivers }: Room): Driver[] {
  return [...new Set(drivers.values())]
}
