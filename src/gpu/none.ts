import { GpuError, type Gpus } from './gpus.ts'

/** The GPUs of a machine that has none. */
export const NO_GPUS: Gpus = {
  list: () => Promise.resolve([]),
  states: () => Promise.resolve([]),
  claim: async ([id]) => {
    if (id !== undefined) throw new GpuError('GPU_UNKNOWN', id, `unknown GPU id '${id}'`)
  },
  release: () => undefined,
  holder: () => undefined,
}
