import { type Driver, DriverError } from '../drivers/driver.ts'
import type { Result, Workload } from '../model.ts'
import { attended, orAborted } from '../waiting.ts'
import type { ResultRecord, WorkloadState } from './journal/records.ts'
import type { Keeper } from './keeper.ts'
import { networkIsRetried, networksBegun } from './named-networks.ts'
import { type Outcome, outcomeOf, resultOf, sameResult } from './outcome.ts'
import type { Room } from './room.ts'
import { rankOf, type WorkloadStep } from './steps.ts'
import { createTask } from './task.ts'
import { writeOutcome } from './write-outcome.ts'

/** Message of the entry of a workload that is not in the new version of its deployment. */
const REMOVED = 'deleted by an update'

/** One step for one workload, and how it is done. */
interface Doing {
  readonly room: Room
  readonly keeper: Keeper
  readonly entry: WorkloadState
  readonly driver: Driver | undefined
  readonly signal: AbortSignal
}

/**
 * Does a step and writes down what came of it. A step that was interrupted has no outcome.
 *
 * @throws {Error} Only when all ends.
 */
export async function runStep(
  room: Room,
  keeper: Keeper,
  step: WorkloadStep,
  entry: WorkloadState,
  signal: AbortSignal,
): Promise<void> {
  const { type } = entry.workload
  const driver = room.drivers.get(type)
  let leave: (() => void) | undefined
  try {
    if (step !== 'remove' && step !== 'pause' && rankOf(type) > rankOf('network-light')) {
      keeper.releaseNetworks()
      await orAborted(room.networks.up, signal)
      await networksBegun(room, keeper, entry.update?.next ?? entry.workload, signal)
    }
    leave = await room.slots(type).take(signal)
  } catch {
    return
  }
  try {
    await STEPS[step]({ room, keeper, entry, driver, signal })
  } finally {
    leave()
  }
}

const STEPS: Readonly<Record<WorkloadStep, (doing: Doing) => Promise<void>>> = {
  provision,
  'take-over': takeOver,
  update,
  remove,
  pause: (doing) => mark(doing, 'paused', 'paused', doing.driver?.pause?.bind(doing.driver)),
  resume: (doing) => mark(doing, 'ok', '', doing.driver?.resume?.bind(doing.driver)),
}

async function provision(doing: Doing): Promise<void> {
  const { room, entry, driver } = doing
  const { workload } = entry
  const outcome = await outcomeOf(() => {
    if (!driver) throw notOffered(room, workload)
    return room.guard.within(workload, () =>
      call(doing, workload, (task) => driver.provision(task)),
    )
  })
  await settle(doing, 'provision', waits(doing, asProvision(outcome)))
}

/** "Nothing to do" is as good as done for what was not done before. */
function asProvision(outcome: Outcome): Outcome {
  if (outcome.state === 'no-action') return { ...outcome, state: 'ok', message: '' }
  return outcome.state === 'unchanged' ? { ...outcome, state: 'error' } : outcome
}

/** What fails while something beside it waits for another attempt waits, too: it may need that. */
function waits({ room, keeper, entry: { workload } }: Doing, outcome: Outcome): Outcome {
  if (outcome.state !== 'error' || outcome.transient) return outcome
  const others = [...keeper.state.workloads.values()]
  const waiting = others.some(
    (other) =>
      other.retry &&
      other.workload.name !== workload.name &&
      rankOf(other.workload.type) < rankOf(workload.type),
  )
  return waiting || networkIsRetried(room, keeper, workload)
    ? { ...outcome, transient: true }
    : outcome
}

async function takeOver(doing: Doing): Promise<void> {
  const { room, keeper, entry, driver } = doing
  const { workload, result } = entry
  const outcome = await outcomeOf(async () => {
    // Whatever is missing here may be there after the next start.
    if (!driver) throw new DriverError('transient', notOffered(room, workload).message)
    const data = await call(doing, workload, (task) => driver.provision(task))
    if (result.state === 'paused' && keeper.state.want.state === 'paused' && driver.pause) {
      await call(doing, workload, (task) => driver.pause?.(task) ?? Promise.resolve())
    }
    return data
  })
  if (outcome.state === 'no-action') return
  if (outcome.state === 'ok' && outcome.data === result.data) return
  const { state, message } = result
  const kept = outcome.state === 'ok' ? { ...outcome, state, message } : asProvision(outcome)
  await settle(doing, 'provision', kept)
}

