import { fromHex, isHex, sameBytes } from '../../../src/attest/hex.ts'
import type { Certificate } from '../../../src/x509/certificate.ts'
import { parsePemChain } from '../../../src/x509/pem.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import { issuedClaim } from '../derivation/kms-keys.ts'
import { recoverSigner } from '../signing/recoverable.ts'

/** What a KMS gave, and what is needed of it (spec dstack §9.1, GetAppKey). */
export interface AppKeys {
  /** Root key of the application, 32 bytes. */
  readonly root: Uint8Array
  /** By the root key of the KMS over `issuedClaim`, 65 bytes. */
  readonly rootSignature: Uint8Array
  /** Whose signature that is: compressed, 33 bytes. */
  readonly kmsKey: Uint8Array
  /** Root certificate of the KMS, one of those that were expected. */
  readonly certificate: Certificate
  /** Of its root keys; undefined where the KMS has but one. */
  readonly rootVersion: number | undefined
}

type Answer = Readonly<Record<string, unknown>>

const MAX_CERTIFICATE_CHARACTERS = 64 * 1024
const MAX_ID_CHARACTERS = 256

/**
 * Reads the answer to GetAppKey and looks at every member. The keys for disk and environment are
 * for a boot, not for an agent: they are overwritten at once. The text they came in is the
 * runtime's, which nobody can overwrite.
 *
 * @param appId As the KMS knows the application, 20 bytes.
 * @param roots Which certificates the KMS may have.
 * @throws {Error} Naming the member that is not what it should be, and never quoting from it.
 */
export function readAppKeys(
  answer: Answer,
  appId: Uint8Array,
  roots: readonly Certificate[],
): AppKeys {
  const certificate = certificateOf(answer, roots)
  for (const name of ['disk_crypt_key', 'env_crypt_key']) bytesOf(answer, name, 32).fill(0)
  for (const name of ['tproxy_app_id', 'gateway_app_id']) {
    const { [name]: id = '' } = answer
    if (typeof id !== 'string' || id.length > MAX_ID_CHARACTERS) throw wrong(name, 'no short text')
  }
  bytesOf(answer, 'os_image_hash', 32, 0)
  const rootSignature = bytesOf(answer, 'k256_signature', 65)
  const root = bytesOf(answer, 'k256_key', 32)
  try {
    const kmsKey = recoverSigner(rootSignature, issuedClaim(appId, publicKeyOfRoot(root)))
    if (!kmsKey) throw wrong('k256_signature', 'no signature over the key')
    return { root, rootSignature, kmsKey, certificate, rootVersion: versionOf(answer) }
  } catch (error) {
    root.fill(0)
    throw error
  }
}

/**
 * Checks the keys against what the KMS says of itself. A signature alone is that of some key over
 * whatever was claimed: only with the key known before does it say that both sides mean the same
 * application.
 *
 * @param meta Answer to GetMeta.
 * @throws {Error} As {@link readAppKeys}.
 */
export function assertSignedBy(meta: Answer, { kmsKey, rootVersion }: AppKeys): void {
  // What it says is of its current root keys.
  if (rootVersion !== versionOf(meta)) return
  if (sameBytes(bytesOf(meta, 'k256_pubkey', 33), kmsKey)) return
  throw wrong('k256_signature', 'not by its root key, or not for this application')
}

function certificateOf(answer: Answer, roots: readonly Certificate[]): Certificate {
  const { ca_cert: pem } = answer
  if (typeof pem !== 'string' || pem.length > MAX_CERTIFICATE_CHARACTERS) {
    throw wrong('ca_cert', 'no certificate')
  }
  const [own] = attempt('ca_cert', 'no certificate', () => parsePemChain(pem, 1))
  const root = roots.find(({ spki }) => sameBytes(spki, own.spki))
  if (root) return root
  throw wrong('ca_cert', 'none of the root certificates a KMS may have')
}

function publicKeyOfRoot(root: Uint8Array): Uint8Array {
  return attempt('k256_key', 'no secp256k1 key', () => publicKeyOf('secp256k1', root))
}

function versionOf({ root_version: version }: Answer): number | undefined {
  if (version === undefined) return undefined
  if (typeof version === 'number' && Number.isInteger(version) && version >= 0) return version
  throw wrong('root_version', 'no number of a version')
}

function bytesOf(answer: Answer, name: string, ...lengths: readonly number[]): Uint8Array {
  const { [name]: text = '' } = answer
  if (typeof text !== 'string' || !isHex(text)) throw wrong(name, 'not hex')
  const { length } = text
  if (lengths.includes(length / 2)) return fromHex(text, name)
  throw wrong(name, `of ${length / 2} bytes, expected ${lengths[0]}`)
}

function attempt<T>(name: string, what: string, work: () => T): T {
  try {
    return work()
  } catch {
    throw wrong(name, what)
  }
}

const wrong = (name: string, what: string): Error => new Error(`its ${name} is ${what}`)
