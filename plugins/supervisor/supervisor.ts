import type { Engine } from '../../src/engine/engine.ts'
import type { RegistryCredentials } from '../../src/engine/images.ts'
import type { EventSink } from '../../src/events/sink.ts'
import type { ComposeContext } from './compose/context.ts'
import type { SupervisorSubnet } from './compose/supervisor-network.ts'
import type { HeldLocks, Locks } from './locks/locks.ts'
import type { TrialOptions } from './plan/options.ts'
import type { ContractFacts } from './target/contracts.ts'
import type { Target, TargetApp, TargetWarning } from './target/model.ts'
import type { Settings } from './target/settings.ts'

export { SupervisorError, type SupervisorErrorCode } from './apply/supervisor-error.ts'

/**
 * The job behind the API (spec §23): brings the engine to what the target says, and tells how far
 * it is. Made by `createSupervisor` of `apply/create-supervisor.ts`. All readers answer from memory
 * and make no call; what they give is not changed later.
 */
export interface Supervisor {
  /**
   * Reads what was stored, follows the engine and begins to apply. It resolves when the stored
   * target is in force; an engine that is away is waited for afterwards.
   *
   * @throws {LockFolderError} When the folder of the locks cannot be used.
   * @throws {SupervisorError} `STATE_NOT_STORED` when the state folder cannot be used.
   */
  start(): Promise<void>
  /** Ends everything but containers. Safe without {@link start} and twice. */
  stop(): Promise<void>

  /** Grows whenever something that a reader tells has changed: answers can be kept until then. */
  readonly revision: number
  /** Every app of the target, in its order, then those that only have containers left. */
  apps(): readonly AppView[]
  app(appId: number): AppView | undefined
  /** Images of the target and those on the way, each once for every service that names it. */
  images(): readonly ImageView[]
  status(): StatusView
  /** What is in force, and where it came from. */
  target(): TargetView
  /** The configuration variables in force (spec §18). */
  settings(): Settings
  /** Whether targets are posted to the device instead of being fetched (spec §6). */
  readonly localMode: boolean
  health(): HealthView
  /** Why requests to the engine cannot be served just now. */
  notReady(): string | undefined

  /**
   * Takes a target that was posted (source `local`, v2 form, spec §9.2). It is stored when this
   * resolves; it is applied afterwards.
   *
   * @throws {TargetError} What is wrong; the target in force stays.
   * @throws {SupervisorError} `NOT_LOCAL`, `TARGET_NOT_MEASURED`, `STATE_NOT_STORED`.
   */
  setTarget(body: unknown, options?: { readonly force?: boolean }): Promise<AcceptedTarget>
  /**
   * Fetches the target anew and applies it (spec §4.5). Waits for neither, and never rejects.
   *
   * @returns Whether it was triggered: not when instant updates are off and it is not forced.
   */
  update(options?: UpdateOptions): Promise<{ readonly triggered: boolean }>
  /**
   * Removes and creates all containers of the app, in the order of dependencies; ends all stops by
   * the user. Resolves when they run.
   *
   * @throws {SupervisorError} `APP_NOT_INSTALLED`, `ENGINE_AWAY`, `OPERATION_FAILED`, `SUSPENDED`.
   * @throws {LockError} 423.
   */
  restartApp(appId: number, options?: OperationOptions): Promise<void>
  /** As {@link restartApp}, with empty volumes. */
  purgeApp(appId: number, options?: OperationOptions): Promise<void>
  /**
   * Starts the container of a service; takes no lock. It stays no longer stopped by the user.
   *
   * @returns The container.
   * @throws {SupervisorError} `APP_NOT_FOUND`, `SERVICE_NOT_FOUND`, `SERVICE_NOT_IN_TARGET`, and as
   *   {@link restartApp}.
   */
  startService(service: ServiceId, options?: OperationOptions): Promise<string>
  /**
   * Stops it and waits for that. It stays stopped, over restarts of daemon and machine, until it is
   * started or another configuration is wanted. Errors as {@link startService}, and 423.
   */
  stopService(service: ServiceId, options?: OperationOptions): Promise<string>
  /** Removes and creates the container of one service. Errors as {@link stopService}. */
  restartService(service: ServiceId, options?: OperationOptions): Promise<void>
  /**
   * Removes our volumes that no container mounts and the target does not name (spec §5.12, §24.6).
   *
   * @returns Their names, also in a dry run, which removes nothing.
   */
  cleanupVolumes(options?: CleanupOptions): Promise<readonly string[]>
  /**
   * Does work under the locks of these apps, or of all that there are (power, host configuration).
   *
   * @throws {LockError} 423.
   */
  withLocks<T>(
    appIds: readonly number[] | 'all',
    options: OperationOptions,
    work: (held: HeldLocks) => T | Promise<T>,
  ): Promise<T>
  /** Begins no more steps (the machine goes down), until what is returned is called. */
  suspend(): () => void
  /** The context of containers changed, by a new API key or device name: plans anew. */
  contextChanged(): void
  /** The API key of a service, as its container has it or will have it. */
  keyOf(appId: number, serviceName: string): string
  /**
   * What services write and the supervisor does (spec §6), from now on, until the signal aborts.
   *
   * @throws {SupervisorError} `TOO_MANY_FOLLOWERS`.
   */
  followLogs(signal: AbortSignal): AsyncGenerator<LogRecord>
  /** Calls back when {@link revision} grew, at most once in a turn. Returns how to end that. */
  onChange(changed: () => void): () => void
}

