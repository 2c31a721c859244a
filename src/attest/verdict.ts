/** One thing a verifier looked at. */
export interface Step {
  /** What was checked, in a few words: `PCK certificate chain`, `report data`. */
  readonly name: string
  /** `skipped`: not asked for, or not possible with what was given; `detail` says which. */
  readonly outcome: 'passed' | 'failed' | 'skipped'
  /** What was found, for a person: values, dates, the remedy. */
  readonly detail: string
  /** On failure: stable, in capitals, such as `PCK_REVOKED`. */
  readonly code?: string
}

/**
 * What a verifier says of one piece of evidence. It is accepted only when every step that policy
 * asks for passed; `claims` are trustworthy only then.
 */
export interface Verdict<Claims> {
  readonly accepted: boolean
  /** In the order they were taken; a failed step ends the list unless later ones stand alone. */
  readonly steps: readonly Step[]
  /** What the evidence says; undefined when it could not be read that far. */
  readonly claims: Claims | undefined
}

/** The first failed step of a verdict, which is the reason to give. */
export function reasonOf(verdict: Verdict<unknown>): Step | undefined {
  return verdict.steps.find(({ outcome }) => outcome === 'failed')
}
