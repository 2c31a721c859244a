import { sameBytes, toHex } from '../../../src/attest/hex.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import { ApiError, messageOf } from '../../../src/errors.ts'
import type { Certificate } from '../../../src/x509/certificate.ts'
import { certificatePem } from '../../../src/x509/issue.ts'
import { parsePemChain } from '../../../src/x509/pem.ts'
import { readAuthority } from '../certificates/authority.ts'
import { p256Key } from '../certificates/p256-key.ts'
import { type KmsConnection, type KmsConnectionOptions, KmsError } from '../client/connection.ts'
import { endpointOf } from '../client/endpoint.ts'
import { openKmsConnection } from '../client/open-connection.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import type { Policy } from '../policy/policy.ts'
import { readConfigured } from '../policy/read-file.ts'
import { createMaterial, type RootMaterial } from '../server/root-material.ts'
import { zero } from '../server/root-set.ts'
import type { EvidenceTrust } from '../trust/verified-evidence.ts'
import { assertAllowedKms } from './allowed.ts'
import { readSourceKeys, type SourceKeys } from './source-keys.ts'
import { assertNoRootKeys, checkedDomain, storeRootKeys, type Target } from './store.ts'

/** How keys are fetched from another KMS. */
export interface SourceOptions {
  /** `https://HOST:PORT`, with or without `/prpc`. */
  readonly sourceUrl: string
  /** PEM file of roots, in one of which the chain of the other KMS has to end. */
  readonly sourceCa?: string | undefined
  /** Of this machine, which the other KMS judges. */
  readonly attester: Attester
  /** Goes along with the evidence; default none. */
  readonly vmConfig?: string | undefined
  /** Whose evidence is believed. */
  readonly trust: EvidenceTrust
  /** Decides whether the other KMS is one. */
  readonly policy: Policy
  /** For each connection and each answer, in milliseconds. */
  readonly deadlineMs: number
  readonly signal?: AbortSignal | undefined
  /** Unix time in milliseconds. */
  readonly now?: (() => number) | undefined
  /** Default: `openKmsConnection`. */
  readonly open?: ((options: KmsConnectionOptions) => Promise<KmsConnection>) | undefined
}

/** Root keys of another KMS, to be overwritten by whoever asked for them. */
export interface FetchedRootKeys extends SourceKeys {
  /** The root certificate by which it was believed: of its current version, or an earlier one. */
  readonly root: Certificate
}

/** How a KMS joins another one's cluster. */
export interface JoinOptions extends SourceOptions, Target {
  /** DNS name or IP address at which clients are going to know this KMS. */
  readonly domain: string
}

/** What Onboard answers (spec dstack §9.5). */
export interface JoinAnswer {
  /** Of the version that is used; compressed, 33 bytes, hex. */
  readonly k256_pubkey: string
}

const MAX_CA_BYTES = 64 * 1024

/**
 * Takes part in the cluster of another KMS: with its keys of all versions, and with its certificate,
 * so that clients which pinned that believe both.
 *
 * @throws {ApiError} 400 `DOMAIN_INVALID`; 409 `ROOT_KEYS_EXIST`; 500 `ROOT_KEYS_NOT_WRITTEN`; as
 *   {@link fetchRootKeys}.
 * @throws {Error} The system error.
 */
export async function join(options: JoinOptions): Promise<JoinAnswer> {
  const domain = checkedDomain(options.domain)
  await assertNoRootKeys(options, 'onboarded')
  const fetched = await fetchRootKeys(options)
  try {
    const { keys, current } = fetched
    const [, ...later] = keys
    await storeRootKeys(options, materialOf(fetched, domain), 'onboarded', later, current)
    return { k256_pubkey: toHex(publicKeyOf('secp256k1', (keys[current] ?? keys[0]).k256)) }
  } finally {
    forget(fetched)
  }
}

/**
 * Asks another KMS for its root keys. It is verified and allowed by the policy before it learns
 * anything of this machine, and does the same with this one before it gives them.
 *
 * @throws {ApiError} 400 `SOURCE_URL_INVALID`; 403 `KMS_NOT_ALLOWED`; 500 `INTERNAL_ERROR`,
 *   `SOURCE_CA_UNUSABLE`; 502 and 504 with the code of the `KmsError`; as `evidenceOver`.
 */
export async function fetchRootKeys(options: SourceOptions): Promise<FetchedRootKeys> {
  const { sourceUrl, policy, signal, open = openKmsConnection } = options
  const { url } = sourceOf(sourceUrl)
  const roots = await pinnedRoots(options.sourceCa)
  let notAllowed: unknown
  let connection: KmsConnection | undefined
  try {
    connection = await open({
      url: sourceUrl,
      roots,
      trust: options.trust,
      attester: options.attester,
      vmConfig: options.vmConfig ?? '',
      accept: async ({ boot }) => {
        try {
          await assertAllowedKms(policy, boot, 'Source KMS is not allowed', signal)
        } catch (error) {
          notAllowed = error
          throw error
        }
      },
      deadlineMs: options.deadlineMs,
      signal,
      ...(options.now && { now: options.now }),
    })
    const args = { vm_config: options.vmConfig ?? '' }
    const { root } = connection
    return { ...keysIn(await connection.call('GetKmsKey', args, signal), root, url), root }
  } catch (error) {
    throw notAllowed ?? sourceProblem(error)
  } finally {
    connection?.close()
  }
}

/** Overwrites everything secret. */
export function forget({ keys, temporaryCa }: SourceKeys): void {
  keys.forEach(zero)
  temporaryCa.fill(0)
}

function keysIn(
  answer: Readonly<Record<string, unknown>>,
  root: Certificate,
  url: string,
): SourceKeys {
  try {
    if (!root.isCa) throw new Error('its root certificate is not that of an authority')
    return readSourceKeys(answer, root.spki)
  } catch (error) {
    const message = `Cannot use the root keys of KMS ${url}: ${messageOf(error)}`
    throw new KmsError('KMS_MALFORMED', message)
  }
}

/** Of version 0, with the other KMS's certificate where it showed that. */
function materialOf(
  { keys: [first], temporaryCa, root }: FetchedRootKeys,
  domain: string,
): RootMaterial {
  const material = createMaterial(first, domain, undefined, temporaryCa)
  const { privateKey, spki } = p256Key(first.ca)
  if (!sameBytes(spki, root.spki)) return material
  return { ...material, authority: readAuthority(certificatePem(root.der), privateKey) }
}

function sourceOf(sourceUrl: string) {
  try {
    return endpointOf(sourceUrl)
  } catch (cause) {
    throw new ApiError(400, 'SOURCE_URL_INVALID', messageOf(cause), { cause })
  }
}

async function pinnedRoots(file: string | undefined): Promise<readonly Certificate[] | undefined> {
  if (file === undefined) return undefined
  try {
    return parsePemChain(new TextDecoder().decode(await readConfigured(file, MAX_CA_BYTES)))
  } catch (cause) {
    const message = `Cannot join: the certificates in "${file}" cannot be used`
    throw new ApiError(500, 'SOURCE_CA_UNUSABLE', message, { cause })
  }
}

/** The other KMS's fault, or that of the way to it, so never 401: the caller's token was right. */
function sourceProblem(error: unknown): unknown {
  if (!(error instanceof KmsError)) return error
  const status = error.code === 'KMS_TIMEOUT' ? 504 : 502
  return new ApiError(status, error.code, error.message, { cause: error.cause ?? error })
}
