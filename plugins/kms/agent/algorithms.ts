import { ApiError } from '../../../src/errors.ts'
import type { Algorithm } from '../derivation/curves.ts'
import type { SigningAlgorithm } from '../signing/messages.ts'

/*
 * Names of algorithms in requests (spec dstack §5.1, §5.4). All throw 400 `ALGORITHM_UNSUPPORTED`
 * in the words of dstack.
 */

/** Of `GetKey`, which has a default and an alias. */
export function keyAlgorithm(name: string): Algorithm {
  return name === '' ? 'secp256k1' : keyAlgorithmV1(unaliased(name))
}

/** Of `GetKey` in version 1, which has neither. */
export function keyAlgorithmV1(name: string): Algorithm {
  if (name === 'secp256k1' || name === 'ed25519') return name
  throw unsupported()
}

/** Of `Sign` and `Verify`. */
export function signingAlgorithm(name: string): SigningAlgorithm {
  return name === 'secp256k1_prehashed' ? name : keyAlgorithmV1(unaliased(name))
}

const unaliased = (name: string): string => (name === 'k256' ? 'secp256k1' : name)

const unsupported = (): ApiError =>
  new ApiError(400, 'ALGORITHM_UNSUPPORTED', 'Unsupported algorithm')
