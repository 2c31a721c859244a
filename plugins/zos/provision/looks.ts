import { messageOf } from '../../../src/errors.ts'
import { bounded } from '../waiting.ts'
import { ZosError } from '../zos-error.ts'
import type { WorkloadHealth } from './deployments.ts'
import type { Keeper } from './keeper.ts'
import type { Room } from './room.ts'
import { createTask } from './task.ts'

/** Lines of a log that are shown. */
const LINES = 100

/** Characters of a log that are shown. */
const MAX_LOG = 64 * 1024

/** How the workloads of a deployment are, by what their drivers find. */
export async function healthOf(room: Room, keeper: Keeper): Promise<readonly WorkloadHealth[]> {
  const looks = [...keeper.state.workloads.values()].map(async ({ workload }) => {
    const { name, type } = workload
    const checks = await bounded(room.times.look, room.signal, async (signal) => {
      const task = createTask(room, keeper, workload, signal)
      return (await room.drivers.get(type)?.health?.(task)) ?? []
    }).catch((error) => [{ name: 'health', ok: false, message: messageOf(error) }])
    return { id: keeper.idOf(name), type, name, checks }
  })
  return Promise.all(looks)
}

/** The end of a workload's log; '' where there is none. */
export async function logsOf(room: Room, keeper: Keeper, name: string): Promise<string> {
  const entry = keeper.state.workloads.get(name)
  if (!entry) throw new ZosError('not-found', `workload '${name}' not found`)
  const { workload } = entry
  const driver = room.drivers.get(workload.type)
  try {
    return await bounded(room.times.look, room.signal, async (signal) => {
      const task = createTask(room, keeper, workload, signal)
      return ((await driver?.logs?.(task, LINES)) ?? '').slice(-MAX_LOG)
    })
  } catch (cause) {
    throw new ZosError('failed', `cannot read the log of '${name}': ${messageOf(cause)}`, { cause })
  }
}
