/**
 * What the engine has of ours, and what is remembered about it: all that a plan looks at beside
 * the target. Objects of strangers are not in it, but for the names they take.
 */
export interface Current {
  readonly containers: readonly CurrentContainer[]
  readonly networks: readonly CurrentNetwork[]
  readonly volumes: readonly CurrentVolume[]
  /** Every image of the engine. */
  readonly images: readonly CurrentImage[]
  /** Names of objects that are not ours; a plan neither makes nor removes one of such a name. */
  readonly taken?: {
    readonly containers: ReadonlySet<string>
    readonly networks: ReadonlySet<string>
    readonly volumes: ReadonlySet<string>
  }
  /** The network `supervisor0`; `wrong` is one with another subnet or gateway (spec §13.4). */
  readonly supervisorNetwork: 'absent' | 'ready' | 'wrong'
  /** References (as `imageKey`) that are being pulled. */
  readonly downloads: ReadonlySet<string>
  /** References (as `imageKey`) whose last pull failed, and when to try again. */
  readonly failedPulls: ReadonlyMap<string, { readonly retryAt: number }>
  /** Names of images (as `imageKey`) whose removal failed lately: not tried again while in here. */
  readonly failedRemovals?: ReadonlySet<string>
  /** By {@link serviceKey}: services that were stopped on purpose. */
  readonly halted: ReadonlyMap<string, Halt>
  /** By {@link serviceKey}: services whose file `handover-complete` or `resin-kill-me` exists. */
  readonly handoverFiles: ReadonlySet<string>
  /** By {@link serviceKey}: the configuration hash that failed and was rolled back. */
  readonly failedUpdates: ReadonlyMap<string, string>
  /** By app id: the commit that was recorded as applied. */
  readonly commits: ReadonlyMap<number, string>
}

/** Why a service does not run. Persisted: it outlives the daemon and a reboot. */
export interface Halt {
  /** `user`: by the API, until it is started there. `target`: by `running: false`. */
  readonly by: 'user' | 'target'
  /** Configuration it had; another one ends a halt by the user. */
  readonly hash: string
}

/** The engine's word for the state of a container. */
export type ContainerState =
  | 'created'
  | 'running'
  | 'restarting'
  | 'paused'
  | 'exited'
  | 'removing'
  | 'dead'

export interface CurrentContainer {
  readonly id: string
  /** Without the slash in front. */
  readonly name: string
  readonly appId: number
  readonly serviceName: string
  /** Label `io.cvmd.supervisor.hash`; undefined on a container of another supervisor. */
  readonly hash: string | undefined
  /** Label `io.cvmd.supervisor.fields` as read by `readFields`. */
  readonly fields: Readonly<Record<string, string>> | undefined
  /** Label `io.cvmd.supervisor.image`: the engine's id of the image it was made from. */
  readonly madeFrom: string | undefined
  /** Label `io.cvmd.supervisor.network-of`: id of the container whose network it shares. */
  readonly networkOf: string | undefined
  /** The engine's id of its image, for counting uses. */
  readonly imageId: string
  readonly state: ContainerState
  /** `none` without a health check. */
  readonly health: 'none' | 'starting' | 'healthy' | 'unhealthy'
  /** Milliseconds since 1970. */
  readonly createdAt: number
  /** Last start in milliseconds since 1970; undefined when it was never started. */
  readonly startedAt: number | undefined
  readonly exitCode: number | undefined
  /** What the engine said when it could not start it; empty otherwise. */
  readonly error: string
  /** Names of the networks it is attached to. */
  readonly networks: readonly string[]
  /** Names of the volumes it mounts. */
  readonly volumes: readonly string[]
  /**
   * It has ended, and this network was removed meanwhile and another one has its name: it cannot be
   * started again.
   */
  readonly lostNetwork?: string | undefined
}

export interface CurrentNetwork {
  readonly id: string
  readonly name: string
  readonly appId: number
  /** Label `io.cvmd.supervisor.hash`. */
  readonly hash: string | undefined
}

export interface CurrentVolume {
  readonly name: string
  readonly appId: number
  /** Label `io.cvmd.supervisor.hash`; one without it is taken over as it is. */
  readonly hash: string | undefined
}

export interface CurrentImage {
  /** `sha256:…` */
  readonly id: string
  /** Tags and digests as `imageKey`. */
  readonly names: readonly string[]
  /** Those of {@link names} that were pulled by us: the only ones that are ever removed. */
  readonly owned: readonly string[]
  /** A container, of a stranger perhaps, was made from it. */
  readonly inUse: boolean
}

/** How services are named in the maps of {@link Current}. */
export function serviceKey(appId: number, serviceName: string): string {
  return `${appId}/${serviceName}`
}
