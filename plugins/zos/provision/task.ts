import type { Task } from '../drivers/driver.ts'
import type { Workload } from '../model.ts'
import { workloadId } from '../model.ts'
import { bounded } from '../waiting.ts'
import type { Keeper } from './keeper.ts'
import type { Room } from './room.ts'

/** What a driver may know about a workload and around it. */
export function createTask(
  room: Room,
  keeper: Keeper,
  workload: Workload,
  signal: AbortSignal,
  progress: (text: string) => void = () => undefined,
): Task {
  const { registry, times, book } = room
  const { twinId, contractId } = keeper
  return {
    id: workloadId(twinId, contractId, workload.name),
    workload,
    deployment: keeper.deployment(),
    contract: keeper.contract,
    resultOf: (name) => keeper.state.workloads.get(name)?.result,
    network: (name) => book.network(twinId, name),
    running: () => book.running(),
    ownsName: (name) =>
      bounded(times.registry, signal, async (limited) => {
        const id = await registry.nameContract(name, limited)
        const contract = id === undefined ? undefined : await registry.contract(id, limited)
        return contract?.twinId === twinId && contract.state !== 'deleted'
      }),
    rentContract: () =>
      bounded(times.registry, signal, (limited) => registry.rentContract(limited)),
    progress,
    signal,
  }
}
