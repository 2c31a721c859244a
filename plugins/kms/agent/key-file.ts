import { createPrivateKey } from 'node:crypto'
import * as v from 'valibot'
import { fromHex } from '../../../src/attest/hex.ts'
import { messageOf } from '../../../src/errors.ts'
import type { Certificate } from '../../../src/x509/certificate.ts'
import { parsePemChain } from '../../../src/x509/pem.ts'
import { readAuthority } from '../certificates/authority.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import { type ExpectedProvider, kmsProvider } from './key-provider.ts'
import type { AuthoritySource, KeySource } from './key-source.ts'
import { readSecretFile } from './secret-file.ts'

/** A real one has 3 KiB. */
const MAX_BYTES = 256 * 1024

const WithKey = v.object({ key: v.string() })

/** `.appkeys.json` (spec dstack §7.4); what the agent has no use for is left unread. */
const KeyFile = v.object({
  k256_key: v.string(),
  k256_signature: v.optional(v.string(), ''),
  ca_cert: v.string(),
  key_provider: v.union([
    v.object({ None: WithKey }),
    v.object({ Local: WithKey }),
    v.object({ Tpm: WithKey }),
    v.object({ Kms: v.object({ url: v.string() }) }),
  ]),
})

type KeyFile = v.InferOutput<typeof KeyFile>

/** The keys of a file. Where a KMS signs certificates, it is yet to be reached. */
export interface FileKeys extends Omit<KeySource, 'authority'> {
  readonly authority: Extract<AuthoritySource, { kind: 'given' }> | KmsOfFile
  /** By the file, where they come from. */
  readonly provider: ExpectedProvider
}

/** The KMS that a key file names. */
export interface KmsOfFile {
  readonly kind: 'kms'
  readonly url: string
  /** The only one it may have. */
  readonly root: Certificate
}

/**
 * Reads a key file of dstack.
 *
 * @throws {Error} Naming the file and never quoting from it.
 */
export async function readKeyFile(path: string): Promise<FileKeys> {
  const bytes = await readSecretFile(path, MAX_BYTES)
  try {
    return { from: `the key file "${path}"`, ...parseKeyFile(bytes) }
  } catch (error) {
    throw new Error(`Cannot use the key file "${path}": ${messageOf(error)}`)
  } finally {
    bytes.fill(0)
  }
}

function parseKeyFile(bytes: Uint8Array): Omit<FileKeys, 'from'> {
  const file = parsed(bytes)
  const root = bytesOf(file.k256_key, 'k256_key', 32)
  attempt('k256_key is no secp256k1 key', () => publicKeyOf('secp256k1', root))
  const rootSignature = bytesOf(file.k256_signature, 'k256_signature', 65, 0)
  const authority = authorityOf(file)
  return { root, rootSignature, authority, provider: providerOf(file, authority) }
}

function authorityOf({ ca_cert, key_provider }: KeyFile): FileKeys['authority'] {
  if ('Kms' in key_provider) {
    const { url } = key_provider.Kms
    return { kind: 'kms', url, root: ofCertificate(() => parsePemChain(ca_cert, 1)[0]) }
  }
  const [{ key }] = Object.values(key_provider) as [{ key: string }]
  const privateKey = attempt('key_provider has a key that is no PEM', () => createPrivateKey(key))
  return { kind: 'given', authority: ofCertificate(() => readAuthority(ca_cert, privateKey)) }
}

/** Ids of others than a KMS are known to the boot alone. */
function providerOf({ key_provider }: KeyFile, authority: FileKeys['authority']): ExpectedProvider {
  if (authority.kind === 'kms') {
    const { name, id } = kmsProvider(authority.root)
    return { names: [name], id }
  }
  return { names: ['Local' in key_provider ? 'local' : 'Tpm' in key_provider ? 'tpm' : 'none'] }
}

function ofCertificate<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw new Error(`ca_cert: ${messageOf(error)}`)
  }
}

function parsed(bytes: Uint8Array): KeyFile {
  const text = new TextDecoder().decode(bytes)
  const json: unknown = attempt('it is not JSON', () => JSON.parse(text))
  const result = v.safeParse(KeyFile, json)
  if (result.success) return result.output
  const wrong = result.issues.map((issue) => v.getDotPath(issue) ?? 'the whole')
  throw new Error(`missing or wrong: ${[...new Set(wrong)].join(', ')}`)
}

function bytesOf(text: string, name: string, ...lengths: readonly number[]): Uint8Array {
  const bytes = attempt(`${name} is not hex`, () => fromHex(text, name))
  if (lengths.includes(bytes.length)) return bytes
  throw new Error(`${name} has ${bytes.length} bytes, expected ${lengths[0]}`)
}

/** The errors of parsers quote what they read, which here is secret. */
function attempt<T>(otherwise: string, work: () => T): T {
  try {
    return work()
  } catch {
    throw new Error(otherwise)
  }
}
