import { errnoOf, messageOf } from '../../../src/errors.ts'
import { type Deployment, isOkay, workloadId } from '../model.ts'
import type { NodeContract } from '../registry/registry.ts'
import { ZosError } from '../zos-error.ts'
import { BackOff } from './back-off.ts'
import type { DeploymentView, WorkloadView } from './deployments.ts'
import { apply, type DeploymentState } from './journal/apply.ts'
import type { Journal } from './journal/journal.ts'
import type { JournalRecord, Want } from './journal/records.ts'
import { replay } from './journal/replay.ts'
import { shorten } from './journal/shorten.ts'
import { boundedMessage } from './outcome.ts'
import type { Room } from './room.ts'
import { nextStep } from './steps.ts'
import { TakenNetworks } from './taken-networks.ts'
import { runStep } from './work.ts'
import { writeOutcome } from './write-outcome.ts'

/** Keeps one deployment as it is to be: one step after the other, each outcome in its journal. */
export class Keeper {
  readonly #room: Room
  readonly #journal: Journal
  #state: DeploymentState
  #contract: NodeContract
  /** Names of workloads that ran before the daemon started, and were not looked at yet. */
  readonly #toTakeOver: Set<string>
  readonly backOff: BackOff
  readonly #progress = new Map<string, string>()
  readonly #crashed = new Map<string, string>()
  readonly #networks: TakenNetworks
  #working: Promise<void> | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  /** The step that goes on. */
  #step: { readonly name: string; readonly controller: AbortController } | undefined
  #shortAt: number
  /** Something changed since the worker looked for the next step. */
  #again = false
  #erased = false

