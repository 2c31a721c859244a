import { isOkay, type Result, type Workload } from '../../model.ts'
import type { NodeContract } from '../../registry/registry.ts'
import type { WorkloadView } from '../deployments.ts'
import type {
  Header,
  JournalRecord,
  PendingUpdate,
  ResultRecord,
  UpdateRecord,
  Want,
  WorkloadState,
} from './records.ts'

/** A deployment as its journal says it stands. */
export interface DeploymentState {
  readonly header: Header
  /** As it was when the deployment was last accepted. */
  readonly contract: NodeContract
  readonly want: Want
  /** By name, as submitted; those that are to be removed come last. */
  readonly workloads: ReadonlyMap<string, WorkloadState>
}

/**
 * What a record makes of a deployment. The same function serves while things happen and when a
 * journal is replayed, so that both come to the same.
 *
 * @param past Told of each entry of the history, in order.
 * @returns Undefined where a record needs a beginning that is not there.
 */
export function apply(
  state: DeploymentState | undefined,
  record: JournalRecord,
  past: (entry: WorkloadView) => void = () => undefined,
): DeploymentState | undefined {
  if (record.record === 'deploy') {
    const { header, contract, at } = record
    const workloads = new Map(
      record.workloads.map((workload) => [workload.name, begun(workload, at, past)]),
    )
    return { header, contract, want: { state: 'active' }, workloads }
  }
  if (record.record === 'snapshot') {
    const { header, contract, want } = record
    const workloads = new Map(record.workloads.map((entry) => [entry.workload.name, entry]))
    return { header, contract, want, workloads }
  }
  if (record.record === 'past') {
    past(record.entry)
    return state
  }
  if (state === undefined) return undefined
  if (record.record === 'want') return { ...state, want: record.want }
  if (record.record === 'update') return updated(state, record, past)
  return settled(state, record, past)
}

function begun(
  workload: Workload,
  created: number,
  past: (entry: WorkloadView) => void,
): WorkloadState {
  const result: Result = { created, state: 'init', message: '', data: 'null' }
  past({ workload, result })
  return { workload, result, retry: false, everOkay: false, removing: false, update: undefined }
}

function updated(
  state: DeploymentState,
  record: UpdateRecord,
  past: (entry: WorkloadView) => void,
): DeploymentState {
  const known = new Map(state.workloads)
  for (const workload of record.add) {
    known.set(workload.name, begun(workload, record.at, past))
  }
  for (const next of record.update) {
    const entry = known.get(next.name)
    if (!entry) continue
    // What runs is what ran before the first update that has no outcome yet.
    const previous = entry.update?.previous ?? entry.workload
    known.set(next.name, { ...entry, update: { next, previous } })
  }
  for (const name of record.remove) {
    const entry = known.get(name)
    if (entry) known.set(name, { ...entry, removing: true, update: undefined })
  }
  const workloads = new Map<string, WorkloadState>()
  for (const name of [...record.order, ...known.keys()]) {
    const entry = known.get(name)
    if (entry) workloads.set(name, entry)
  }
  return { ...state, header: record.header, contract: record.contract, workloads }
}

function settled(
  state: DeploymentState,
  { name, of, workload, result, retry }: ResultRecord,
  past: (entry: WorkloadView) => void,
): DeploymentState {
  const entry = state.workloads.get(name)
  if (!entry) return state
  past({ workload: workload ?? entry.workload, result })
  const workloads = new Map(state.workloads)
  if (of === 'remove' && result.state === 'deleted') {
    workloads.delete(name)
    return { ...state, workloads }
  }
  // One that was accepted during the work is still to be made.
  const newer = entry.update?.next.version === workload?.version ? undefined : entry.update
  if (of === 'update' && result.state === 'unchanged') {
    return { ...state, workloads: workloads.set(name, { ...entry, update: newer }) }
  }
  workloads.set(name, {
    ...entry,
    workload: workload ?? entry.workload,
    result,
    retry,
    everOkay: entry.everOkay || isOkay(result),
    update: of === 'update' && !retry ? newer && since(newer, workload, result) : entry.update,
  })
  return { ...state, workloads }
}

/** An update over what came of the one before it. */
function since(update: PendingUpdate, done: Workload | undefined, result: Result): PendingUpdate {
  return isOkay(result) && done ? { ...update, previous: done } : update
}
