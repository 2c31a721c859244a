import { createPrivateKey } from 'node:crypto'
import * as v from 'valibot'
import { fromHex } from '../../../src/attest/hex.ts'
import { messageOf } from '../../../src/errors.ts'
import { readAuthority } from '../certificates/authority.ts'
import { publicKeyOf } from '../derivation/curves.ts'
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

/**
 * Reads a key file of dstack.
 *
 * @throws {Error} Naming the file and never quoting from it.
 */
export async function readKeyFile(path: string): Promise<KeySource> {
  const bytes = await readSecretFile(path, MAX_BYTES)
  try {
    return { from: `the key file "${path}"`, ...parseKeyFile(bytes) }
  } catch (error) {
    throw new Error(`Cannot use the key file "${path}": ${messageOf(error)}`)
  } finally {
    bytes.fill(0)
  }
}

function parseKeyFile(bytes: Uint8Array): Omit<KeySource, 'from'> {
  const file = parsed(bytes)
  const root = bytesOf(file.k256_key, 'k256_key', 32)
  attempt('k256_key is no secp256k1 key', () => publicKeyOf('secp256k1', root))
  const rootSignature = bytesOf(file.k256_signature, 'k256_signature', 65, 0)
  return { root, rootSignature, authority: authorityOf(file) }
}

function authorityOf({ ca_cert, key_provider }: v.InferOutput<typeof KeyFile>): AuthoritySource {
  if ('Kms' in key_provider) return { kind: 'kms', url: key_provider.Kms.url }
  const [{ key }] = Object.values(key_provider) as [{ key: string }]
  const privateKey = attempt('key_provider has a key that is no PEM', () => createPrivateKey(key))
  try {
    return { kind: 'given', authority: readAuthority(ca_cert, privateKey) }
  } catch (error) {
    throw new Error(`ca_cert: ${messageOf(error)}`)
  }
}

function parsed(bytes: Uint8Array): v.InferOutput<typeof KeyFile> {
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
