import type { EventSink } from '../../../src/events/sink.ts'
import type { CheckOptions } from '../deployment/check.ts'
import type { Driver } from '../drivers/driver.ts'
import type { Deployment, WorkloadType } from '../model.ts'
import type { NodeFacts } from '../node/facts.ts'
import type { Registry } from '../registry/registry.ts'

/** What deployments need around them. */
export interface DeploymentsOptions {
  readonly registry: Registry
  /** Those that this host is able to run; a workload of another type becomes an `error`. */
  readonly drivers: ReadonlyMap<WorkloadType, Driver>
  /**
   * What this host lacks for a type that it may run later, such as an engine that is away; undefined
   * for one that is never offered.
   */
  lacks?(type: WorkloadType): string | undefined
  /** Absolute path of a folder for the journals alone; it is made, mode 0700. */
  readonly stateFolder: string
  /** Checks who signed; throws a `ZosError` of kind `authentication`. */
  verify(deployment: Deployment): Promise<void>
  /** Throws a `ZosError` when the twin's owner is not verified. */
  kyc?(twinId: number, signal: AbortSignal): Promise<void>
  /** Which rules of structure an update is checked by; as for `readDeployment`. */
  readonly check?: CheckOptions
  /** For the memory guard (§7.3); without it there is none. */
  readonly facts?: Pick<NodeFacts, 'capacity' | 'availableMemory'>
  readonly events: EventSink
  readonly log: Log
  readonly limits?: Partial<Limits>
  readonly times?: Partial<Times>
  /** Milliseconds since 1970; default `Date.now`. */
  readonly now?: () => number
}

/** The part of a logger that is used. */
export interface Log {
  debug(message: string, fields?: object): void
  info(message: string, fields?: object): void
  warn(message: string, fields?: object): void
  error(message: string, fields?: object): void
}

/** How much there may be of something. */
export interface Limits {
  /** Default 10,000. */
  readonly deployments: number
  /** Default 1,000. */
  readonly deploymentsPerTwin: number
  /** Default 256. */
  readonly workloads: number
  /** Bytes of one record: of a deployment as it is accepted. Default 4 MiB. */
  readonly recordBytes: number
  /** Above this a journal is written anew, with the newest part of its history. Default 1 MiB. */
  readonly journalBytes: number
  /** Entries of the history that such a journal keeps. Default 500. */
  readonly history: number
  /** Workloads of one type that are worked on at a time; default 4. */
  readonly atOnce: Partial<Record<WorkloadType, number>>
  /** Updates of one deployment that wait for each other. Default 8. */
  readonly waitingUpdates: number
}

export const DEFAULT_LIMITS: Limits = {
  deployments: 10_000,
  deploymentsPerTwin: 1000,
  workloads: 256,
  recordBytes: 4 * 1024 * 1024,
  journalBytes: 1024 * 1024,
  history: 500,
  atOnce: {},
  waitingUpdates: 8,
}

/** Milliseconds. */
export interface Times {
  /** Before each further attempt of what failed for a while; the last one repeats. */
  readonly retry: readonly number[]
  /** Before a workload that ended by itself is started again, by how often it did of late. */
  readonly restart: readonly number[]
  /** Four crashes within this time, and it is not started again. Default two minutes. */
  readonly crashWindow: number
  /** One step of a driver. Default 30 minutes. */
  readonly step: number
  /** What a step has to end after its signal, and `stop` for all of them. Default 10 s. */
  readonly grace: number
  /** A health check, or reading a log. Default 15 s. */
  readonly look: number
  /** How long a contract that is not there is looked for again. Default 5 s. */
  readonly contract: number
  /** Between two looks for it. Default 1 s. */
  readonly contractAgain: number
  /** One question to the registry. Default 10 s. */
  readonly registry: number
  /** Between two rounds over all contracts. Default an hour. */
  readonly sync: number
  /** Before what happened is written again after the disk did not take it. Default 1 s. */
  readonly disk: number
  /** For all sweeps of drivers at the start. Default a minute. */
  readonly sweep: number
}

export const DEFAULT_TIMES: Times = {
  retry: [5_000, 15_000, 60_000, 300_000, 600_000],
  restart: [0, 1_000, 5_000],
  crashWindow: 120_000,
  step: 1_800_000,
  grace: 10_000,
  look: 15_000,
  contract: 5_000,
  contractAgain: 1_000,
  registry: 10_000,
  sync: 3_600_000,
  disk: 1_000,
  sweep: 60_000,
}
