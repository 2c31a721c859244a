import { setImmediate } from 'node:timers'
import type { Engine } from '../../../src/engine/engine.ts'
import { isEngineError } from '../../../src/engine/error.ts'
import { messageOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import type { ComposeContext } from '../compose/context.ts'
import { desiredState } from '../compose/desired.ts'
import { imageKey } from '../compose/image-key.ts'
import { isOldName } from '../compose/names.ts'
import type { SupervisorSubnet } from '../compose/supervisor-network.ts'
import type { EngineState } from '../engine-state/engine-state.ts'
import { LockError, type Locks } from '../locks/locks.ts'
import type { Current } from '../plan/current.ts'
import { serviceKey } from '../plan/current.ts'
import type { Desired } from '../plan/desired.ts'
import type { PlanOptions } from '../plan/options.ts'
import { plan } from '../plan/plan.ts'
import { needsLock, type Round, type Step, type WaitKind } from '../plan/steps.ts'
import type { Memory } from '../store/memory.ts'
import type { Target, TargetApp } from '../target/model.ts'
import { readSettings, type Settings } from '../target/settings.ts'
import { HandoverWatch } from './handover-watch.ts'
import { type Hands, StaleStep } from './hands.ts'
import { Lane } from './lane.ts'
import { Operation } from './operation.ts'
import { perform } from './perform.ts'
import { Pulls, type PullsOptions } from './pulls.ts'
import { SupervisorError } from './supervisor-error.ts'
import { abortable, limited } from './waiting.ts'

export interface ApplierOptions {
  readonly engine: Engine
  readonly state: EngineState
  readonly memory: Memory
  readonly locks: Locks
  readonly context: () => ComposeContext
  readonly subnet?: SupervisorSubnet | undefined
  readonly events: EventSink
  readonly credentialsOf?: PullsOptions['credentialsOf']
  /** What does not change from plan to plan. */
  readonly policy: Pick<PlanOptions, 'bootTime' | 'replaceVolumes' | 'trial'>
  /** Volumes and images of apps that go stay. */
  readonly localMode: () => boolean
  /** Something that is shown has changed. */
  readonly onChange: () => void
}

/** Until a name of an image whose removal failed is tried again. */
const REMOVAL_RETRY_MS = 10 * 60_000
/** After an engine that went away in the middle of a step, or a step for what is not so. */
const SOON_MS = 200
/** After a plan could not be made. */
const REPLAN_MS = 5000
/** An operation waits at most this long for the one before it (spec §8.3). */
const TURN_MS = 10_000
/** The longest operation (spec §1). */
const OPERATION_MS = 15 * 60_000
/** Timers of JavaScript count in 31 bits. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** What keeps nothing from being applied. */
const QUIET: ReadonlySet<WaitKind> = new Set<WaitKind>([
  'reboot',
  'volume-changed',
  'failed-update',
  'name-taken',
  'rejected',
])

/**
 * Makes plans and has them done (spec §16, §23.1): whenever something changed, one plan for all,
 * and for each app that is not at work its steps, together. A failure holds back only its own app.
 */
export class Applier {
  readonly lanes = new Map<number, Lane>()
  readonly shared = new Lane(undefined)
  readonly pulls: Pulls
  /** By container id: what is being done with it. */
  readonly doings = new Map<string, 'Starting' | 'Stopping'>()
  /** An image came since everything was applied last. */
  downloaded = false
  readonly #options: ApplierOptions
  readonly #hands: Hands
  readonly #watch: HandoverWatch
  readonly #abort = new AbortController()
  readonly #failedRemovals = new Map<string, number>()
  readonly #suspensions = new Set<object>()
  #target: Target | undefined
  #settings: Settings = readSettings({})
  #desired: Desired | undefined
  #started = false
  /** Why no plan could be made last. */
  #planProblem: string | undefined
  #kicked = false
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(options: ApplierOptions) {
    this.#options = options
    const { engine, state, memory, locks, context, subnet, credentialsOf, onChange } = options
    const { signal } = this.#abort
    this.#watch = new HandoverWatch(locks.folders, () => this.kick())
    this.pulls = new Pulls({
      credentialsOf,
      maxRetryMs: () => this.#settings.pollIntervalMs,
      pull: async (image, call) => {
        this.note(`image ${image} is being pulled`)
        await memory.ownImage(imageKey(image))
        call.signal.throwIfAborted()
        await engine.images.pull(image, call)
        await state.refreshImage(image, call.signal)
        if (state.imageId(image) !== undefined) return
        throw new Error('the engine says that it was pulled, and does not have it')
      },
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
    this.#hands = {
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
      signal,
    }
  }

  get target(): Target | undefined {
    return this.#target
  }

  get settings(): Settings {
    return this.#settings
  }

  get hands(): Hands {
    return this.#hands
  }

  /** Why nothing can be planned; undefined: it can. */
  get planProblem(): string | undefined {
    return this.#planProblem
  }

  get suspended(): boolean {
    return this.#suspensions.size > 0
  }

  appOf(appId: number): TargetApp | undefined {
    return this.#target?.apps.find((app) => app.appId === appId)
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
    for (const lane of lanes) await lane.unlock()
  }

  /** A target in force: what failed before gets a new chance, and pulls nobody wants end. */
  setTarget(target: Target, { force = false } = {}): void {
    this.#target = target
    this.#settings = readSettings(target.config)
    this.#desired = undefined
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
    this.#desired = undefined
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
    // No plan was made yet for what is wanted now.
    if (this.#target !== undefined && this.#desired === undefined) return true
    if (lane.busy !== undefined || lane.operation !== undefined) return true
    return lane.round.steps.length > 0 || lane.round.waits.some(({ kind }) => !QUIET.has(kind))
  }

  /**
   * Does work alone in an app's lane, after what is under way there.
   *
   * @throws {LockError} `LOCKS_BUSY` when that takes too long.
   */
  async exclusively<T>(appId: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    this.#assertReady()
    const lane = this.lane(appId)
    return await this.#inTurn(lane, signal, async () => {
      while (lane.busy)
        await abortable(
          lane.busy.catch(() => {}),
          signal,
        )
      const run = work()
      this.#occupy(lane, run)
      return await run
    })
  }

  /** Has an operation done; errors are those of its steps. */
  async operate(
    appId: number,
    signal: AbortSignal,
    begin: () => Operation | Promise<Operation>,
  ): Promise<void> {
    this.#assertReady()
    const lane = this.lane(appId)
    await this.#inTurn(lane, signal, async () => {
      while (lane.busy) await abortable(lane.busy, signal)
      const begun = lane.unlock().then(begin)
      this.#occupy(lane, begun)
      const operation = await begun
      const limit = limited(signal, OPERATION_MS, () => {
        return new SupervisorError('OPERATION_FAILED', 'Cannot finish: it takes too long')
      })
      try {
        lane.operation = operation
        lane.forgive()
        this.kick()
        await abortable(operation.done, limit.signal)
      } finally {
        limit.end()
        lane.operation = undefined
        this.kick()
      }
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

  async #inTurn<T>(lane: Lane, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const before = lane.turn
    let pass = () => {}
    lane.turn = new Promise<void>((resolve) => {
      pass = () => before.then(() => resolve())
    })
    try {
      const limit = limited(signal, TURN_MS, () => LockError.bySupervisor(lane.appId ?? 0))
      try {
        await abortable(before, limit.signal)
      } finally {
        limit.end()
      }
      return await work()
    } finally {
      pass()
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
    const target = this.#target
    // Without a target nothing is known about what should be: everything stays.
    if (!this.#started || this.suspended || !state.connected || target === undefined) return
    this.#desired ??= desiredState(target, this.#options.context())
    const current = this.#current()
    const whole = plan(current, this.#desired, this.#planOptions())
    this.#watchHandovers(current)
    for (const appId of this.lanes.keys()) {
      if (!whole.apps.has(appId)) this.lane(appId).round = { steps: [], waits: [] }
    }
    for (const [appId, round] of whole.apps) {
      const lane = this.lane(appId)
      lane.round = lane.operation?.clearing ? this.#clearing(current, appId) : round
      this.#advance(lane)
    }
    this.shared.round = whole.shared
    this.#advance(this.shared)
    for (const [appId, lane] of this.lanes) {
      if (!whole.apps.has(appId) && !lane.busy && !lane.operation) this.lanes.delete(appId)
    }
    const applying = [...this.lanes.values()].some((lane) => this.isApplying(lane))
    if (!applying) {
      this.downloaded = false
      this.#forget(target)
    }
    this.#arm()
    this.#options.onChange()
  }

  /** What a purge does first: all containers and volumes of the app go, its images stay. */
  #clearing(current: Current, appId: number): Round {
    const app = this.#desired?.apps.find((one) => one.appId === appId)
    if (app === undefined) return { steps: [], waits: [] }
    const options = { ...this.#planOptions(), clearVolumesOf: new Set([appId]), keepImages: true }
    const round = plan(current, { apps: [Operation.nothingOf(app)] }, options).apps.get(appId)
    const steps = round?.steps.filter(({ kind }) => kind !== 'note-commit') ?? []
    return { steps, waits: round?.waits ?? [] }
  }

  #planOptions(): PlanOptions {
    const recreate = new Set<string>()
    for (const { operation } of this.lanes.values()) {
      for (const id of operation?.recreate ?? []) recreate.add(id)
    }
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

  #current(): Current {
    const { state, memory } = this.#options
    const now = Date.now()
    for (const [name, until] of this.#failedRemovals) {
      if (until <= now) this.#failedRemovals.delete(name)
    }
    return {
      ...state.objects(memory.images),
      downloads: this.pulls.downloads,
      failedPulls: this.pulls.failed,
      failedRemovals: new Set(this.#failedRemovals.keys()),
      halted: memory.halts,
      handoverFiles: this.#watch.found,
      failedUpdates: memory.failedUpdates,
      commits: memory.commits,
    }
  }

  #watchHandovers({ containers }: Current): void {
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
      this.#occupy(lane, this.#doRound(lane, round.steps))
      return
    }
    if (this.isApplying(lane)) lane.forgive()
    else lane.settle()
    if (lane.held) this.#occupy(lane, lane.unlock())
  }

  async #doRound(lane: Lane, steps: readonly Step[]): Promise<void> {
    const locked = steps.filter(needsLock)
    const free = steps.filter((step) => !needsLock(step))
    const attempts = free.map((step) => this.#attempt(lane, step))
    if (locked.length > 0) attempts.push(this.#underLock(lane, locked))
    else if (lane.held) attempts.push(lane.unlock())
    const results = await Promise.allSettled(attempts)
    const errors = results.flatMap((result) =>
      result.status === 'rejected' ? [result.reason as unknown] : [],
    )
    const [first] = errors
    if (first === undefined) lane.stale = 0
    else await this.#failed(lane, errors.find((error) => !(error instanceof StaleStep)) ?? first)
  }

  async #underLock(lane: Lane, steps: readonly Step[]): Promise<void> {
    const { appId, operation } = lane
    if (appId === undefined) return
    const { locks, state } = this.#options
    const wanted = this.appOf(appId)?.services.map(({ serviceName }) => serviceName) ?? []
    const there = [...state.containers()]
      .filter((one) => one.appId === appId)
      .map(({ serviceName }) => serviceName)
    lane.held ??= await locks.acquire([appId], {
      services: () => new Set([...wanted, ...there]),
      force: lane.forced || operation?.force === true,
      override: this.#settings.overrideLock,
      ...(operation ? {} : { waitMs: Number.POSITIVE_INFINITY }),
      signal: this.#abort.signal,
    })
    const results = await Promise.allSettled(steps.map((step) => this.#attempt(lane, step)))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  async #attempt(lane: Lane, step: Step): Promise<void> {
    try {
      await perform(step, lane.appId ?? 0, this.#hands)
    } catch (error) {
      if (step.kind !== 'remove-image' || this.#abort.signal.aborted) throw error
      // Somebody uses it in a way that is not seen here: that is no failure (spec §24.8).
      this.#failedRemovals.set(step.image, Date.now() + REMOVAL_RETRY_MS)
      this.note(`image ${step.image} could not be removed: ${messageOf(error)}`)
    }
  }

  async #failed(lane: Lane, error: unknown): Promise<void> {
    if (this.#abort.signal.aborted) return
    await lane.unlock()
    if (error instanceof StaleStep && lane.stale++ < 2) {
      this.#desired = undefined
      lane.retryAt = Date.now() + SOON_MS
      return
    }
    const away = isEngineError(error, 'ENGINE_UNREACHABLE')
    const message = messageOf(error)
    if (away) lane.retryAt = Date.now() + SOON_MS
    const { operation } = lane
    if (operation) operation.fail(asOperationError(error, away))
    // What an operation could not do may not be needed without it.
    if (away || operation) return
    const delay = lane.fail(message, this.#settings.pollIntervalMs)
    const whose = lane.appId === undefined ? 'what all apps share' : `app ${lane.appId}`
    const locked = error instanceof Error && error.name === 'LockError'
    const seconds = Math.ceil(delay / 1000)
    this.note(
      locked
        ? `Updates are locked, retrying in ${seconds}s. Reason: ${message}`
        : `${whose} could not be applied, retrying in ${seconds}s: ${message}`,
      'warn',
    )
  }

  /** Comes back when something is due by time. */
  #arm(): void {
    clearTimeout(this.#timer)
    const now = Date.now()
    const times: number[] = [...this.#failedRemovals.values()]
    for (const { retryAt, busy, round } of [this.shared, ...this.lanes.values()]) {
      if (busy) continue
      if (retryAt > now) times.push(retryAt)
      for (const { until } of round.waits) if (until !== undefined) times.push(until)
    }
    if (times.length === 0) return
    const delay = Math.min(Math.max(Math.min(...times) - now, 1), MAX_TIMER_MS)
    this.#timer = setTimeout(() => this.#tickSafely(), delay)
  }

  /** Everything is as it should be: what was remembered about what is gone goes. */
  #forget(target: Target): void {
    const { memory, state } = this.#options
    const services = new Set<string>()
    for (const app of target.apps) {
      for (const { serviceName } of app.services) services.add(serviceKey(app.appId, serviceName))
    }
    const ids = new Set<string>()
    for (const { id, appId, serviceName } of state.containers()) {
      ids.add(id)
      services.add(serviceKey(appId, serviceName))
    }
    memory.retain(services, ids).catch((error) => this.note(messageOf(error), 'warn'))
  }
}

function asOperationError(error: unknown, away: boolean): unknown {
  if (error instanceof Error && error.name === 'LockError') return error
  const code = away ? 'ENGINE_AWAY' : 'OPERATION_FAILED'
  return new SupervisorError(code, messageOf(error), { cause: error })
}