  /** @param isNew Whether it was just accepted, and not found at the start. */
  constructor(room: Room, journal: Journal, state: DeploymentState, isNew: boolean) {
    this.#room = room
    this.#journal = journal
    this.#state = state
    this.#contract = state.contract
    this.#shortAt = journal.size
    this.backOff = new BackOff(room.times)
    this.#networks = new TakenNetworks(room.book)
    const entries = isNew ? [] : [...state.workloads.values()]
    this.#toTakeOver = new Set(
      entries
        .filter(({ result, removing }) => isOkay(result) && !removing)
        .map(({ workload }) => workload.name),
    )
    this.#networks.follow(this.#state)
  }

  get id(): string {
    return `${this.twinId}-${this.contractId}`
  }

  get twinId(): number {
    return this.#state.header.twinId
  }

  get contractId(): bigint {
    return this.#state.header.contractId
  }

  get state(): DeploymentState {
    return this.#state
  }

  /** As it was seen last. */
  get contract(): NodeContract {
    return this.#contract
  }

  set contract(contract: NodeContract) {
    this.#contract = contract
  }

  get erased(): boolean {
    return this.#erased
  }

  /** What goes on, if anything. */
  get working(): Promise<void> | undefined {
    return this.#working
  }

  /** Says that machines of other deployments need not wait for networks of this one. */
  releaseNetworks(): void {
    this.#room.networks.done(this)
  }

  idOf(name: string): string {
    return workloadId(this.twinId, this.contractId, name)
  }

  deployment(): Deployment {
    const workloads = [...this.#state.workloads.values()].map(({ workload }) => workload)
    return { ...this.#state.header, workloads }
  }

  view(): DeploymentView {
    const results = [...this.#state.workloads.values()].map((entry) => this.#shown(entry).result)
    return { deployment: this.deployment(), results }
  }

  /**
   * The history, oldest first.
   *
   * @throws {ZosError} `not-found` when it has just been erased.
   */
  async changes(): Promise<readonly WorkloadView[]> {
    const history: WorkloadView[] = []
    const bytes = await this.#journal.read().catch((cause) => {
      if (errnoOf(cause) !== 'ENOENT') throw cause
      throw new ZosError('not-found', 'deployment not found', { cause })
    })
    replay(bytes, (entry) => history.push(entry))
    // Only the last `init` of a workload that still is.
    for (const [name, { result }] of this.#state.workloads) {
      if (result.state !== 'init' || !this.#progress.has(name)) continue
      const at = history.findLastIndex((entry) => entry.workload.name === name)
      const entry = history[at]
      if (entry) history[at] = this.#shown(entry)
    }
    return history
  }

  #shown({ workload, result }: WorkloadView): WorkloadView {
    const message = result.state === 'init' ? this.#progress.get(workload.name) : undefined
    return { workload, result: message === undefined ? result : { ...result, message } }
  }

  /**
   * Writes a record, and does with it what it says.
   *
   * @throws {Error} The system error; nothing changed.
   */
  async record(record: JournalRecord): Promise<void> {
    await this.#journal.append(record)
    this.applyOnly(record)
    await this.#shortenIfLong()
  }

  /** Does what a record says though it is not on disk: where the registry will say it again. */
  applyOnly(record: JournalRecord): void {
    this.#state = apply(this.#state, record) ?? this.#state
    this.#networks.follow(this.#state)
    this.#room.book.changed()
  }

  /** Writes the journal anew, such as after a repair. */
  async shorten(): Promise<void> {
    const { history, journalBytes } = this.#room.limits
    await this.#journal.rewrite((bytes) => shorten(bytes, history, journalBytes / 2))
    this.#shortAt = this.#journal.size
  }

  async #shortenIfLong(): Promise<void> {
    const { size } = this.#journal
    if (size <= this.#room.limits.journalBytes || size < 2 * this.#shortAt) return
    await this.shorten().catch((error) => {
      this.#shortAt = size
      this.#room.log.warn(`Cannot shorten the journal of ${this.id}: ${messageOf(error)}`)
    })
  }

  /** Changes what the contract demands, and begins to follow. */
  async demand(want: Want): Promise<void> {
    const now = this.#state.want
    if (now.state === 'ended' || now.state === want.state) return
    const record = { record: 'want', want } as const
    await this.record(record).catch((error) => {
      // It frees the disk in the end; after a restart the registry says it again.
      this.#room.log.warn(`Cannot write the journal of ${this.id}: ${messageOf(error)}`)
      this.applyOnly(record)
    })
    if (want.state === 'ended') {
      this.#toTakeOver.clear()
      this.releaseNetworks()
      this.interrupt()
    }
    this.backOff.clear()
    this.wake()
  }

  /** A driver says that a workload ended by itself. */
  crashed(name: string, reason: string): void {
    if (this.#crashed.size >= this.#room.limits.workloads) return
    this.#crashed.set(name, boundedMessage(reason))
    this.wake()
  }

  progress(name: string, text: string): void {
    this.#progress.set(name, boundedMessage(text))
  }

  /** Ends the step that goes on, of this workload or of any; it counts as not done. */
  interrupt(name?: string): void {
    if (!this.#step || (name !== undefined && name !== this.#step.name)) return
    this.#step.controller.abort(new Error('it is not wanted any more'))
  }

  /** Ends what goes on; nothing begins afterwards. */
  stop(): void {
    clearTimeout(this.#timer)
    this.interrupt()
  }

  /** Looks for work. */
  wake(): void {
    clearTimeout(this.#timer)
    this.#again = true
    if (this.#working || this.#room.signal.aborted || this.#erased) return
    this.#working = this.#work()
      .catch((error) => {
        if (this.#room.signal.aborted) return
        this.#room.log.error(`Work on deployment ${this.id} failed: ${messageOf(error)}`, { error })
      })
      .finally(() => {
        this.#working = undefined
        this.releaseNetworks()
        this.#rest()
      })
  }

  async #work(): Promise<void> {
    await this.#room.released
    while (!this.#room.signal.aborted) {
      this.#again = false
      await this.#noteCrashes()
      const step = nextStep(this.#state, {
        isDue: (name) => this.backOff.isDue(name),
        isToTakeOver: (name) => this.#toTakeOver.has(name),
        canPause: (type) => this.#room.drivers.get(type)?.pause !== undefined,
      })
      if (!step && this.#again) continue
      if (!step) return
      if (step.do === 'erase') return this.#erase()
      const { name } = step.entry.workload
      const controller = new AbortController()
      this.#step = { name, controller }
      try {
        await runStep(this.#room, this, step.do, step.entry, controller.signal)
      } finally {
        this.#step = undefined
        this.#progress.delete(name)
        if (step.do === 'take-over') this.#toTakeOver.delete(name)
      }
    }
  }

  async #noteCrashes(): Promise<void> {
    for (const [name, reason] of this.#crashed) {
      this.#crashed.delete(name)
      const entry = this.#state.workloads.get(name)
      const over = this.#state.want.state === 'ended' || entry?.removing
      if (!entry || over || !isOkay(entry.result)) continue
      const restart = this.backOff.crashed(name)
      const { log, events, now } = this.#room
      const text = `Workload ${this.idOf(name)} ended by itself: ${reason}`
      log.warn(restart ? `${text}; it is started again` : `${text}; it is not started again`)
      events.append(text, { level: restart ? 'warn' : 'error' })
      const message = restart ? reason : `${reason}; not started again, it ended too often`
      await writeOutcome(this.#room, this, {
        record: 'result',
        name,
        of: 'mark',
        result: {
          ...entry.result,
          created: Math.floor(now() / 1000),
          state: 'error',
          message,
        },
        retry: restart,
      })
    }
  }

  async #erase(): Promise<void> {
    await this.#journal.erase().catch((error) => {
      this.backOff.failed('')
      throw error
    })
    this.#erased = true
    this.#networks.giveBack()
    this.#room.book.remove(this)
    this.#room.events.append(`deployment ${this.id} is over and erased`)
  }

  /** Comes back when something is due that is not yet. */
  #rest(): void {
    if (this.#room.signal.aborted || this.#erased) return
    if (this.#again) {
      this.wake()
      return
    }
    const ms = this.backOff.untilDue()
    if (ms !== undefined) this.#timer = setTimeout(() => this.wake(), ms)
  }
}
