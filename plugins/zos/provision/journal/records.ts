import type { Deployment, Result, Workload } from '../../model.ts'
import type { NodeContract } from '../../registry/registry.ts'
import type { WorkloadView } from '../deployments.ts'

/** A deployment without its workloads. */
export type Header = Omit<Deployment, 'workloads'>

/** What the contract demands of a deployment as a whole; `ended` is final. */
export type Want =
  | { readonly state: 'active' }
  | { readonly state: 'paused' }
  /** The message of the `deleted` entries. */
  | { readonly state: 'ended'; readonly message: string }

/** An update of one workload that is to be made. */
export interface PendingUpdate {
  readonly next: Workload
  /** What ran before. */
  readonly previous: Workload
}

/** One workload as it stands. */
export interface WorkloadState extends WorkloadView {
  /** It failed, and is to be tried again. */
  readonly retry: boolean
  /** It has been okay at some time, so that there may be something to remove. */
  readonly everOkay: boolean
  /** It is to be removed by an update. */
  readonly removing: boolean
  readonly update: PendingUpdate | undefined
}

/** The first record: a deployment was accepted. Each workload begins as `init`. */
export interface DeployRecord {
  readonly record: 'deploy'
  /** Seconds since 1970. */
  readonly at: number
  readonly header: Header
  readonly contract: NodeContract
  readonly workloads: readonly Workload[]
}

/** An update was accepted; what it takes is done afterwards. */
export interface UpdateRecord {
  readonly record: 'update'
  readonly at: number
  readonly header: Header
  readonly contract: NodeContract
  /** Names of all workloads as they were submitted. */
  readonly order: readonly string[]
  /** New ones; each begins as `init`. */
  readonly add: readonly Workload[]
  readonly update: readonly Workload[]
  /** Names. */
  readonly remove: readonly string[]
}

/** One outcome, which is one entry of the history. */
export interface ResultRecord {
  readonly record: 'result'
  readonly name: string
  /** What it is the outcome of; `mark` of anything else (a pause, a crash). */
  readonly of: 'provision' | 'update' | 'remove' | 'mark'
  /** Of an update: what was asked for. */
  readonly workload?: Workload
  readonly result: Result
  /** Whether it is to be tried again. */
  readonly retry: boolean
}

export interface WantRecord {
  readonly record: 'want'
  readonly want: Want
}

/** First record in place of all before it, in a journal that grew too long. */
export interface SnapshotRecord {
  readonly record: 'snapshot'
  readonly header: Header
  readonly contract: NodeContract
  readonly want: Want
  readonly workloads: readonly WorkloadState[]
}

/** After a snapshot: an entry of the history before it. */
export interface PastRecord {
  readonly record: 'past'
  readonly entry: WorkloadView
}

export type JournalRecord =
  | DeployRecord
  | UpdateRecord
  | ResultRecord
  | WantRecord
  | SnapshotRecord
  | PastRecord
