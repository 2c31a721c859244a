import type { Form } from '../../json/form.ts'
import type { Capacity, DataOf, WorkloadType } from '../../model.ts'
import { ZosError } from '../../zos-error.ts'

/** All that is particular to one type of workload: a new type is one of these and its model. */
export interface WorkloadKind<T extends WorkloadType> {
  readonly form: Form<DataOf[T]>
  /**
   * The rules of its data (spec zos §4.5).
   *
   * @throws {ZosError} `invalid`
   */
  check(data: DataOf[T], neighbours: Neighbours): void
  /** Its part of the text that is hashed (spec zos §5). */
  challenge(data: DataOf[T]): string
  /** What it counts for; nothing when absent. */
  capacity?(data: DataOf[T]): Partial<Capacity>
  /** Whether the reference can update it (spec zos §7.4). */
  readonly updatable: boolean
}

/** What rules may ask about the other workloads of the deployment. */
export interface Neighbours {
  /** Undefined when there is none of that name. */
  typeOf(name: string): string | undefined
  /** How many zmachines have this public IP. */
  publicIpUsers(name: string): number
  /** Repeats mistakes of the reference that accept too much (§15.5). */
  readonly referenceSlips: boolean
}

/** @throws {ZosError} Unless a rule is kept. */
export function must(kept: boolean, message: string): asserts kept {
  if (!kept) throw new ZosError('invalid', message)
}

/** An unset address in the hashed text. */
export const unset = (text: string) => (text === '' ? '<nil>' : text)
