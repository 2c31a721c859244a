import { setImmediate } from 'node:timers'
import type { Engine } from '../../../src/engine/engine.ts'
import { messageOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import { imageKey } from '../compose/image-key.ts'
import { isOldName } from '../compose/names.ts'
import type { SupervisorSubnet } from '../compose/supervisor-network.ts'
import type { EngineState } from '../engine-state/engine-state.ts'
import type { Locks } from '../locks/locks.ts'
import type { CurrentContainer } from '../plan/current.ts'
import type { Memory } from '../store/memory.ts'
import type { Target, TargetApp } from '../target/model.ts'
import type { Settings } from '../target/settings.ts'
import { HandoverWatch } from './handover-watch.ts'
import type { Hands } from './hands.ts'
import { pullImage } from './images.ts'
import { Lane } from './lane.ts'
import { Planning, type PlanningOptions } from './planning.ts'
import { Pulls, type PullsOptions } from './pulls.ts'
import { Requests } from './requests.ts'
import { Rounds } from './rounds.ts'
import { SupervisorError } from './supervisor-error.ts'

export interface ApplierOptions
  extends Pick<PlanningOptions, 'state' | 'memory' | 'context' | 'policy' | 'localMode'> {
  readonly engine: Engine
  readonly state: EngineState
  readonly memory: Memory
  readonly locks: Locks
  readonly subnet?: SupervisorSubnet | undefined
  readonly events: EventSink
  readonly credentialsOf?: PullsOptions['credentialsOf']
  /** Something that is shown has changed. */
  readonly onChange: () => void
}

/** After a plan could not be made. */
const REPLAN_MS = 5000
/** Timers of JavaScript count in 31 bits. */
const MAX_TIMER_MS = 2 ** 31 - 1

/**
 * Makes plans and has them done (spec §16, §23.1): whenever something changed, one plan for all,
 * and for each app that is not at work its steps, together. A failure holds back only its own app.
 */
export class Applier {
  readonly lanes = new Map<number, Lane>()
  readonly shared = new Lane(undefined)
  readonly pulls: Pulls
  readonly requests: Requests
  readonly hands: Hands
  /** By container id: what is being done with it. */
  readonly doings = new Map<string, 'Starting' | 'Stopping'>()
  /** An image came since everything was applied last. */
  downloaded = false
  readonly #options: ApplierOptions
  readonly #planning: Planning
  readonly #rounds: Rounds
  readonly #watch: HandoverWatch
  readonly #abort = new AbortController()
  readonly #suspensions = new Set<object>()
  /** Writes to the state folder: another supervisor may have it after {@link stop}. */
  #forgetting: Promise<void> | undefined
  #started = false
  /** Why no plan could be made last. */
  #planProblem: string | undefined
  #kicked = false
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(options: ApplierOptions) {
    this.#options = options
    const { engine, state, memory, locks, context, subnet, onChange } = options
    this.#watch = new HandoverWatch(locks.folders, () => this.kick())
    this.pulls = this.#makePulls()
    this.#planning = new Planning({
      ...options,
      underWay: () => ({
        downloads: this.pulls.downloads,
        failedPulls: this.pulls.failed,
        failedRemovals: this.#rounds.failedRemovals(),
        handoverFiles: this.#watch.found,
      }),
    })
    this.hands = {
      engine,
      state,
      memory,
      folders: locks.folders,
      context,
      subnet,
      appOf: (appId) => this.appOf(appId),
      pull: (image) => this.pulls.begin(image),
      handoverBegins: (appId, service) => this.#watch.begin(appId, service),
      doing: (id, status) => {
        if (status === undefined) this.doings.delete(id)
        else this.doings.set(id, status)
        onChange()
      },
      reasons: new Map(),
      note: (message, level) => this.note(message, level),
      signal: this.#abort.signal,
    }
    this.#rounds = new Rounds({
      hands: this.hands,
      locks,
      settings: () => this.settings,
      onStale: () => this.#planning.outdate(),
    })
    this.requests = new Requests({
      assertReady: () => this.#assertReady(),
      lane: (appId) => this.lane(appId),
      occupy: (lane, work) => this.#occupy(lane, work),
      kick: () => this.kick(),
    })
  }

  get target(): Target | undefined {
    return this.#planning.target
  }

  get settings(): Settings {
    return this.#planning.settings
  }

  /** Why nothing can be planned; undefined: it can. */
  get planProblem(): string | undefined {
    return this.#planProblem
  }

  get suspended(): boolean {
    return this.#suspensions.size > 0
  }

  appOf(appId: number): TargetApp | undefined {
    return this.#planning.appOf(appId)
  }

  note(message: string, level: 'info' | 'warn' = 'info'): void {
    this.#options.events.append(message, { level })
  }

  start(): void {
    this.#started = true
    this.kick()
  }

  /** Nothing is begun any more, calls to the engine are ended, locks are given back. */
  async stop(): Promise<void> {
    this.#started = false
    clearTimeout(this.#timer)
    this.#watch.stop()
    const reason = new SupervisorError('SUSPENDED', 'The supervisor is being stopped')
    this.#abort.abort(reason)
    const lanes = [this.shared, ...this.lanes.values()]
    for (const { operation } of lanes) operation?.fail(reason)
    await this.pulls.abort()
    await Promise.allSettled(lanes.map(({ busy }) => busy))
    await this.#forgetting
    for (const lane of lanes) await lane.unlock()
  }

  /** A target in force: what failed before gets a new chance, and pulls nobody wants end. */
  setTarget(target: Target, { force = false } = {}): void {
    this.#planning.setTarget(target)
    this.forgive()
    if (force) for (const { appId } of target.apps) this.lane(appId).forced = true
    const wanted = new Set(
      target.apps.flatMap(({ services }) => services.map(({ image }) => imageKey(image))),
    )
    void this.pulls.abort((key) => wanted.has(key))
    this.kick()
  }

  /** Environment and names may be others now. */
  contextChanged(): void {
    this.#planning.outdate()
    this.kick()
  }

  /** What waits after a failure goes on at once. */
  forgive(): void {
    for (const lane of [this.shared, ...this.lanes.values()]) lane.forgive()
    this.pulls.forgive()
  }

  suspend(): () => void {
    const suspension = {}
    this.#suspensions.add(suspension)
    return () => {
      if (this.#suspensions.delete(suspension)) this.kick()
    }
  }

  lane(appId: number): Lane {
    const known = this.lanes.get(appId)
    if (known) return known
    const lane = new Lane(appId)
    this.lanes.set(appId, lane)
    return lane
  }

  /** Something changed: plans anew, soon and once. */
  kick(): void {
    this.#options.onChange()
    if (this.#kicked || !this.#started) return
    this.#kicked = true
    setImmediate(() => {
      this.#kicked = false
      this.#tickSafely()
    })
  }

  /** Whether the app has anything to do, or to wait for that will come by itself. */
  isApplying(lane: Lane): boolean {
    return this.#planning.outdated || lane.atWork
  }

  #makePulls(): Pulls {
    const { credentialsOf, onChange } = this.#options
    return new Pulls({
      credentialsOf,
      maxRetryMs: () => this.settings.pollIntervalMs,
      pull: (image, call) => pullImage(image, call, this.hands),
      onChange: () => {
        onChange()
        this.kick()
      },
      onEnd: (image, problem) => {
        if (problem === undefined) this.downloaded = true
        if (problem === undefined) this.note(`image ${image} is here`)
        else this.note(`image ${image} could not be pulled: ${problem}`, 'warn')
      },
    })
  }

  #assertReady(): void {
    if (this.suspended || !this.#started) {
      throw new SupervisorError('SUSPENDED', 'Cannot begin: the machine is about to go down')
    }
    const { state } = this.#options
    if (!state.connected) {
      const message = `The container engine does not answer: ${state.problem}`
      throw new SupervisorError('ENGINE_AWAY', message)
    }
  }

  #occupy(lane: Lane, work: Promise<unknown>): void {
    lane.busySince = performance.now()
    const done = work
      .catch(() => {})
      .then(() => {
        if (lane.busy === done) lane.busy = undefined
        this.kick()
      })
    lane.busy = done
    this.#options.onChange()
  }

  #tickSafely(): void {
    try {
      this.#tick()
      this.#planProblem = undefined
    } catch (error) {
      const message = `no plan can be made: ${messageOf(error)}`
      if (message !== this.#planProblem) this.note(message, 'warn')
      this.#planProblem = message
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => this.#tickSafely(), REPLAN_MS)
    }
  }

  #tick(): void {
    const { state } = this.#options
    const { target } = this
    // Without a target nothing is known about what should be: everything stays.
    if (!this.#started || this.suspended || !state.connected || target === undefined) return
    const current = this.#planning.current()
    const recreate = this.#recreated()
    const whole = this.#planning.plan(target, current, recreate)
    this.#watchHandovers(current.containers)
    this.#leave(whole.apps)
    for (const [appId, round] of whole.apps) {
      const lane = this.lane(appId)
      lane.round = lane.operation?.clearing
        ? this.#planning.clearing(appId, current, recreate)
        : round
      this.#advance(lane)
    }
    this.shared.round = whole.shared
    this.#advance(this.shared)
    const applying = [...this.lanes.values()].some((lane) => this.isApplying(lane))
    if (!applying) {
      this.downloaded = false
      // An image that nobody waits for came in another way, or is not wanted any more.
      this.pulls.forgive()
      this.#forgetting = this.#planning
        .forgetGone(target)
        .catch((error) => this.note(messageOf(error), 'warn'))
    }
    this.#arm()
    this.#options.onChange()
  }

  /** Ends the lanes of apps of which nothing is left. */
  #leave(apps: ReadonlyMap<number, unknown>): void {
    for (const [appId, lane] of this.lanes) {
      if (apps.has(appId)) continue
      lane.round = { steps: [], waits: [] }
      lane.operation?.fail(SupervisorError.notInstalled(appId))
      if (lane.busy) continue
      if (lane.held) this.#occupy(lane, lane.unlock())
      else if (!lane.operation) this.lanes.delete(appId)
    }
  }

  /** Containers that operations want made anew. */
  #recreated(): Set<string> {
    const operations = [...this.lanes.values()].map(({ operation }) => operation)
    return new Set(operations.flatMap((operation) => [...(operation?.recreate ?? [])]))
  }

  #watchHandovers(containers: readonly CurrentContainer[]): void {
    this.#watch.watch(containers.filter(({ name, serviceName }) => isOldName(name, serviceName)))
  }

  #advance(lane: Lane): void {
    if (lane.busy) return
    if (lane.retryAt > Date.now()) return
    const { operation, round } = lane
    if (operation) {
      try {
        if (operation.progress(round) === 'done') {
          if (!operation.clearing) operation.finish()
          else {
            operation.clearing = false
            this.kick()
            return
          }
        }
      } catch (error) {
        operation.fail(error)
      }
    }
    if (round.steps.length > 0) {
      if (lane.repeats(round.steps)) {
        lane.retryAt = Date.now() + REPLAN_MS
        return
      }
      this.#occupy(lane, this.#rounds.do(lane, round.steps))
      return
    }
    if (this.isApplying(lane)) lane.forgive()
    else lane.settle()
    if (lane.held) this.#occupy(lane, lane.unlock())
  }

  /** Comes back when something is due by time. */
  #arm(): void {
    clearTimeout(this.#timer)
    const now = Date.now()
    const times: number[] = [...this.#rounds.removalTimes()]
    for (const { retryAt, busy, round } of [this.shared, ...this.lanes.values()]) {
      if (busy) continue
      if (retryAt > now) times.push(retryAt)
      for (const { until } of round.waits) if (until !== undefined) times.push(until)
    }
    if (times.length === 0) return
    const delay = Math.min(Math.max(Math.min(...times) - now, 1), MAX_TIMER_MS)
    this.#timer = setTimeout(() => this.#tickSafely(), delay)
  }
}
