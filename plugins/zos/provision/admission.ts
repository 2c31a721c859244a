import { errnoOf } from '../../../src/errors.ts'
import { planUpgrade, type UpgradeOperation } from '../deployment/upgrade.ts'
import type { Deployment, Workload } from '../model.ts'
import { ZosError } from '../zos-error.ts'
import { isNetwork } from './book.ts'
import { apply, type DeploymentState } from './journal/apply.ts'
import { journalPath } from './journal/folder.ts'
import { Journal } from './journal/journal.ts'
import type { Header } from './journal/records.ts'
import { Keeper } from './keeper.ts'
import type { DeploymentsOptions } from './options.ts'
import { ending, full, missing, notStored } from './refusals.ts'
import type { Room } from './room.ts'
import { createRules } from './rules.ts'

/** What accepts deployments and updates: every check, then the journal, then the answer. */
export interface Admission {
  deploy(caller: number, deployment: Deployment): Promise<void>
  update(caller: number, deployment: Deployment): Promise<void>
}

export interface AdmissionOptions
  extends Pick<DeploymentsOptions, 'stateFolder' | 'verify' | 'kyc' | 'check'> {
  /** Paths of journals that must not be written over. */
  readonly unreadable: ReadonlySet<string>
  /** How often the registry told that something changed. */
  changes(): number
  /** Asks about all contracts again. */
  lookAgain(): void
}

