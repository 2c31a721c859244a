import { ApiError } from '../errors.ts'
import type { Attester } from './attester.ts'

/** The attester of a machine that can prove nothing. */
export const NO_ATTESTER: Attester = {
  platform: undefined,
  simulated: false,
  tdx: undefined,
  nsm: undefined,
  runtimeEvents: {
    emit: (name) => {
      const why = `Cannot measure the event "${name}": this machine has no register for it`
      return Promise.reject(new ApiError(400, 'EVENTS_UNSUPPORTED', why))
    },
    list: () => Promise.resolve([]),
  },
  evidence: () => {
    const why = 'Cannot make evidence: this machine has neither Intel TDX nor a Nitro module'
    return Promise.reject(new ApiError(400, 'WRONG_PLATFORM', why))
  },
  cloud: () => Promise.resolve({ vendor: '', product: '' }),
  eventLog: () => Promise.resolve([]),
}
