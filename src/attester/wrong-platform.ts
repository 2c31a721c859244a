import { ApiError } from '../errors.ts'
import type { Attester } from './attester.ts'

/** What each platform is called, and the call that gives its evidence. */
const PLATFORMS = {
  tdx: { name: 'an Intel TDX guest', call: 'GET /GetQuote' },
  nitro: { name: 'an AWS Nitro enclave', call: 'GET /GetAttestation' },
} as const

/**
 * The answer to a call that only the other platform has, never an empty quote (spec dstack §2.4).
 *
 * @param wanted What could not be done: `make a TDX quote`.
 */
export function wrongPlatform({ platform }: Attester, wanted: string): ApiError {
  const found = platform && PLATFORMS[platform]
  const why = found
    ? `this machine is ${found.name}, use ${found.call}`
    : 'this machine is neither an Intel TDX guest nor an AWS Nitro enclave'
  return new ApiError(400, 'WRONG_PLATFORM', `Cannot ${wanted}: ${why}`)
}
