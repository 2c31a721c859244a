import type { DataOf, Deployment, Result, Workload, WorkloadOf, WorkloadType } from '../model.ts'
import type { NodeContract } from '../registry/registry.ts'

/**
 * What makes workloads of one type run on this host (spec §12.2). Opens nothing before `probe`.
 *
 * Every method may be called again after a crash in its middle, and must then end in the same state
 * as if it had not been interrupted. A method that fails throws a {@link DriverError}; anything else
 * that is thrown counts as one that is not transient.
 */
export interface Driver<T extends WorkloadType = WorkloadType> {
  readonly type: T
  /** Which one of several for this type: `container`, `file`. */
  readonly name: string
  /** Whether this host can run it. Never throws; at most some seconds. */
  probe(signal: AbortSignal): Promise<DriverProbe>
  /**
   * Makes the workload run, or takes it over as it is when it runs already (after a restart of the
   * daemon, or of the machine).
   *
   * @returns What becomes `result.data`: anything `JSON.stringify` takes; undefined is `null`.
   */
  provision(task: Task<T>): Promise<unknown>
  /** Absent where the type has no update. {@link Task.previous} is what ran before. */
  update?(task: Task<T> & { readonly previous: DataOf[T] }): Promise<unknown>
  /** Takes everything of it away. What is not there is no error. */
  deprovision(task: Task<T>): Promise<void>
  /** Absent where a pause is only a mark. Idempotent, as is {@link Driver.resume}. */
  pause?(task: Task<T>): Promise<void>
  resume?(task: Task<T>): Promise<void>
  /** For `zos.debug.deployment.health`: checks with evidence, without side effects. */
  health?(task: Task<T>): Promise<readonly HealthCheck[]>
  /** Last lines of its log, for `zos.debug.deployment.info`. */
  logs?(task: Task<T>, lines: number): Promise<string>
  /**
   * Tells of workloads that ended by themselves, until the signal aborts; resolves then. The ids are
   * those of {@link Task.id}.
   */
  watch?(crashed: (crash: Crash) => void, signal: AbortSignal): Promise<void>
  /**
   * Removes what it once made of workloads that are no more. Called once after the start, when all
   * deployments are known.
   *
   * @param wanted Ids of all workloads that are to be here.
   */
  sweep?(wanted: ReadonlySet<string>, signal: AbortSignal): Promise<void>
  /** Closes what it holds open; workloads go on. */
  stop?(): Promise<void>
}

export type DriverProbe =
  | { readonly able: true; readonly warning?: string }
  /** What is missing and what to do, in a line. */
  | { readonly able: false; readonly reason: string }

/** One workload, and what a driver may know beside it. */
export interface Task<T extends WorkloadType = WorkloadType> {
  /** `<twin>-<contract>-<name>`. */
  readonly id: string
  readonly workload: WorkloadOf<T>
  readonly deployment: Deployment
  /** Undefined where it is not known any more, as in a deprovision. */
  readonly contract: NodeContract | undefined
  /** Last result of any workload of the same deployment. */
  resultOf(name: string): Result | undefined
  /** A workload of the same twin in any deployment, running: networks are shared by name. */
  network(name: string): SharedNetwork | undefined
  /** What all deployments of this node have running, such as public addresses in use. */
  running(): Iterable<RunningWorkload>
  /** Whether the deployment's twin has the name contract of a gateway name. */
  ownsName(name: string): Promise<boolean>
  /** Contract by which the whole node is rented; undefined when it is not. */
  rentContract(): Promise<bigint | undefined>
  /** Shown in the history while it lasts: `downloading 40 %`. */
  progress(text: string): void
  readonly signal: AbortSignal
}

export interface SharedNetwork {
  /** Of the network workload. */
  readonly id: string
  readonly workload: WorkloadOf<'network'> | WorkloadOf<'network-light'>
}

export interface RunningWorkload {
  readonly id: string
  readonly twinId: number
  readonly contractId: bigint
  readonly workload: Workload
  readonly result: Result
}

export interface HealthCheck {
  readonly name: string
  readonly ok: boolean
  readonly message: string
  readonly evidence?: string
}

export interface Crash {
  readonly id: string
  /** For people, with the last lines of its log; no secrets of the environment. */
  readonly reason: string
}

export interface DriverErrorOptions extends ErrorOptions {
  /** Becomes `result.data`: what was known when it failed. */
  readonly data?: unknown
}

/**
 * Why a workload is not as it should be.
 *
 * - `failed`: state `error`.
 * - `transient`: state `error` too, and it is tried again (engine away, image download).
 * - `unchanged`: an update that was refused, the workload runs as before.
 * - `no-action`: there was nothing to do.
 */
export class DriverError extends Error {
  override readonly name = 'DriverError'
  readonly kind: 'failed' | 'transient' | 'unchanged' | 'no-action'
  readonly data: unknown

  constructor(kind: DriverError['kind'], message: string, options: DriverErrorOptions = {}) {
    super(message, options)
    this.kind = kind
    this.data = options.data
  }
}
