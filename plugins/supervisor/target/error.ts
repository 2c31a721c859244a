import type { TargetIssue, TargetWarning } from './model.ts'

/** How many issues the message names; all are in {@link TargetError.issues}. */
const NAMED = 5

/** A target state that cannot be used. Whatever was in force stays in force. */
export class TargetError extends Error {
  override readonly name = 'TargetError'
  readonly code = 'TARGET_INVALID'
  /** What is wrong, at least one unless {@link dropped} has some; at most `MAX_PROBLEMS`. */
  readonly issues: readonly TargetIssue[]
  /** In strict mode: what would be left out. */
  readonly dropped: readonly TargetWarning[]

  constructor(issues: readonly TargetIssue[], dropped: readonly TargetWarning[] = []) {
    const all = [...issues, ...dropped]
    const named = all.slice(0, NAMED).map(({ path, message }) => `${path || 'it'} ${message}`)
    const rest = all.length > NAMED ? `, and ${all.length - NAMED} more` : ''
    super(`Cannot use the target state: ${named.join('; ')}${rest}`)
    this.issues = issues
    this.dropped = dropped
  }
}
