import { DriverError, type Task } from './driver.ts'
import { askRegistry } from './registry-question.ts'

/**
 * GPUs as machine drivers take them (spec §9.6): each belongs to one machine at a time. Both methods
 * may be called again with the same words.
 */
export interface GpuClaims {
  /**
   * @param id `<slot>/<vendor>/<device>`
   * @throws {Error} `unknown GPU id '<id>'`, or that another workload has it.
   */
  claim(id: string, contractId: bigint, workloadId: string): Promise<void>
  /** Gives back everything a workload has. */
  release(workloadId: string): void
  /**
   * What a container engine is asked for: members of `HostConfig.DeviceRequests`.
   *
   * @param ids Claimed before.
   */
  deviceRequests(ids: readonly string[]): unknown
}

/**
 * Takes the GPUs that a machine asks for.
 *
 * @param gpus Undefined where no GPU is known.
 * @throws {Error} Where the node is not rented as a whole, or one of them cannot be given; what was
 *   taken by then is still to be released.
 */
export async function claimGpus(
  task: Task<'zmachine' | 'zmachine-light'>,
  gpus: GpuClaims | undefined,
): Promise<void> {
  const { id, workload, deployment } = task
  const { gpu } = workload.data
  if (gpu.length === 0) return
  const isRented = async () => (await task.rentContract()) !== undefined
  if (!(await askRegistry(task, isRented, true))) {
    throw new DriverError('failed', 'usage of GPU is not allowed unless node is rented')
  }
  for (const one of gpu) {
    if (!gpus) throw new DriverError('failed', `unknown GPU id '${one}'`)
    await gpus.claim(one, deployment.contractId, id)
  }
}
