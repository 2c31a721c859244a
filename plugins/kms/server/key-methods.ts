import type { z } from 'zod'
import { fromHex } from '../../../src/attest/hex.ts'
import { hex } from '../../../src/compat/prpc/bytes.ts'
import { ApiError } from '../../../src/errors.ts'
import { p256Key } from '../certificates/p256-key.ts'
import { keyV0 } from '../derivation/app-keys.ts'
import { appRootKey } from '../derivation/kms-keys.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import { refusal } from '../trust/refusal.ts'
import { DerivedKeys } from './derived-keys.ts'
import type { AppKeyRequest, NamedKeyRequest } from './messages.ts'
import { permitApp, permitKms } from './permission.ts'
import { type Kms, ownCertificate, versionOf } from './public-methods.ts'

/*
 * What only verified peers get (spec dstack §9.1, §2.2), if the policy allows it. All throw as
 * `permitApp` and `permitKms`, and whose keys they are follows from what was measured alone.
 */

const MAX_API_VERSION = 1

/**
 * The keys of the application that asks.
 *
 * @param peer Who asks, verified.
 * @throws {ApiError} 400 `INVALID_REQUEST` for a version of the call that there is not, or as
 *   `versionOf`.
 */
export async function getAppKey(
  kms: Kms,
  peer: BootInfo,
  { api_version, root_version }: z.output<typeof AppKeyRequest>,
  signal?: AbortSignal,
): Promise<object> {
  if (api_version > MAX_API_VERSION) {
    throw new ApiError(400, 'INVALID_REQUEST', `Unsupported API version: ${api_version}`)
  }
  assertVersion(kms, root_version)
  const { gatewayAppId } = await permitApp(kms.policy, peer, signal)
  const material = versionOf(kms.roots, root_version)
  const { root } = material
  const { appId, instanceId } = idsOf(peer)
  const derived = kms.derived ?? new DerivedKeys(0)
  return {
    ca_cert: ownCertificate(material),
    disk_crypt_key: derived.disk(root, appId, instanceId, hex),
    ...derived.app(root, appId, (keys) => ({
      env_crypt_key: hex(keys.env),
      k256_key: hex(keys.root),
      k256_signature: hex(keys.rootSignature),
    })),
    tproxy_app_id: gatewayAppId,
    gateway_app_id: gatewayAppId,
    os_image_hash: peer.osImageHash,
    root_version: root.version,
  }
}

/**
 * The root keys of all versions, each in the place of its number, for another KMS of the cluster.
 *
 * @param peer Who asks, verified.
 */
export async function getKmsKey(kms: Kms, peer: BootInfo, signal?: AbortSignal): Promise<object> {
  await permitKms(kms.policy, peer, signal)
  const { roots } = kms
  const { current, versions } = roots
  const keys = versions.map((version) => {
    const { ca, k256 } = versionOf(roots, version).root
    return { ca_key: p256Key(ca).pem, k256_key: hex(k256) }
  })
  const temporaryCaKey = current.temporaryCa.key.pem
  return { temp_ca_key: temporaryCaKey, keys, root_version: current.root.version }
}

/**
 * One key of the application that asks, by name: the 32 bytes that its agent derives for it.
 *
 * @param peer Who asks, verified.
 * @throws {ApiError} 404 `KEY_NOT_FOUND` when the policy lists names, and this is none of them;
 *   400 as `versionOf`.
 */
export async function getKey(
  kms: Kms,
  peer: BootInfo,
  { name, root_version }: z.output<typeof NamedKeyRequest>,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  assertVersion(kms, root_version)
  const { keys } = await permitApp(kms.policy, peer, signal)
  if (keys !== undefined && !keys.includes(name)) {
    const why = `No key is kept for ${JSON.stringify(name.slice(0, 64))}`
    throw refusal('KEY_NOT_FOUND', `${why}: the policy does not name it`)
  }
  const { root } = versionOf(kms.roots, root_version)
  const appKey = appRootKey(root, idsOf(peer).appId)
  const key = keyV0(appKey, name)
  appKey.fill(0)
  return key
}

/** Before anybody is asked; the keys are taken after that, as they may be gone by then. */
function assertVersion({ roots }: Kms, version: number | undefined): void {
  versionOf(roots, version)
}

function idsOf({ appId, instanceId }: BootInfo) {
  return {
    appId: fromHex(appId, 'app id'),
    instanceId: fromHex(instanceId, 'instance id'),
  }
}
