import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { fromHex, toHex } from '../../../src/attest/hex.ts'
import type { Authority } from '../certificates/authority.ts'
import { p256Key } from '../certificates/p256-key.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import type { RootKeys } from '../derivation/kms-keys.ts'
import { parseJson } from '../policy/json.ts'
import { MAX_ROOT_VERSION } from './root-file-names.ts'
import { readCaCertificate, readCaKey, readK256 } from './root-files.ts'
import { rootAuthority } from './root-material.ts'

const VersionFile = v.object({
  version: v.number(),
  cluster: v.string(),
  ca_key: v.string(),
  ca_cert: v.string(),
  k256_key: v.string(),
  k256_pubkey: v.string(),
})

/** Root keys of a version above 0, with the authority that they are. */
export interface RootVersion {
  readonly root: RootKeys
  readonly authority: Authority
}

/**
 * What all versions of one KMS name, so that a file of another is told from its own: SHA-256 of the
 * two public keys of version 0, hex.
 */
export function clusterOf({ ca, k256 }: RootKeys): string {
  const { spki } = p256Key(ca)
  return createHash('sha256').update(spki).update(publicKeyOf('secp256k1', k256)).digest('hex')
}

/** What goes into the file of a version, with a fresh certificate. */
export function writeVersionFile(root: RootKeys, cluster: string): Uint8Array {
  const file: v.InferOutput<typeof VersionFile> = {
    version: root.version,
    cluster,
    ca_key: p256Key(root.ca).pem,
    ca_cert: rootAuthority(root).chain.join(''),
    k256_key: toHex(root.k256),
    k256_pubkey: toHex(publicKeyOf('secp256k1', root.k256)),
  }
  return Buffer.from(`${JSON.stringify(file)}\n`)
}

/**
 * Reads it back; the bytes are overwritten.
 *
 * @param certificate PEM in place of the one inside.
 * @throws {Error} Why it is not the file of this version and KMS, never quoting from it.
 */
export function readVersionFile(
  bytes: Uint8Array,
  version: number,
  cluster: string,
  certificate?: Uint8Array,
): RootVersion {
  const text = new TextDecoder().decode(bytes)
  bytes.fill(0)
  const file = parseJson(VersionFile, text)
  if (file.version !== version) throw new Error('it is of another version')
  if (file.cluster !== cluster) throw new Error('it is of another KMS')
  const ca = readCaKey(file.ca_key)
  const k256 = readK256(secretOf(file.k256_key))
  if (toHex(publicKeyOf('secp256k1', k256)) !== file.k256_pubkey) {
    throw new Error('its k256_pubkey is of another key')
  }
  const pem = certificate ? new TextDecoder().decode(certificate) : file.ca_cert
  return {
    root: { version, ca: ca.scalar, k256 },
    authority: readCaCertificate(pem, ca.key, 'own'),
  }
}

/** What `root-current` holds. */
export const writeCurrent = (version: number): Uint8Array => Buffer.from(`${version}\n`)

/** @throws {Error} When it holds no version. */
export function readCurrent(bytes: Uint8Array): number {
  const text = new TextDecoder().decode(bytes)
  const version = Number(text)
  if (/^\d{1,3}\n?$/.test(text) && version <= MAX_ROOT_VERSION) return version
  throw new Error(`it holds no version from 0 to ${MAX_ROOT_VERSION}`)
}

/** The errors of parsers quote what they read, which here is secret. */
function secretOf(text: string): Uint8Array {
  try {
    return fromHex(text, 'k256_key')
  } catch {
    throw new Error('k256_key is not hex')
  }
}
