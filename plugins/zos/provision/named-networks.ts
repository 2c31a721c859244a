import type { Workload } from '../model.ts'
import { orAborted } from '../waiting.ts'
import type { WorkloadState } from './journal/records.ts'
import type { Keeper } from './keeper.ts'
import type { Room } from './room.ts'

/**
 * Waits until the networks that a workload names, in other deployments of its twin, were begun: who
 * deploys a network and then a machine in it, each under its contract, has them made in that order.
 *
 * Networks themselves never wait, so that nobody waits for each other; still it has an end.
 *
 * @throws The signal's reason.
 */
export async function networksBegun(
  room: Room,
  keeper: Keeper,
  workload: Workload,
  signal: AbortSignal,
): Promise<void> {
  const latest = performance.now() + room.times.step
  const isComing = () =>
    namedNetworks(room, keeper, workload).some(({ result }) => result.state === 'init')
  while (isComing() && performance.now() < latest) {
    await orAborted(room.book.change(), signal)
  }
}

/** Whether one of these networks failed, and is tried again. */
export function networkIsRetried(room: Room, keeper: Keeper, workload: Workload): boolean {
  return namedNetworks(room, keeper, workload).some(({ retry }) => retry)
}

/** Those of other deployments, which are not about to end. */
function namedNetworks(room: Room, { twinId, contractId }: Keeper, workload: Workload) {
  return namesOf(workload).flatMap((name): WorkloadState[] => {
    const owner = room.book.networkOwner(twinId, name)
    if (owner === undefined || owner === contractId) return []
    const { state } = room.book.get(twinId, owner) ?? {}
    const entry = state?.want.state === 'ended' ? undefined : state?.workloads.get(name)
    return entry && !entry.removing ? [entry] : []
  })
}

function namesOf(workload: Workload): readonly string[] {
  switch (workload.type) {
    case 'zmachine':
    case 'zmachine-light': {
      const { interfaces, mycelium } = workload.data.network
      return [...interfaces, ...(mycelium ? [mycelium] : [])].map(({ network }) => network)
    }
    case 'gateway-name-proxy':
    case 'gateway-fqdn-proxy':
      return workload.data.network === undefined ? [] : [workload.data.network]
    default:
      return []
  }
}
