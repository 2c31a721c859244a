import { capacityOf } from '../deployment/capacity.ts'
import type { RunningWorkload, SharedNetwork } from '../drivers/driver.ts'
import { type Capacity, isOkay, NO_CAPACITY, type Workload, workloadId } from '../model.ts'
import type { Deployments } from './deployments.ts'
import type { Keeper } from './keeper.ts'

/** All deployments of this node, in memory. */
export class Book {
  readonly #all = new Map<string, Keeper>()
  readonly #ofTwin = new Map<number, Set<Keeper>>()
  /** Who has a network, by twin and name. */
  readonly #networks = new Map<string, bigint>()
  #change: Promise<void> | undefined
  #tell: (() => void) | undefined
  readonly #capacities = new WeakMap<Workload, Capacity>()
  #sums: { readonly used: Capacity; readonly users: ReturnType<Deployments['users']> } | undefined

  get size(): number {
    return this.#all.size
  }

  all(): Iterable<Keeper> {
    return this.#all.values()
  }

  ofTwin(twinId: number): ReadonlySet<Keeper> {
    return this.#ofTwin.get(twinId) ?? NONE
  }

  get(twinId: number, contractId: bigint): Keeper | undefined {
    return this.#all.get(`${twinId}-${contractId}`)
  }

  add(keeper: Keeper): void {
    this.#all.set(keeper.id, keeper)
    const own = this.#ofTwin.get(keeper.twinId) ?? new Set()
    this.#ofTwin.set(keeper.twinId, own.add(keeper))
    this.changed()
  }

  remove(keeper: Keeper): void {
    this.#all.delete(keeper.id)
    const own = this.#ofTwin.get(keeper.twinId)
    own?.delete(keeper)
    if (own?.size === 0) this.#ofTwin.delete(keeper.twinId)
    this.changed()
  }

  /** To be called after any workload changed: sums are made anew. */
  changed(): void {
    this.#sums = undefined
    this.#tell?.()
    this.#change = this.#tell = undefined
  }

  /** Resolves with the next change. */
  change(): Promise<void> {
    this.#change ??= new Promise((resolve) => {
      this.#tell = resolve
    })
    return this.#change
  }

  /** The deployment of a twin that has a network of this name, or is about to. */
  networkOwner(twinId: number, name: string): bigint | undefined {
    return this.#networks.get(`${twinId}/${name}`)
  }

  /** Takes the name of a network for a deployment; the answer gives it back. */
  takeNetwork(twinId: number, name: string, contractId: bigint): () => void {
    const key = `${twinId}/${name}`
    this.#networks.set(key, contractId)
    return () => {
      if (this.#networks.get(key) === contractId) this.#networks.delete(key)
    }
  }

  /** A network that runs. */
  network(twinId: number, name: string): SharedNetwork | undefined {
    const contractId = this.networkOwner(twinId, name)
    if (contractId === undefined) return undefined
    const entry = this.get(twinId, contractId)?.state.workloads.get(name)
    if (!entry || !isNetwork(entry.workload) || !isOkay(entry.result)) return undefined
    return { id: workloadId(twinId, contractId, name), workload: entry.workload }
  }

  *running(): Iterable<RunningWorkload> {
    for (const { twinId, contractId, state } of this.#all.values()) {
      for (const { workload, result } of state.workloads.values()) {
        if (!isOkay(result)) continue
        yield {
          id: workloadId(twinId, contractId, workload.name),
          twinId,
          contractId,
          workload,
          result,
        }
      }
    }
  }

  used(): Capacity {
    return this.#summed().used
  }

  users(): ReturnType<Deployments['users']> {
    return this.#summed().users
  }

  /** A workload never changes: an update makes another one. */
  #capacityOf(workload: Workload): Capacity {
    const known = this.#capacities.get(workload) ?? capacityOf(workload)
    this.#capacities.set(workload, known)
    return known
  }

  #summed() {
    if (this.#sums) return this.#sums
    let used = NO_CAPACITY
    let workloads = 0
    let lastDeploymentTimestamp = 0
    const deployments = new Set<string>()
    for (const { twinId, contractId, workload, result } of this.running()) {
      const { cru, sru, hru, mru, ipv4u } = this.#capacityOf(workload)
      used = {
        cru: used.cru + cru,
        sru: used.sru + sru,
        hru: used.hru + hru,
        mru: used.mru + mru,
        ipv4u: used.ipv4u + ipv4u,
      }
      workloads++
      deployments.add(`${twinId}-${contractId}`)
      lastDeploymentTimestamp = Math.max(lastDeploymentTimestamp, result.created)
    }
    const users = { deployments: deployments.size, workloads, lastDeploymentTimestamp }
    this.#sums = { used, users }
    return this.#sums
  }
}

const NONE: ReadonlySet<never> = new Set()

/** Whether deployments of the same twin may use it by its name. */
export function isNetwork(workload: Workload): workload is SharedNetwork['workload'] {
  return workload.type === 'network' || workload.type === 'network-light'
}
