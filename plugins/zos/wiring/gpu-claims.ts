import type { Gpus } from '../../../src/gpu/gpus.ts'
import type { GpuClaims } from '../drivers/gpu-claims.ts'

const OWNER = 'zos'

const NVIDIA = '10de'
const NO_DRIVER = 'nvidia-smi does not tell its UUID, load its driver'
const NOT_NVIDIA = "engines take NVIDIA's only, it takes a virtual machine"

/** The machine's GPUs as machine drivers take them. */
export function gpuClaims(gpus: Gpus): GpuClaims {
  /** Id → NVIDIA's name, of those that were claimed: the engine is asked without waiting. */
  const uuids = new Map<string, string>()
  return {
    async claim(id, contractId, workloadId) {
      await gpus.claim([id], { owner: OWNER, workload: workloadId, contract: contractId })
      const found = (await gpus.list()).find((gpu) => gpu.id === id)
      uuids.set(id, found?.uuid ?? '')
    },
    release: (workloadId) => gpus.release(OWNER, workloadId),
    deviceRequests(ids) {
      if (ids.length === 0) return []
      return [{ Driver: 'nvidia', DeviceIDs: ids.map(uuidOf), Capabilities: [['gpu']] }]
    },
  }

  function uuidOf(id: string): string {
    const uuid = uuids.get(id)
    if (uuid) return uuid
    const why = id.split('/')[1] === NVIDIA ? NO_DRIVER : NOT_NVIDIA
    throw new Error(`Cannot give GPU '${id}' to a container: ${why}`)
  }
}
