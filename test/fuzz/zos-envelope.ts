import { decodeEnvelope } from '../../plugins/zos/rmb/envelope.ts'
import { challengeOfEnvelope, isSignedBy } from '../../plugins/zos/rmb/signing.ts'

/** What a sender would have signed. */
export function challenged(input: Uint8Array): Uint8Array {
  return challengeOfEnvelope(decodeEnvelope(input))
}

/** A twin that never signed anything. */
const NOBODY = new Uint8Array(32).fill(7)

/** Whether the signature is not that of a twin that never signed anything. */
export function isByNobody(input: Uint8Array): boolean {
  const { signature } = decodeEnvelope(input)
  return signature === undefined || !isSignedBy(NOBODY, new Uint8Array(16), signature)
}
