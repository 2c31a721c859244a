import { toHex } from '../../../src/attest/hex.ts'
import type { AppIdentity } from '../../../src/attester/app-identity.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import { messageOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import type { Certificate } from '../../../src/x509/certificate.ts'
import { versionOfRoot } from '../certificates/root-name.ts'
import { type KmsConnection, KmsError } from '../client/connection.ts'
import { measuredAppId } from './app-id.ts'
import { type AppKeys, assertSignedBy, readAppKeys } from './app-keys.ts'
import { kmsProvider, measureProvider, providerConflict, providerSetting } from './key-provider.ts'
import type { KeySource } from './key-source.ts'
import type { KmsCluster } from './kms-cluster.ts'
import { kmsSigner } from './kms-signer.ts'

/** What it takes to have keys from a KMS. */
export interface UpstreamOptions {
  readonly cluster: KmsCluster
  /** Which root certificates the KMS may have. */
  readonly roots: readonly Certificate[]
  /** Of its root keys; undefined for those of the root by which it is believed. */
  readonly rootVersion: number | undefined
  readonly attester: Attester
  readonly identity: AppIdentity
  readonly events: EventSink
  readonly signal: AbortSignal
}

const API_VERSION = 1

/**
 * Asks for the application's keys (spec dstack §8), and measures where they come from before
 * anybody gets one of them.
 *
 * @throws {ApiError} As `kmsProblem`; when the machine cannot tell who it is, or cannot measure.
 */
export async function upstreamKeys(options: UpstreamOptions): Promise<KeySource> {
  const { cluster, attester, identity, events, signal } = options
  const appId = await measuredAppId(attester, identity, signal)
  const { keys, url } = await cluster.use((kms) => keysOf(kms, appId, options), signal)
  const { root, rootSignature, certificate, rootVersion, kmsKey } = keys
  try {
    const told = await measureProvider(attester, kmsProvider(certificate))
    if (told) events.append(told.text, { level: told.level })
  } catch (error) {
    root.fill(0)
    throw error
  }
  return {
    from: `the root key that the KMS at "${url}" gave, whose own is ${toHex(kmsKey)}`,
    root,
    rootSignature,
    authority: { kind: 'kms', signer: kmsSigner(cluster, { certificate, version: rootVersion }) },
  }
}

/** @throws {KmsError} */
async function keysOf(
  kms: KmsConnection,
  appId: Uint8Array,
  { roots, rootVersion, attester, identity, signal }: UpstreamOptions,
): Promise<{ readonly keys: AppKeys; readonly url: string }> {
  const { url } = kms
  const meta = await kms.call('GetMeta', {}, signal).catch((error) => {
    // Without its contract, a KMS of dstack tells nothing about itself and still gives keys.
    if (error instanceof KmsError && error.code === 'KMS_REFUSED') return undefined
    throw error
  })
  // The root that is pinned says whose keys, even where the KMS has gone on to a later one.
  const version = rootVersion ?? versionOfRoot(kms.root)
  const args = {
    api_version: API_VERSION,
    vm_config: identity.vmConfig,
    root_version: version,
  }
  const answer = await kms.call('GetAppKey', args, signal)
  let keys: AppKeys | undefined
  try {
    keys = readAppKeys(answer, appId, roots)
    if (meta) assertSignedBy(meta, keys)
  } catch (cause) {
    keys?.root.fill(0)
    const why = `Cannot use what KMS ${url} answers to GetAppKey: ${messageOf(cause)}`
    throw new KmsError('KMS_MALFORMED', why, { cause })
  }
  const provider = kmsProvider(keys.certificate)
  const conflict = await providerConflict(attester, { names: [provider.name], id: provider.id })
  if (conflict === undefined) return { keys, url }
  keys.root.fill(0)
  throw new KmsError(
    'KMS_NOT_VERIFIED',
    `Cannot use the keys of KMS ${url}: ${conflict}; where cvmd measures it, ` +
      `write ${providerSetting(provider)}`,
  )
}