async function update(doing: Doing): Promise<void> {
  const { room, entry, driver } = doing
  const { result } = entry
  const { next, previous } = entry.update as NonNullable<WorkloadState['update']>
  const isPaused = result.state === 'paused'
  const outcome = await outcomeOf(async () => {
    if (!driver) throw notOffered(room, next)
    // What does not run has nothing to change yet.
    let data: unknown
    if (result.state === 'init' || result.state === 'error') {
      data = await call(doing, next, (task) => driver.provision(task))
      if (result.state === 'init') return data
    }
    data = await call(doing, next, (task) => {
      if (!driver.update) throw new Error(`workload '${next.type}' does not support upgrade`)
      return driver.update({ ...task, previous: previous.data })
    })
    // It may have begun to run by that.
    if (isPaused) await call(doing, next, (task) => driver.pause?.(task) ?? Promise.resolve())
    return data
  })
  if (isPaused && outcome.state === 'ok') {
    return settle(doing, 'update', { ...outcome, state: 'paused', message: 'paused' }, next)
  }
  if (outcome.state !== 'no-action') return settle(doing, 'update', outcome, next)
  const okay: Result =
    result.state === 'error' || result.state === 'init'
      ? { ...resultOf({ ...outcome, state: 'ok' }, doing.room.now()), message: '' }
      : result
  await write(doing, {
    record: 'result',
    name: next.name,
    of: 'update',
    workload: next,
    result: okay,
    retry: false,
  })
}

async function remove(doing: Doing): Promise<void> {
  const { room, keeper, entry, driver } = doing
  const { workload, result } = entry
  const { want } = keeper.state
  const outcome = await outcomeOf(async () => {
    if (driver) await call(doing, workload, (task) => driver.deprovision(task))
    else if (entry.everOkay) throw notOffered(room, workload)
  })
  if (outcome.state === 'ok') {
    const message = want.state === 'ended' ? want.message : REMOVED
    await settle(doing, 'remove', { ...outcome, state: 'deleted', message, data: 'null' })
    keeper.backOff.forget(workload.name)
    return
  }
  // It stays, with what is known of it, until it can be removed.
  await settle(doing, 'remove', { ...outcome, state: 'error', data: result.data, transient: true })
}

async function mark(
  doing: Doing,
  state: 'ok' | 'paused',
  message: string,
  work: Driver['pause'],
): Promise<void> {
  const { room, keeper, entry } = doing
  const { workload, result } = entry
  const { name } = workload
  const outcome = await outcomeOf(async () => {
    if (work) await call(doing, workload, work)
  })
  if (outcome.state === 'ok' || outcome.state === 'no-action') {
    const { data } = result
    return settle(doing, 'mark', { state, message, data, transient: false })
  }
  if (doing.signal.aborted) return
  // It is as it was before; only the log says so.
  const { attempt, waits } = keeper.backOff.failed(name)
  room.log.warn(
    `Cannot make workload ${keeper.idOf(name)} ${state}, attempt ${attempt}: ${outcome.message}; tried again in ${waits} ms`,
  )
}

function call<T>(
  { room, keeper, signal }: Doing,
  workload: Workload,
  work: (task: ReturnType<typeof createTask>) => Promise<T>,
): Promise<T> {
  return attended(room.times, signal, (limited) =>
    work(
      createTask(room, keeper, workload, limited, (text) => keeper.progress(workload.name, text)),
    ),
  )
}

/** Writes an outcome, unless the step was interrupted, or there is nothing new in it. */
async function settle(
  doing: Doing,
  of: ResultRecord['of'],
  outcome: Outcome,
  next?: Workload,
): Promise<void> {
  const { room, keeper, entry, signal } = doing
  const { name } = entry.workload
  const failed = outcome.state === 'error'
  if (failed && signal.aborted) return
  const id = keeper.idOf(name)
  if (failed && outcome.transient) {
    const { attempt, waits } = keeper.backOff.failed(name)
    room.log.warn(
      `Workload ${id} failed, attempt ${attempt}: ${outcome.message}; tried again in ${waits} ms`,
    )
  } else {
    keeper.backOff.succeeded(name)
    room.log[failed ? 'warn' : 'info'](`Workload ${id} is ${describe(outcome)}`)
  }
  const result = resultOf(outcome, room.now())
  const retry = failed && outcome.transient
  const record = { record: 'result', name, of, result, retry } as const
  const known = next === undefined || sameWorkload(next, entry.workload)
  if (retry && entry.retry && known && sameResult(result, entry.result)) return
  await write(doing, next ? { ...record, workload: next } : record)
  room.events.append(`workload ${id} is ${describe(outcome)}`, {
    level: failed ? 'error' : 'info',
  })
}

function sameWorkload(a: Workload, b: Workload): boolean {
  return a.version === b.version && a.rawData === b.rawData
}

function write({ room, keeper }: Doing, record: ResultRecord): Promise<void> {
  return writeOutcome(room, keeper, record)
}

function describe({ state, message }: Outcome): string {
  return message === '' || message === state ? state : `${state}: ${message}`
}

/** For a type without a driver: for good, or until this host has what it lacks. */
function notOffered(room: Room, { type }: Workload): DriverError {
  const message = `this node does not offer workloads of type '${type}'`
  const why = room.lacks(type)
  if (why === undefined) return new DriverError('failed', message)
  return new DriverError('transient', `${message} now: ${why}`)
}
