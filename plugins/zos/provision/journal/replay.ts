import type { WorkloadView } from '../deployments.ts'
import { apply, type DeploymentState } from './apply.ts'
import { readRecord } from './wire.ts'

/** What a journal says. */
export interface Replay {
  /** Undefined when its beginning cannot be read. */
  readonly state: DeploymentState | undefined
  /** Bytes up to the end of the last good line. */
  readonly size: number
  /** Bytes after it: without damage the rest of a write that was cut. */
  readonly torn: number
  /** Records that were read. */
  readonly records: number
  /** What is wrong with whole lines, such as `line 3: its checksum is wrong`. */
  readonly damage: readonly string[]
}

/** So many of the damaged lines are named. */
const MAX_NAMED = 10

/**
 * Reads a whole journal. A line that cannot be read is passed over; one without an end is what a crash
 * leaves behind, and was never acknowledged.
 *
 * @param past Told of each entry of the history, oldest first.
 */
export function replay(bytes: Uint8Array, past?: (entry: WorkloadView) => void): Replay {
  let state: DeploymentState | undefined
  let size = 0
  let records = 0
  let line = 0
  const damage: string[] = []
  for (let from = 0; from < bytes.length; ) {
    const end = bytes.indexOf(10, from)
    if (end === -1) break
    line++
    try {
      const record = readRecord(text.decode(bytes.subarray(from, end)))
      const next = apply(state, record, past)
      if (next === undefined) throw new SyntaxError('what came before it is missing')
      state = next
      records++
      size = end + 1
    } catch (error) {
      if (damage.length < MAX_NAMED) damage.push(`line ${line}: ${(error as Error).message}`)
    }
    from = end + 1
  }
  return { state, size, torn: bytes.length - size, records, damage }
}

const text = new TextDecoder('utf-8', { fatal: true })
