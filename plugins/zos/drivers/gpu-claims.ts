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

/** Where the whole node is not rented (spec §9.6). */
export const GPU_NOT_RENTED = 'usage of GPU is not allowed unless node is rented'

/** For an id that nobody knows. */
export function unknownGpu(id: string): string {
  return `unknown GPU id '${id}'`
}
