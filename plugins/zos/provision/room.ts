import type { Slots } from '../../../src/engine/slots.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import type { Driver } from '../drivers/driver.ts'
import type { WorkloadType } from '../model.ts'
import type { Registry } from '../registry/registry.ts'
import type { Book } from './book.ts'
import type { Contracts } from './contracts.ts'
import type { MemoryGuard } from './memory-guard.ts'
import type { NetworksUp } from './networks-up.ts'
import type { Limits, Log, Times } from './options.ts'

/** What all deployments have in common. */
export interface Room {
  readonly registry: Registry
  readonly contracts: Contracts
  readonly drivers: ReadonlyMap<WorkloadType, Driver>
  /** See `DeploymentsOptions.lacks`. */
  lacks(type: WorkloadType): string | undefined
  readonly guard: MemoryGuard
  readonly book: Book
  readonly limits: Limits
  readonly times: Times
  readonly events: EventSink
  readonly log: Log
  /** Milliseconds since 1970. */
  now(): number
  /** Places for the work on one type. */
  slots(type: WorkloadType): Slots
  readonly networks: NetworksUp
  /** Resolves when work may begin: the registry was asked, and left-overs are gone. */
  readonly released: Promise<void>
  /** Aborts when all ends. */
  readonly signal: AbortSignal
}
