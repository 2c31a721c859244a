import { EvidenceError } from './evidence-error.ts'
import type { Step } from './verdict.ts'

/** Takes down what a verifier looks at, in order. */
export class Steps {
  readonly #taken: Step[] = []

  get taken(): readonly Step[] {
    return this.#taken
  }

  get allPassed(): boolean {
    return this.#taken.every(({ outcome }) => outcome !== 'failed')
  }

  /**
   * Looks at one thing.
   *
   * @param look Its `EvidenceError` makes the step a failed one, and is thrown on.
   * @param describe What was found, for a person.
   */
  take<T>(name: string, look: () => T, describe: (found: T) => string): T {
    try {
      const found = look()
      this.#taken.push({ name, outcome: 'passed', detail: describe(found) })
      return found
    } catch (error) {
      if (error instanceof EvidenceError) {
        const { code, message } = error
        this.#taken.push({ name, outcome: 'failed', detail: message, code })
      }
      throw error
    }
  }

  skip(name: string, detail: string): void {
    this.#taken.push({ name, outcome: 'skipped', detail })
  }

  /** Runs steps that build on each other: the first failed one ends them, not what follows. */
  together<T>(run: () => T): T | undefined {
    try {
      return run()
    } catch (error) {
      // An error no step has taken down must not pass for a step that was refused.
      if (error instanceof EvidenceError && !this.allPassed) return undefined
      throw error
    }
  }
}
