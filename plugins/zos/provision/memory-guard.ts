import { capacityOf } from '../deployment/capacity.ts'
import type { Workload } from '../model.ts'
import type { DeploymentsOptions } from './options.ts'

/** Keeps machines from being given memory that is not there (§7.3). */
export interface MemoryGuard {
  /**
   * Runs work that makes a workload run, with its memory set aside meanwhile.
   *
   * @throws {Error} `failed to satisfy required capacity: …`; the work was not begun.
   */
  within<T>(workload: Workload, work: () => Promise<T>): Promise<T>
}

/** @param used Bytes that okay workloads count for. */
export function createMemoryGuard(
  facts: DeploymentsOptions['facts'],
  used: () => bigint,
): MemoryGuard {
  /** For machines that are just being made, several at a time. */
  let begun = 0n
  return {
    async within(workload, work) {
      const required = capacityOf(workload).mru
      if (facts && required > 0n) {
        const { total, system } = await facts.capacity()
        const available = await facts.availableMemory()
        const inUse = largest(used() + system.mru, total.mru - available) + begun
        const usable = largest(0n, total.mru - inUse)
        if (required > usable) {
          throw new Error(
            `failed to satisfy required capacity: cannot fulfil required memory size ${required} bytes out of usable ${usable} bytes`,
          )
        }
      }
      begun += required
      try {
        return await work()
      } finally {
        begun -= required
      }
    },
  }
}

function largest(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
