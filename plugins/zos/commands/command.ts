/** Who may call (spec §1): anybody, the twin it is about, the farmer, or an admin. */
export type CallerClass = 'any' | 'owner' | 'farmer' | 'admin'

/** One call, however it came. */
export interface Call {
  /** `zos.deployment.get`. */
  readonly command: string
  /** Whoever was authenticated; undefined for nobody. */
  readonly twin: number | undefined
  /** JSON text; '' is as good as `null` where nothing is needed. */
  readonly payload: string
  readonly signal: AbortSignal
}

/** Answers calls; what transports stand on. */
export interface Commands {
  /** Who may call a command; undefined when there is none of that name. */
  classOf(command: string): CallerClass | undefined
  /** Every name that is served, both of those that have two. */
  names(): readonly string[]
  /**
   * Answers a call with JSON text; `null` when the command has no result.
   *
   * @throws {ZosError} In the words of the reference; nothing else is thrown.
   */
  dispatch(call: Call): Promise<string>
}
