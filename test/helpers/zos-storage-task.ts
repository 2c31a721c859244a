import type { Task } from '../../plugins/zos/drivers/driver.ts'
import type {
  DataOf,
  Deployment,
  Result,
  Workload,
  WorkloadOf,
  WorkloadType,
} from '../../plugins/zos/model.ts'
import { workloadId } from '../../plugins/zos/model.ts'

export const TWIN = 42
export const CONTRACT = 9007199254740993n

/** A workload as it comes from a deployment. */
export function workloadOf<T extends WorkloadType>(
  type: T,
  name: string,
  data: DataOf[T],
): WorkloadOf<T> {
  return { version: 0, name, type, data, rawData: '{}', metadata: '', description: '' }
}

/** A deployment of these workloads. */
export function deploymentOf(workloads: readonly Workload[]): Deployment {
  return {
    version: 0,
    twinId: TWIN,
    contractId: CONTRACT,
    metadata: '',
    description: '',
    expiration: 0n,
    signatureRequirement: {
      requests: [],
      weightRequired: 0n,
      signatures: [],
      signatureStyle: '',
    },
    workloads,
  }
}

/** What a driver is given for one workload; `more` replaces the rest of it. */
export function taskOf<T extends WorkloadType>(
  workload: WorkloadOf<T>,
  more: Partial<Task<T>> = {},
): Task<T> {
  return {
    id: workloadId(TWIN, CONTRACT, workload.name),
    workload,
    deployment: deploymentOf([workload as Workload]),
    contract: undefined,
    resultOf: () => undefined,
    network: () => undefined,
    running: () => [],
    ownsName: async () => false,
    rentContract: async () => undefined,
    progress: () => undefined,
    signal: new AbortController().signal,
    ...more,
  }
}

/** A result in some state. */
export function resultIn(state: Result['state'], data = 'null'): Result {
  return { created: 1, state, message: '', data }
}
