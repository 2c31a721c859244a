/** What a source does with what it found. */
export interface SourceOptions {
  /** Takes a target that is not the one before. What it throws is reported, and tried again. */
  readonly onTarget: (body: unknown) => Promise<unknown>
  /** What is wrong with the source, or undefined: all is well again. */
  readonly onProblem: (problem: string | undefined) => void
}

/** Where targets come from by themselves. */
export interface TargetSource {
  start(): void
  stop(): Promise<void>
  /** Looks now; never rejects. */
  refresh(): Promise<void>
  /** Whether the last look succeeded; undefined before the first. */
  readonly good: boolean | undefined
}

/** Largest target, as it comes (spec §1). */
export const MAX_TARGET_BYTES = 10 * 1024 * 1024
