import { FileTransport } from '../../src/device/file-transport.ts'
import type { Gpus } from '../../src/gpu/gpus.ts'
import { MachineGpus } from '../../src/gpu/machine-gpus.ts'

/** The GPUs that a fixture tree shows. */
export function gpusBelow(root: string): Gpus {
  return new MachineGpus({ transport: new FileTransport(root), root })
}
