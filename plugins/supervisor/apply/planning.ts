import type { ComposeContext } from '../compose/context.ts'
import { desiredState } from '../compose/desired.ts'
import type { EngineState } from '../engine-state/engine-state.ts'
import { type Current, serviceKey } from '../plan/current.ts'
import type { Desired } from '../plan/desired.ts'
import type { PlanOptions } from '../plan/options.ts'
import { plan } from '../plan/plan.ts'
import type { Plan, Round } from '../plan/steps.ts'
import type { Memory } from '../store/memory.ts'
import type { Target, TargetApp } from '../target/model.ts'
import { readSettings, type Settings } from '../target/settings.ts'
import { Operation } from './operation.ts'

export interface PlanningOptions {
  readonly state: EngineState
  readonly memory: Memory
  readonly context: () => ComposeContext
  /** What does not change from plan to plan. */
  readonly policy: Pick<PlanOptions, 'bootTime' | 'replaceVolumes' | 'trial'>
  /** Volumes and images of apps that go stay. */
  readonly localMode: () => boolean
  /** What is known of pulls, removals and hand-overs that go on. */
  readonly underWay: () => Pick<
    Current,
    'downloads' | 'failedPulls' | 'failedRemovals' | 'handoverFiles'
  >
}

/** What is wanted, and plans for it from what is there and what goes on. */
export class Planning {
  readonly #options: PlanningOptions
  #target: Target | undefined
  #settings: Settings = readSettings({})
  #desired: Desired | undefined

  constructor(options: PlanningOptions) {
    this.#options = options
  }

  get target(): Target | undefined {
    return this.#target
  }

  get settings(): Settings {
    return this.#settings
  }

  appOf(appId: number): TargetApp | undefined {
    return this.#target?.apps.find((app) => app.appId === appId)
  }

  /** No plan was made yet for what is wanted now. */
  get outdated(): boolean {
    return this.#target !== undefined && this.#desired === undefined
  }

  setTarget(target: Target): void {
    this.#target = target
    this.#settings = readSettings(target.config)
    this.#desired = undefined
  }

  /** The same target asks for something else now, or the containers it asks for are made otherwise. */
  outdate(): void {
    this.#desired = undefined
  }

  current(): Current {
    const { state, memory, underWay } = this.#options
    return {
      ...state.objects(memory.images),
      ...underWay(),
      halted: memory.halts,
      failedUpdates: memory.failedUpdates,
      commits: memory.commits,
    }
  }

  /** @param recreate Ids of containers that are to go, whatever they are. */
  plan(target: Target, current: Current, recreate: ReadonlySet<string>): Plan {
    this.#desired ??= desiredState(target, this.#options.context())
    return plan(current, this.#desired, this.#planOptions(recreate))
  }

  /** What a purge does first: all containers and volumes of the app go, its images stay. */
  clearing(appId: number, current: Current, recreate: ReadonlySet<string>): Round {
    const app = this.#desired?.apps.find((one) => one.appId === appId)
    if (app === undefined) return { steps: [], waits: [] }
    const options = {
      ...this.#planOptions(recreate),
      clearVolumesOf: new Set([appId]),
      keepImages: true,
    }
    const round = plan(current, { apps: [Operation.nothingOf(app)] }, options).apps.get(appId)
    const steps = round?.steps.filter(({ kind }) => kind !== 'note-commit') ?? []
    return { steps, waits: round?.waits ?? [] }
  }

  /** Everything is as it should be: what was remembered about what is gone goes. */
  async forgetGone(target: Target): Promise<void> {
    const { memory, state } = this.#options
    const containers = [...state.containers()]
    const services = [
      ...target.apps.flatMap(({ appId, services }) =>
        services.map(({ serviceName }) => serviceKey(appId, serviceName)),
      ),
      ...containers.map(({ appId, serviceName }) => serviceKey(appId, serviceName)),
    ]
    await memory.retain(new Set(services), new Set(containers.map(({ id }) => id)))
  }

  #planOptions(recreate: ReadonlySet<string>): PlanOptions {
    const local = this.#options.localMode()
    return {
      ...this.#options.policy,
      now: Date.now(),
      keepVolumes: local,
      keepImages: local,
      recreate,
      clearVolumesOf: new Set(),
    }
  }
}
