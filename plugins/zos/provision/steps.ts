import { capacityOf } from '../deployment/capacity.ts'
import { WORKLOAD_TYPES, type Workload, type WorkloadType } from '../model.ts'
import type { DeploymentState } from './journal/apply.ts'
import type { WorkloadState } from './journal/records.ts'

/** What is to be done for a deployment next. */
export type Step =
  | { readonly do: WorkloadStep; readonly entry: WorkloadState }
  /** Nothing is left of a deployment whose contract ended. */
  | { readonly do: 'erase' }

export type WorkloadStep =
  /** Make it run; also after it failed for a while, or ended by itself. */
  | 'provision'
  /** It should run already: the daemon, or the whole machine, has just started. */
  | 'take-over'
  | 'update'
  | 'remove'
  | 'pause'
  | 'resume'

/** What the journal does not know. */
export interface StepFacts {
  /** Whether its time has come: what failed waits before it is tried again. */
  isDue(name: string): boolean
  /** Whether it was okay when the daemon started, and nobody has looked at it since. */
  isToTakeOver(name: string): boolean
  /** Whether its driver knows how to pause, or it is only a mark. */
  canPause(type: WorkloadType): boolean
}

/** The next step, in the order of §7.1; undefined when there is nothing to do now. */
export function nextStep(state: DeploymentState, facts: StepFacts): Step | undefined {
  const forwards = [...state.workloads.values()].sort(inOrder)
  const backwards = forwards.toReversed()
  const due = ({ workload }: WorkloadState) => facts.isDue(workload.name)
  const step = (what: WorkloadStep, entry: WorkloadState | undefined) =>
    entry && { do: what, entry }

  if (state.want.state === 'ended') {
    if (forwards.length === 0) return { do: 'erase' }
    return step('remove', backwards.find(due))
  }
  const gone = step(
    'remove',
    backwards.find((entry) => entry.removing && due(entry)),
  )
  if (gone) return gone
  const paused = state.want.state === 'paused'
  for (const entry of forwards) {
    if (entry.removing || !due(entry)) continue
    const { workload, result, update, retry } = entry
    if (facts.isToTakeOver(workload.name)) {
      // Taking over makes it run, which it must not until the end of the pause.
      const later = paused && result.state === 'paused' && facts.canPause(workload.type)
      if (!later) return step('take-over', entry)
      if (update) return step('update', entry)
    } else if (result.state === 'paused' && !paused) return step('resume', entry)
    else if (update) return step('update', entry)
    else if (result.state === 'init' || (result.state === 'error' && retry)) {
      return step('provision', entry)
    }
  }
  if (!paused) return undefined
  const running = (entry: WorkloadState) => !entry.removing && entry.result.state === 'ok'
  return step(
    'pause',
    backwards.find((entry) => running(entry) && due(entry)),
  )
}

/** By type, the largest disks first; otherwise as they were submitted. */
function inOrder(one: WorkloadState, other: WorkloadState): number {
  const a = wanted(one)
  const b = wanted(other)
  if (a.type !== b.type) return rankOf(a.type) - rankOf(b.type)
  if (a.type !== 'zmount' && a.type !== 'volume') return 0
  return Number(capacityOf(b).sru - capacityOf(a).sru)
}

function wanted(entry: WorkloadState): Workload {
  return entry.update?.next ?? entry.workload
}

/** Position of a type in the order of §7.1. */
export function rankOf(type: WorkloadType): number {
  return WORKLOAD_TYPES.indexOf(type)
}