/** What the supervisor is made of. */
export interface SupervisorOptions {
  readonly engine: Engine
  /** Made by its owner, started by {@link Supervisor.start}. */
  readonly locks: Locks
  /** Read each time a plan of containers is made; see {@link Supervisor.contextChanged}. */
  readonly context: () => ComposeContext
  /** Folder for the files of `store/`; absolute, there, ours alone. */
  readonly stateFolder: string
  readonly events: EventSink
  /** What the device fulfils (spec §9.4). */
  readonly facts?: ContractFacts
  /** Images have to be named by digest. */
  readonly requireDigest?: boolean
  /** A target of which something would be left out is refused. */
  readonly strict?: boolean
  /**
   * Extends a register with the target before it is applied, once per boot.
   *
   * @param digest SHA-256 of the canonical JSON of the target, 64 hex digits.
   */
  readonly measureTarget?: (digest: string) => Promise<void>
  /** Of this boot, as in `/proc/sys/kernel/random/boot_id`. */
  readonly bootId: string
  /** Milliseconds since 1970. */
  readonly bootTime: number
  /** Who pulls from a registry (`docker.io`, `registry.example:5000`); undefined: anybody. */
  readonly credentialsOf?: (registry: string) => Promise<RegistryCredentials | undefined>
  readonly subnet?: SupervisorSubnet
  /** The old container is kept until the new one proved itself. */
  readonly trial?: TrialOptions
  /** A volume whose driver or options changed is made anew, without its data. */
  readonly replaceVolumes?: boolean
  /**
   * Targets are posted to the device. Default: when neither {@link targetFile} nor
   * {@link targetUrl} is there, or the fetched target says so (`SUPERVISOR_LOCAL_MODE`).
   */
  readonly localMode?: boolean
  readonly deviceUuid: string
  /** Path of a target in v3 or v2 form; read again when it changes. */
  readonly targetFile?: string
  readonly targetUrl?: TargetUrl
  readonly report?: ReportTo
}

/** A URL that answers with a target in v3 form (spec §19). */
export interface TargetUrl {
  readonly url: string
  /** For `Authorization: Bearer`; read for every request. */
  readonly token?: () => Promise<string>
  /** Default: that of the target's configuration (spec §18). */
  readonly intervalMs?: number
}

/** Where the state is reported (spec §19). */
export interface ReportTo {
  readonly url: string
  readonly token?: () => Promise<string>
  /** Members of the device beside `apps`. */
  readonly device?: () => Readonly<Record<string, unknown>>
  /** Least time between two reports. Default: 10 s. */
  readonly intervalMs?: number
}

export interface OperationOptions {
  /** Removes update locks that apps made. */
  readonly force?: boolean
  /** Ends the waiting, and what can be ended of the work; its reason is thrown. */
  readonly signal?: AbortSignal
}

export interface UpdateOptions {
  /** Until it is applied, update locks of apps are removed. */
  readonly force?: boolean
  /** Aborts pulls and waiting times of what goes on. */
  readonly cancel?: boolean
}

