import type { WorkloadView } from '../deployments.ts'
import type { JournalRecord } from './records.ts'
import { replay } from './replay.ts'
import { writeRecord } from './wire.ts'

/**
 * The records of a journal that says the same of a deployment as a longer one, with the newest part of
 * its history.
 *
 * @param entries Of the history, at most.
 * @param maxBytes For them, at most.
 * @throws {Error} When there is nothing to say.
 */
export function shorten(bytes: Uint8Array, entries: number, maxBytes: number): JournalRecord[] {
  const history: WorkloadView[] = []
  const { state } = replay(bytes, (entry) => history.push(entry))
  if (!state) throw new Error('Cannot shorten a journal without a beginning')
  const { header, contract, want } = state
  const workloads = [...state.workloads.values()]
  const past: JournalRecord[] = []
  let left = maxBytes
  for (const entry of history.slice(-entries).reverse()) {
    const record: JournalRecord = { record: 'past', entry }
    left -= writeRecord(record).length
    if (left < 0) break
    past.unshift(record)
  }
  return [{ record: 'snapshot', header, contract, want, workloads }, ...past]
}
