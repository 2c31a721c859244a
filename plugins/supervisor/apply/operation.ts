import type { DesiredApp } from '../plan/desired.ts'
import type { Round, WaitKind } from '../plan/steps.ts'
import { SupervisorError } from './supervisor-error.ts'

/** Nothing will come of waiting for these. */
const HOPELESS: ReadonlySet<WaitKind> = new Set<WaitKind>([
  'pull-retry',
  'network-owner',
  'failed-update',
  'name-taken',
  'rejected',
])

/** These keep nobody from being done. */
const HARMLESS: ReadonlySet<WaitKind> = new Set<WaitKind>(['reboot', 'volume-changed'])

export type OperationProgress = 'under way' | 'done'

/**
 * Something a caller asked for and awaits: a way from what there is to the target that the planner
 * is told of. When it fails, or its caller goes, the target is reached without it.
 */
export class Operation {
  /** Containers that must be replaced. */
  readonly recreate: ReadonlySet<string>
  /** Update locks are removed. */
  readonly force: boolean
  readonly done: Promise<void>
  /** First everything goes, the volumes too. */
  clearing: boolean
  /** Who is looked at; undefined: all. */
  readonly #services: ReadonlySet<string> | undefined
  #resolve: () => void = () => {}
  #reject: (error: unknown) => void = () => {}

  constructor(options: {
    readonly recreate: Iterable<string>
    readonly force: boolean
    readonly services?: readonly string[]
    readonly purge?: boolean
  }) {
    this.recreate = new Set(options.recreate)
    this.force = options.force
    this.clearing = options.purge ?? false
    this.#services = options.services && new Set(options.services)
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    // Whoever asked may be gone.
    this.done.catch(() => {})
  }

  /** What is wanted while everything goes. */
  static nothingOf(app: DesiredApp): DesiredApp {
    return { ...app, services: [], volumes: [] }
  }

  fail(error: unknown): void {
    this.#reject(error)
  }

  finish(): void {
    this.#resolve()
  }

  /**
   * How far it is by the plan that was made now.
   *
   * @throws {SupervisorError} `OPERATION_FAILED` when it will not be done.
   */
  progress({ steps, waits }: Round): OperationProgress {
    const concerns = (one: object) => {
      if (this.#services === undefined) return true
      const name = 'serviceName' in one ? (one.serviceName as string | undefined) : undefined
      return name !== undefined && this.#services.has(name)
    }
    if (steps.some(concerns)) return 'under way'
    const left = waits.filter((wait) => concerns(wait) && !HARMLESS.has(wait.kind))
    const hopeless = left.find(({ kind }) => HOPELESS.has(kind))
    if (hopeless) {
      throw new SupervisorError('OPERATION_FAILED', `Cannot finish: ${hopeless.message}`)
    }
    return left.length > 0 ? 'under way' : 'done'
  }
}
