import type { z } from 'zod'
import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { fromHex } from '../../../src/attest/hex.ts'
import { raTlsExtensions } from '../../../src/attest/ra-tls.ts'
import type { CertifiedApp } from '../../../src/attest/ra-tls-app.ts'
import { ApiError } from '../../../src/errors.ts'
import { assertIssuable } from '../certificates/leaf.ts'
import { appCaScalar } from '../derivation/kms-keys.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import { refusal } from '../trust/refusal.ts'
import { verifyEvidence } from '../trust/verified-evidence.ts'
import { appAuthority, issueRequested } from './app-certificates.ts'
import type { SignCertRequest } from './messages.ts'
import { permitApp } from './permission.ts'
import { type Kms, versionOf } from './public-methods.ts'
import { isSignedByItsKey, readSigningRequest, type SigningRequest } from './signing-request.ts'

/**
 * Signs a certificate for an application's key, with an authority of the application's own below
 * the root (spec dstack §9.1). Who asks does not count, only the evidence inside the request.
 *
 * @throws {ApiError} 400 `INVALID_REQUEST` for what is no request, 400 for what no certificate can
 *   hold, 401 `UNAUTHORIZED` for a wrong signature; as `verifyEvidence` and `permitApp`.
 */
export async function signCert(
  { roots, policy, trust, now }: Kms,
  { api_version, csr, signature, root_version }: z.output<typeof SignCertRequest>,
  signal?: AbortSignal,
): Promise<object> {
  versionOf(roots, root_version)
  const request = parsed(csr, api_version)
  if (!isSignedByItsKey(request, csr, signature)) {
    throw refusal('UNAUTHORIZED', 'Failed to verify csr signature')
  }
  assertIssuable(request.leaf)
  const { platform } = request.attestation
  const { boot, bootTime } = await verifyEvidence(platform, request.spki, trust, now())
  await permitApp(policy, bootTime, signal)
  const appId = fromHex(boot.appId, 'app id')
  const material = versionOf(roots, root_version)
  const scalar = appCaScalar(material.root, appId)
  const authority = appAuthority(material.authority, scalar, appId)
  scalar.fill(0)
  const fields = {
    appId,
    usage: 'app:custom',
    attestation: request.withEvidence ? request.attestation : undefined,
    appInfo: request.withAppInfo ? certifiedApp(boot) : undefined,
  } as const
  // What asks in the older form is read by verifiers that know no other.
  const extensions = holdable(() =>
    raTlsExtensions(fields, api_version === 1 ? 'quote' : 'attestation'),
  )
  return { certificate_chain: [issueRequested(authority, request, extensions), ...authority.chain] }
}

function parsed(csr: Uint8Array, version: number): SigningRequest {
  if (version !== 1 && version !== 2) {
    throw new ApiError(400, 'INVALID_REQUEST', `Unsupported API version: ${version}`)
  }
  try {
    return readSigningRequest(csr, version)
  } catch (cause) {
    if (!(cause instanceof EvidenceError)) throw cause
    const message = `Failed to parse csr: ${cause.message}`
    throw new ApiError(400, 'INVALID_REQUEST', message, { cause })
  }
}

/** Everything in it was measured. */
function certifiedApp(boot: BootInfo): CertifiedApp {
  const bytes = (name: keyof BootInfo) => fromHex(boot[name] as string, name)
  return {
    appId: bytes('appId'),
    composeHash: bytes('composeHash'),
    instanceId: bytes('instanceId'),
    deviceId: bytes('deviceId'),
    mrSystem: bytes('mrSystem'),
    mrAggregated: bytes('mrAggregated'),
    osImageHash: bytes('osImageHash'),
    keyProvider: bytes('keyProviderInfo'),
  }
}

/** @throws {ApiError} 409 for evidence that the form asked for has no room for. */
function holdable<T>(work: () => T): T {
  try {
    return work()
  } catch (cause) {
    if (!(cause instanceof EvidenceError)) throw cause
    throw new ApiError(409, 'CERTIFICATE_TOO_LARGE', cause.message, { cause })
  }
}
