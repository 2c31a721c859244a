import { setMaxListeners } from 'node:events'
import { within } from '../../../src/deadline.ts'
import { createSlots, type Slots } from '../../../src/engine/slots.ts'
import { messageOf } from '../../../src/errors.ts'
import type { WorkloadType } from '../model.ts'
import { ZosError } from '../zos-error.ts'
import { type Admission, createAdmission } from './admission.ts'
import { Book } from './book.ts'
import { createContracts } from './contracts.ts'
import type { Deployments } from './deployments.ts'
import { bringUp, type Watching, watchDrivers } from './drivers-around.ts'
import { readFolder } from './journal/folder.ts'
import { Keeper } from './keeper.ts'
import { healthOf, logsOf } from './looks.ts'
import { createMemoryGuard } from './memory-guard.ts'
import { NetworksUp } from './networks-up.ts'
import { DEFAULT_LIMITS, DEFAULT_TIMES, type DeploymentsOptions } from './options.ts'
import type { Room } from './room.ts'
import { createRounds } from './rounds.ts'
import { syncAll } from './sync.ts'

/** Types of which so many are worked on at a time unless the options say otherwise. */
const AT_ONCE = 4

/** The deployments of this node, kept in journals below `stateFolder`. Opens nothing before `start`. */
export function createDeployments(options: DeploymentsOptions): Deployments {
  const { registry, drivers, events, log, stateFolder } = options
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const times = { ...DEFAULT_TIMES, ...options.times }
  const ending = new AbortController()
  // As many listen as there is work.
  setMaxListeners(0, ending.signal)
  const book = new Book()
  const slots = new Map<WorkloadType, Slots>()
  const { promise: released, resolve: release } = deferred()
  const room: Room = {
    registry,
    drivers,
    lacks: (type) => options.lacks?.(type),
    events,
    log,
    limits,
    times,
    book,
    contracts: createContracts(registry, times),
    guard: createMemoryGuard(options.facts, () => book.used().mru),
    networks: new NetworksUp(),
    released,
    signal: ending.signal,
    now: options.now ?? Date.now,
    slots(type) {
      const known = slots.get(type) ?? createSlots(limits.atOnce[type] ?? AT_ONCE)
      slots.set(type, known)
      return known
    },
  }
  const rounds = createRounds(() => syncAll(room), times.sync)
  let admission: Admission | undefined
  let watching: Watching | undefined
  let goesUp: Promise<void> | undefined
  let unsubscribe: (() => void) | undefined

  const known = (twinId: number, contractId: bigint): Keeper => {
    const keeper = book.get(twinId, contractId)
    if (!keeper) throw new ZosError('not-found', 'deployment not found')
    return keeper
  }
  const open = (): Admission => {
    if (admission && !ending.signal.aborted) return admission
    throw new ZosError(
      'unavailable',
      'deployments are not taken just now, the node is starting or stopping',
    )
  }

  /** Deployments and updates that are being accepted. */
  const admitting = new Set<Promise<void>>()
  const admit = async (work: Promise<void>): Promise<void> => {
    admitting.add(work)
    try {
      await work
    } finally {
      admitting.delete(work)
    }
  }

  return {
    async start() {
      if (admission || ending.signal.aborted) return
      const { deployments, problems, unreadable, incomplete } = await readFolder(stateFolder)
      for (const problem of problems) {
        log.error(problem)
        events.append(problem, { level: 'error' })
      }
      const repaired: Keeper[] = []
      for (const found of deployments) {
        const keeper = new Keeper(room, found.journal, found.state, false)
        book.add(keeper)
        room.networks.expect(keeper)
        if (found.repaired) repaired.push(keeper)
      }
      for (const keeper of repaired) {
        await keeper.shorten().catch((error) => {
          log.error(`Cannot repair the journal of ${keeper.id}: ${messageOf(error)}`)
        })
      }
      let changes = 0
      admission = createAdmission(room, {
        ...options,
        unreadable,
        changes: () => changes,
        lookAgain: () => void rounds.run(),
      })
      watching = watchDrivers(room)
      unsubscribe = registry.onChange(() => {
        changes++
        void rounds.run()
      })
      goesUp = bringUp(room, () => rounds.run(), !incomplete).then(() => {
        rounds.begin()
        room.networks.begin()
        release()
        for (const keeper of book.all()) keeper.wake()
      })
    },

    async stop() {
      if (ending.signal.aborted) return
      ending.abort(new Error('the node stops'))
      unsubscribe?.()
      rounds.end()
      release()
      const work = [...book.all()].map((keeper) => {
        keeper.stop()
        return keeper.working
      })
      // Whoever reads the journals next has to find what was accepted until now.
      const accepted = within(times.grace, Promise.allSettled(admitting), 'end')
      await Promise.allSettled([goesUp, watching?.ended(), ...work, accepted])
    },

    deploy: async (caller, deployment) => admit(open().deploy(caller, deployment)),
    update: async (caller, deployment) => admit(open().update(caller, deployment)),
    get: (twinId, contractId) => known(twinId, contractId).view(),
    changes: async (twinId, contractId) => known(twinId, contractId).changes(),

    list(twinId) {
      const keepers = twinId === undefined ? book.all() : book.ofTwin(twinId)
      const views = [...keepers].sort(byId).map((keeper) => keeper.view())
      if (twinId === undefined) return views
      return views.filter(({ results }) =>
        results.some(({ state }) => state !== 'deleted' && state !== 'error'),
      )
    },

    running: () => book.running(),
    used: () => book.used(),
    users: () => book.users(),
    health: async (twinId, contractId) => healthOf(room, known(twinId, contractId)),
    logs: async (twinId, contractId, name) => logsOf(room, known(twinId, contractId), name),
    sync: () => rounds.run(),

    async idle() {
      await goesUp
      for (;;) {
        await rounds.running()
        const work = [...book.all()].flatMap(({ working }) => working ?? [])
        if (work.length === 0) return
        await Promise.allSettled(work)
      }
    },
  }
}

function byId(a: Keeper, b: Keeper): number {
  return a.twinId - b.twinId || (a.contractId < b.contractId ? -1 : 1)
}

function deferred() {
  let resolve: () => void = () => undefined
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