/** A service by its name in the app. */
export interface ServiceId {
  readonly appId: number
  readonly serviceName: string
}

export interface CleanupOptions {
  readonly dryRun?: boolean
  /** Apps that the caller may touch. Default: all. */
  readonly apps?: (appId: number) => boolean
}

export interface AcceptedTarget {
  readonly target: Target
  /** What was left out, or has another effect than it says. */
  readonly warnings: readonly TargetWarning[]
}

/** Where a target came from. */
export type Source = 'local' | 'file' | 'url'

export interface TargetView {
  /** Undefined until there was one. */
  readonly target: Target | undefined
  readonly source: Source | undefined
  sourceOf(app: TargetApp): Source
}

/** Spec §5.1. `aborted`: the last attempt failed, or was cancelled. */
export type UpdateStatus =
  | 'done'
  | 'downloading'
  | 'downloaded'
  | 'applying changes'
  | 'aborted'
  | 'rejected'

export interface AppView {
  readonly appId: number
  readonly uuid: string
  /** Empty for an app that the target does not name. */
  readonly name: string
  /** Whether the target names it. */
  readonly wanted: boolean
  /** Of the target; of an app that it does not name, of its containers. */
  readonly commit: string | undefined
  readonly releaseId: number | undefined
  /** The last one that was reached. */
  readonly appliedCommit: string | undefined
  readonly updateStatus: UpdateStatus
  /** Why the last attempt failed, until one succeeds; no secrets. */
  readonly problem: string | undefined
  /** What keeps it from being done, for people. */
  readonly waits: readonly string[]
  /** Of the target, in its order, then others that have containers. */
  readonly services: readonly ServiceView[]
}

/**
 * Spec §14 and §5.1: `Running`, `Installed`, `Dead`, `Installing`, `Starting`, `Stopping`,
 * `Downloading`, `Downloaded`, `Handing over`, `Awaiting handover`, otherwise the engine's word
 * (`exited`, `restarting`, `paused`, `removing`).
 */
export type ServiceStatus = string

export interface ServiceView {
  readonly serviceName: string
  readonly serviceId: number
  /** Numbers of the release; of a container that the target does not name, from its name. */
  readonly imageId: number
  readonly releaseId: number
  /** Reference. */
  readonly image: string
  readonly wanted: boolean
  readonly status: ServiceStatus
  /** Percent; null when nothing is downloaded. */
  readonly downloadProgress: number | null
  /** Stopped by the API. */
  readonly stoppedByUser: boolean
  readonly container: ContainerView | undefined
}

export interface ContainerView {
  /** 64 hex digits. */
  readonly id: string
  readonly name: string
  /** The engine's word. */
  readonly state: string
  readonly health: 'none' | 'starting' | 'healthy' | 'unhealthy'
  readonly exitCode: number | undefined
  /** RFC 3339, with milliseconds. */
  readonly createdAt: string
  /** The engine's id of its image: `sha256:…`. */
  readonly engineImageId: string
  /** Its whole environment. Holds secrets: show it to nobody before they are taken out. */
  readonly env: Readonly<Record<string, string>>
}

export interface ImageView {
  /** Reference. */
  readonly name: string
  readonly appId: number
  readonly serviceName: string
  readonly imageId: number
  /** `sha256:…`; undefined until it is here. */
  readonly engineImageId: string | undefined
  readonly status: 'Downloading' | 'Downloaded'
  /** Percent; null when it is here. */
  readonly downloadProgress: number | null
}

export interface StatusView {
  readonly appState: 'applying' | 'applied'
  /** Percent; null when nothing is downloaded. */
  readonly overallDownloadProgress: number | null
  readonly updatePending: boolean
  readonly updateFailed: boolean
  readonly updateDownloaded: boolean
}

export interface HealthView {
  readonly healthy: boolean
  /** Why not; for people. */
  readonly problems: readonly string[]
  readonly engineConnected: boolean
  /** Whether the last fetch of the target succeeded; undefined when none is fetched. */
  readonly targetFetched: boolean | undefined
}

/** One line of `GET /v2/local/logs` (spec §6). */
export interface LogRecord {
  readonly message: string
  /** Milliseconds since 1970; absent in the first record. */
  readonly timestamp?: number
  readonly serviceName?: string
  readonly appId?: number
  readonly isSystem?: true
  readonly isStdErr?: true
}