export function createAdmission(room: Room, options: AdmissionOptions): Admission {
  const { mustBeTaken, mustFit, mustHaveNetworkNames, sized } = createRules(room)
  /** Twins of the deployments that are just being accepted, by the id of each. */
  const accepting = new Map<string, number>()
  /** The last update of a deployment, and how many wait for it. */
  const updating = new Map<string, { last: Promise<unknown>; waiting: number }>()

  const who = async (caller: number, deployment: Deployment) => {
    const { twinId } = deployment
    if (twinId !== caller) {
      const message = `twin id mismatch (deployment: ${twinId}, message: ${caller})`
      throw new ZosError('forbidden', message)
    }
    await options.kyc?.(twinId, room.signal)
    await options.verify(deployment)
  }

  /** After this a journal is written, which nobody would look at any more. */
  const mustGoOn = () => {
    if (room.signal.aborted) throw full('deployments are not taken just now, the node is stopping')
  }

  /** Takes names of networks at once, so that no other deployment gets them meanwhile. */
  const takingNetworks = async (
    { twinId, contractId }: Deployment,
    workloads: readonly Workload[],
    work: () => Promise<void>,
  ) => {
    const names = workloads
      .filter(isNetwork)
      .map(({ name }) => room.book.takeNetwork(twinId, name, contractId))
    try {
      await work()
    } catch (error) {
      for (const giveBack of names) giveBack()
      throw error
    }
  }

  /** What the registry told while something was accepted may have missed it. */
  const notMissingNews = async (work: () => Promise<void>) => {
    const before = options.changes()
    await work()
    if (options.changes() !== before) options.lookAgain()
  }

  const accept = async (deployment: Deployment) => {
    const { twinId, contractId, workloads } = deployment
    await takingNetworks(deployment, workloads, async () => {
      const { contract, isPaused } = await room.contracts.check(deployment, room.signal)
      mustGoOn()
      const header = headerOf(deployment)
      const record = sized({ record: 'deploy', at: seconds(room), header, contract, workloads })
      const path = journalPath(options.stateFolder, twinId, contractId)
      const journal = await Journal.create(path, record).catch(notStored)
      const state = apply(undefined, record) as DeploymentState
      const keeper = new Keeper(room, journal, state, true)
      room.book.add(keeper)
      room.events.append(`deployment ${keeper.id} was accepted, ${workloads.length} workloads`)
      if (isPaused) await keeper.demand({ state: 'paused' })
      keeper.wake()
    })
  }

  const revise = async (keeper: Keeper, next: Deployment) => {
    const plan = () => {
      if (keeper.erased) throw missing('deployment')
      return planned(room, keeper, next, options.check)
    }
    const first = plan()
    mustFit(next)
    const added = first.filter(({ op }) => op === 'add').map(({ workload }) => workload)
    mustHaveNetworkNames(keeper.twinId, keeper.contractId, added)
    await takingNetworks(next, added, async () => {
      const { contract, isPaused } = await room.contracts.check(next, room.signal)
      mustGoOn()
      // Work went on meanwhile.
      const operations = plan()
      if (keeper.state.want.state === 'ended') throw ending()
      const of = (op: UpgradeOperation['op']) =>
        operations.filter((one) => one.op === op).map(({ workload }) => workload)
      const gone = of('remove').map(({ name }) => name)
      const record = sized({
        record: 'update',
        at: seconds(room),
        header: headerOf(next),
        contract,
        order: next.workloads.map(({ name }) => name),
        add: of('add'),
        update: of('update'),
        remove: gone,
      })
      await keeper.record(record).catch((error) => {
        if (errnoOf(error) === 'ENOENT') throw missing('deployment')
        return notStored(error)
      })
      keeper.contract = contract
      for (const name of gone) keeper.interrupt(name)
      for (const { name } of operations.map(({ workload }) => workload)) {
        keeper.backOff.succeeded(name)
      }
      room.events.append(`deployment ${keeper.id} was updated to version ${next.version}`)
      if (isPaused) await keeper.demand({ state: 'paused' })
      keeper.wake()
    })
  }

  return {
    async deploy(caller, deployment) {
      await who(caller, deployment)
      const { version, twinId, contractId } = deployment
      if (version !== 0) {
        throw new ZosError(
          'invalid',
          'expected version to be 0 on deployment creation: invalid version',
        )
      }
      const id = `${twinId}-${contractId}`
      if (room.book.get(twinId, contractId) || accepting.has(id)) {
        throw new ZosError('conflict', 'exists')
      }
      if (options.unreadable.has(journalPath(options.stateFolder, twinId, contractId))) {
        const message = `the journal of deployment ${id} cannot be read, the node's operator has to look after it`
        throw new ZosError('failed', message)
      }
      mustBeTaken(deployment, accepting.values())
      accepting.set(id, twinId)
      try {
        await notMissingNews(() => accept(deployment))
      } finally {
        accepting.delete(id)
      }
    },

    async update(caller, deployment) {
      await who(caller, deployment)
      const { twinId, contractId } = deployment
      const keeper = room.book.get(twinId, contractId)
      if (!keeper) throw missing(room.book.ofTwin(twinId).size === 0 ? 'twin' : 'deployment')
      const turn = updating.get(keeper.id) ?? { last: Promise.resolve(), waiting: 0 }
      if (turn.waiting >= room.limits.waitingUpdates) {
        throw full(`${turn.waiting} updates of deployment ${keeper.id} are waiting already`)
      }
      turn.waiting++
      updating.set(keeper.id, turn)
      const mine = turn.last.then(() => notMissingNews(() => revise(keeper, deployment)))
      turn.last = mine.catch(() => undefined)
      try {
        await mine
      } finally {
        turn.waiting--
        if (turn.waiting === 0) updating.delete(keeper.id)
      }
    },
  }
}

/** What an update does to a deployment as it was accepted last, whatever of that is done by now. */
function planned(
  room: Room,
  keeper: Keeper,
  next: Deployment,
  check: DeploymentsOptions['check'],
): readonly UpgradeOperation[] {
  const entries = [...keeper.state.workloads.values()]
  const workloads = entries
    .filter(({ removing }) => !removing)
    .map(({ workload, update }) => update?.next ?? workload)
  const operations = planUpgrade({ ...keeper.state.header, workloads }, next, {
    ...check,
    canUpdate: (type) => room.drivers.get(type)?.update !== undefined,
  })
  for (const { removing, workload } of entries) {
    if (!removing || !next.workloads.some(({ name }) => name === workload.name)) continue
    throw new ZosError(
      'conflict',
      `workload '${workload.name}' is still being removed, try again later: upgrade validation error`,
    )
  }
  return operations
}

function headerOf({ workloads: _, ...header }: Deployment): Header {
  return header
}

function seconds(room: Room): number {
  return Math.floor(room.now() / 1000)
}
