import type { HealthCheck, RunningWorkload } from '../drivers/driver.ts'
import type { Capacity, Deployment, Result, Workload, WorkloadType } from '../model.ts'

/**
 * The deployments of this node (spec §3, §7): what commands ask, and what keeps them running.
 * Errors are `ZosError`s in the texts of the spec.
 */
export interface Deployments {
  /** Replays the journals, then brings up what should run; resolves after the replay. */
  start(): Promise<void>
  /** Ends what goes on at the next safe point; workloads go on. */
  stop(): Promise<void>
  /** Accepts a new one: §3.1. */
  deploy(caller: number, deployment: Deployment): Promise<void>
  /** §3.2 */
  update(caller: number, deployment: Deployment): Promise<void>
  /** §3.3 @throws {ZosError} `deployment not found` */
  get(twinId: number, contractId: bigint): DeploymentView
  /** §3.4: oldest first. */
  changes(twinId: number, contractId: bigint): Promise<readonly WorkloadView[]>
  /** §3.5: of one twin, or of all with undefined, including those that are over. */
  list(twinId?: number): readonly DeploymentView[]
  /** Everything okay on this node, of all twins. */
  running(): Iterable<RunningWorkload>
  /** Sum of what okay workloads count for. */
  used(): Capacity
  /** Figures for `zos.statistics.get`. */
  users(): {
    readonly deployments: number
    readonly workloads: number
    /** Seconds since 1970; 0 when there is none. */
    readonly lastDeploymentTimestamp: number
  }
  /** For `zos.debug.*`. */
  health(twinId: number, contractId: bigint): Promise<readonly WorkloadHealth[]>
  logs(twinId: number, contractId: bigint, name: string): Promise<string>
  /** Asks the registry about every deployment again; also done on each change of the registry. */
  sync(): Promise<void>
  /** Resolves when nothing is queued or running, for tests. */
  idle(): Promise<void>
}

/** A workload and its last result. */
export interface WorkloadView {
  readonly workload: Workload
  readonly result: Result
}

export interface DeploymentView {
  /** As submitted; without workloads that were removed. */
  readonly deployment: Deployment
  /** In the order of {@link Deployment.workloads}. */
  readonly results: readonly Result[]
}

export interface WorkloadHealth {
  readonly id: string
  readonly type: WorkloadType
  readonly name: string
  readonly checks: readonly HealthCheck[]
}
