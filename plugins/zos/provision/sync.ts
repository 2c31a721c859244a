import { messageOf } from '../../../src/errors.ts'
import type { Contract } from '../registry/registry.ts'
import { bounded } from '../waiting.ts'
import type { Keeper } from './keeper.ts'
import type { Room } from './room.ts'

/** Contracts asked about at the same time. */
const AT_ONCE = 8

const CANCELED = 'contract canceled event received'
const VANISHED = 'contract not active on chain'

/**
 * Asks about the contract of every deployment, and makes each be as its contract demands (§7.5). What
 * cannot be asked, or is of another kind than it was, changes nothing.
 */
export async function syncAll(room: Room): Promise<void> {
  const keepers = [...room.book.all()]
  const failures: string[] = []
  let next = 0
  const asker = async () => {
    for (let keeper = keepers[next++]; keeper; keeper = keepers[next++]) {
      if (room.signal.aborted) return
      await syncOne(room, keeper).catch((error) => failures.push(messageOf(error)))
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, asker))
  if (failures.length === 0 || room.signal.aborted) return
  room.log.warn(
    `Cannot ask the registry about ${failures.length} of ${keepers.length} contracts, they stay as they are: ${failures[0]}`,
  )
}

async function syncOne(room: Room, keeper: Keeper): Promise<void> {
  const contract = await room.contracts.find(keeper.contractId, room.signal, true)
  if (keeper.erased) return
  const { id } = keeper
  if (!contract || contract.state === 'deleted' || (await isMoved(room, keeper, contract))) {
    const message = contract?.state === 'deleted' ? CANCELED : VANISHED
    if (keeper.state.want.state === 'ended') return keeper.wake()
    room.events.append(`deployment ${id} ends: ${message}`)
    return keeper.demand({ state: 'ended', message })
  }
  const { data, twinId, state } = contract
  if (data.type !== 'node' || twinId !== keeper.twinId) {
    throw new Error(`contract ${keeper.contractId} is not the one of deployment ${id}`)
  }
  keeper.contract = data
  const want = state === 'grace_period' ? 'paused' : 'active'
  if (keeper.state.want.state === want) return
  room.events.append(`deployment ${id} is ${want === 'paused' ? 'paused' : 'resumed'}: ${state}`)
  await keeper.demand({ state: want })
}

/**
 * Whether a contract is another node's by now, so not among the active ones of this node. Where only
 * the id of this node is another, all of them would end at once: that changes nothing.
 */
async function isMoved(room: Room, keeper: Keeper, { data }: Contract): Promise<boolean> {
  if (data.type !== 'node' || data.nodeId === keeper.state.contract.nodeId) return false
  const node = await bounded(room.times.registry, room.signal, (signal) =>
    room.registry.node(signal),
  )
  return data.nodeId !== node.id
}
