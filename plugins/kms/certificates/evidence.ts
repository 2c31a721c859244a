import type { Container } from '../../../src/attest/container.ts'
import { toHex } from '../../../src/attest/hex.ts'
import { evidenceReportData, raTlsReportData } from '../../../src/attest/ra-tls.ts'
import { attestation } from '../../../src/attester/attestation.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import { deviceProblem } from '../../../src/attester/problems.ts'
import type { CallOptions } from '../../../src/device/devices.ts'
import { ApiError, messageOf } from '../../../src/errors.ts'

/**
 * Fresh evidence about a key, as certificates carry it (spec dstack §6.6).
 *
 * @param spki SubjectPublicKeyInfo of the key, DER.
 * @param config The `vm_config`.
 * @throws {ApiError} As `deviceProblem` says; 502 `EVIDENCE_UNUSABLE` for what is not about the key.
 */
export function evidenceAbout(
  attester: Attester,
  spki: Uint8Array,
  config: string,
  options: CallOptions,
): Promise<Container> {
  return evidenceOver(attester, raTlsReportData(spki), config, options)
}

/**
 * The same about something else than the key of a certificate.
 *
 * @param reportData What it is made over, 64 bytes.
 */
export async function evidenceOver(
  attester: Attester,
  reportData: Uint8Array,
  config: string,
  options: CallOptions,
): Promise<Container> {
  const container = await attestation(attester, reportData, config, options).catch((error) => {
    throw deviceProblem(error)
  })
  assertAbout(container.platform, reportData)
  return container
}

function assertAbout(platform: Container['platform'], reportData: Uint8Array): void {
  const unusable = (why: string, cause?: unknown) =>
    new ApiError(502, 'EVIDENCE_UNUSABLE', `Cannot use the evidence of this machine: ${why}`, {
      cause,
    })
  let found: Uint8Array
  try {
    found = evidenceReportData(platform)
  } catch (cause) {
    throw unusable(messageOf(cause), cause)
  }
  if (toHex(found) !== toHex(reportData)) throw unusable('it is not about the key')
}
