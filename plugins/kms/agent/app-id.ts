import { fromHex } from '../../../src/attest/hex.ts'
import { defaultAppId, nitroImageHash } from '../../../src/attest/identity.ts'
import { parseDocument } from '../../../src/attest/nitro/document.ts'
import type { AppIdentity } from '../../../src/attester/app-identity.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import { deviceProblem } from '../../../src/attester/problems.ts'

/**
 * The application's id, 20 bytes, as a KMS knows it: what this machine measured, whatever is
 * configured. On Nitro it follows from the image.
 *
 * @throws {ApiError} As `deviceProblem`.
 * @throws {EvidenceError} For evidence that cannot be read.
 */
export async function measuredAppId(
  attester: Attester,
  { appId }: AppIdentity,
  signal: AbortSignal,
): Promise<Uint8Array> {
  if (attester.platform === 'nitro') {
    const evidence = await attester.evidence(new Uint8Array(64), { signal }).catch((error) => {
      throw deviceProblem(error)
    })
    if (evidence.platform === 'nitro') {
      return defaultAppId(nitroImageHash(parseDocument(evidence.document).pcrs))
    }
  }
  const events = await attester.runtimeEvents.list()
  // What follows is not the system's (spec dstack §6.3).
  const ready = events.findIndex(({ event }) => event === 'system-ready')
  const booted = ready === -1 ? events : events.slice(0, ready)
  const measured = booted.find(({ event }) => event === 'app-id')
  return fromHex(measured?.event_payload ?? appId, 'app id')
}
