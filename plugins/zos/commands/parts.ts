import type { Gpus } from '../../../src/gpu/gpus.ts'
import type { CheckOptions } from '../deployment/check.ts'
import type { NodeFacts } from '../node/facts.ts'
import type { Deployments } from '../provision/deployments.ts'
import type { Registry } from '../registry/registry.ts'
import type { CallerClass } from './command.ts'

/** What the commands are about. */
export interface CommandParts {
  readonly deployments: Deployments
  /** How deployments are checked. */
  readonly check: CheckOptions
  readonly facts: NodeFacts
  readonly registry: Registry
  readonly gpus: Gpus
  readonly gpuClasses: 'all' | 'reference'
  /** Types whose driver is enabled, and what else the node offers (§9.7). */
  features(): readonly string[]
  /** One entry per plugin of the daemon. */
  modules(): readonly Module[]
}

export interface Module {
  readonly name: string
  /** Why it does not serve; undefined when it does. */
  readonly problem: string | undefined
}

/** One command: who may call it, and what answers. */
export interface Command {
  readonly caller: CallerClass
  /** The answer, in what `printJson` takes; undefined is `null`. */
  answer(call: AnsweredCall): unknown
}

/** A call whose caller may make it. */
export interface AnsweredCall {
  /** 0 where nobody needs to be. */
  readonly twin: number
  readonly payload: string
  readonly signal: AbortSignal
}

export type CommandTable = Readonly<Record<string, Command>>
