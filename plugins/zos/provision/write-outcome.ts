import { messageOf } from '../../../src/errors.ts'
import { sleep } from '../waiting.ts'
import type { ResultRecord } from './journal/records.ts'
import type { Keeper } from './keeper.ts'
import type { Room } from './room.ts'

/**
 * Writes what came of a step. A disk that does not take it is asked again until it does: the step is
 * done, and forgetting that would do it twice. Where a deployment has ended, its journal is about to
 * be erased: there one attempt is enough, as that is what makes room.
 *
 * @throws {Error} When all ends before it could be written; after the restart the step is done again.
 */
export async function writeOutcome(
  room: Room,
  keeper: Keeper,
  record: ResultRecord,
): Promise<void> {
  for (let failures = 0; ; failures++) {
    try {
      await keeper.record(record)
      if (failures > 0) room.log.info(`The journal of ${keeper.id} can be written again`)
      return
    } catch (error) {
      const text = `Cannot write the journal of ${keeper.id}: ${messageOf(error)}`
      if (failures === 0) {
        room.log.error(text)
        room.events.append(text, { level: 'error' })
      }
      if (keeper.state.want.state === 'ended') return keeper.applyOnly(record)
      await sleep(room.times.disk, room.signal)
    }
  }
}
