/** Policy and time of a plan. */
export interface PlanOptions {
  /** Milliseconds since 1970. */
  readonly now: number
  /** When the machine was started, in milliseconds since 1970. */
  readonly bootTime: number
  /** Volumes of an app that goes away stay (local mode). */
  readonly keepVolumes: boolean
  /** Images that nothing needs stay (local mode). */
  readonly keepImages: boolean
  /** A volume whose driver or options changed is removed, with its data, and made anew. */
  readonly replaceVolumes: boolean
  /** The old container is kept until the new one proved itself, and comes back if it does not. */
  readonly trial: TrialOptions | undefined
  /** Ids of containers that must be replaced whatever their configuration (restart, purge). */
  readonly recreate: ReadonlySet<string>
  /** Apps whose volumes go as well when the target does not name them (purge). */
  readonly clearVolumesOf: ReadonlySet<number>
}

export interface TrialOptions {
  /** A new container without health check is good when it ran this long. */
  readonly stableMs: number
  /** It failed when it is not good this long after its creation. */
  readonly timeoutMs: number
}
