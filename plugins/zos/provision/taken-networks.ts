import { type Book, isNetwork } from './book.ts'
import type { DeploymentState } from './journal/apply.ts'

/** Names of networks that a deployment has taken: no other one of its twin may use them. */
export class TakenNetworks {
  readonly #book: Book
  /** What gives each of them back. */
  readonly #taken = new Map<string, () => void>()

  constructor(book: Book) {
    this.#book = book
  }

  /** Has those of a state, and no others. */
  follow({ header: { twinId, contractId }, workloads }: DeploymentState): void {
    const names = new Set<string>()
    for (const { workload } of workloads.values()) if (isNetwork(workload)) names.add(workload.name)
    for (const name of names) {
      if (this.#taken.has(name)) continue
      this.#taken.set(name, this.#book.takeNetwork(twinId, name, contractId))
    }
    for (const [name, giveBack] of this.#taken) {
      if (names.has(name)) continue
      giveBack()
      this.#taken.delete(name)
    }
  }

  /** Has none any more. */
  giveBack(): void {
    for (const giveBack of this.#taken.values()) giveBack()
    this.#taken.clear()
  }
}
