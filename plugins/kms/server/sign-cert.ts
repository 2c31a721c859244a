import type { z } from 'zod'
import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { fromHex } from '../../../src/attest/hex.ts'
import { raTlsExtensions } from '../../../src/attest/ra-tls.ts'
import type { CertifiedApp } from '../../../src/attest/ra-tls-app.ts'
import { ApiError } from '../../../src/errors.ts'
import { assertIssuable } from '../certificates/leaf.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import { refusal } from '../trust/refusal.ts'
import { verifyEvidence } from '../trust/verified-evidence.ts'
import { issueRequested } from './app-certificates.ts'
import { DerivedKeys } from './derived-keys.ts'
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
  kms: Kms,
  { api_version, csr, signature, root_version }: z.output<typeof SignCertRequest>,
  signal?: AbortSignal,
  onSigned: (to: BootInfo) => void = () => undefined,
): Promise<object> {
  versionOf(kms.roots, root_version)
  const request = parsed(csr, api_version)
  if (!isSignedByItsKey(request, csr, signature)) {
    throw refusal('UNAUTHORIZED', 'Failed to verify csr signature')
  }
  assertIssuable(request.leaf)
  const { platform } = request.attestation
  const { boot, bootTime } = await verifyEvidence(platform, request.spki, kms.trust, kms.now())
  await permitApp(kms.policy, bootTime, signal)
  const appId = fromHex(boot.appId, 'app id')
  const derived = kms.derived ?? new DerivedKeys(0)
  const authority = derived.authority(versionOf(kms.roots, root_version), appId)
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
  const certificate = issueRequested(authority, request, extensions)
  onSigned(boot)
  return { certificate_chain: [certificate, ...authority.chain] }
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
