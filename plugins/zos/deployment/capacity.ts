import { type Capacity, NO_CAPACITY, type WorkloadOf, type WorkloadType } from '../model.ts'
import { kindOf } from './types/kinds.ts'

export { rootSizeOf } from './types/machines.ts'

/** What a workload counts for while it is okay (spec zos §4.5). */
export function capacityOf<T extends WorkloadType>(workload: WorkloadOf<T>): Capacity {
  return { ...NO_CAPACITY, ...kindOf(workload.type).capacity?.(workload.data) }
}
