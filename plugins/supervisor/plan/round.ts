import type { Round, Step, Wait, WaitKind } from './steps.ts'

/** Those that keep nothing from being noted as applied. */
const NOTICES: ReadonlySet<WaitKind> = new Set<WaitKind>(['volume-changed', 'network-owner'])

/** A {@link Round} in the making. */
export class RoundBuilder implements Round {
  readonly steps: Step[] = []
  readonly waits: Wait[] = []

  step(step: Step): undefined {
    this.steps.push(step)
  }

  wait(kind: WaitKind, message: string, serviceName?: string, until?: number): undefined {
    this.waits.push({ kind, message, serviceName, until })
  }

  /** Nothing is left to be done or to be waited for. */
  get settled(): boolean {
    return this.steps.length === 0 && this.waits.every(({ kind }) => NOTICES.has(kind))
  }
}
