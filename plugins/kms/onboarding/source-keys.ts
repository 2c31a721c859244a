import * as v from 'valibot'
import { sameBytes } from '../../../src/attest/hex.ts'
import { p256Key } from '../certificates/p256-key.ts'
import type { RootKeys } from '../derivation/kms-keys.ts'
import { MAX_ROOT_VERSION } from '../server/root-file-names.ts'
import { readCaKey, readK256 } from '../server/root-files.ts'
import { zero } from '../server/root-set.ts'

/** What another KMS of the cluster gave. Everything but the public keys is secret. */
export interface SourceKeys {
  /** Scalar of the temporary authority, 32 bytes. */
  readonly temporaryCa: Uint8Array
  /** Of all its versions, each in the place of its number; at least one. */
  readonly keys: readonly [RootKeys, ...RootKeys[]]
  /** Which of them it uses itself. */
  readonly current: number
}

/** A PEM of 138 bytes, with room for other line ends. */
const MAX_PEM = 1024

const pem = v.pipe(v.string(), v.maxLength(MAX_PEM))

/** GetKmsKey (spec dstack §9.1); dstack's own has one version and does not number it. */
const Answer = v.object({
  temp_ca_key: pem,
  keys: v.pipe(
    v.array(
      v.object({ ca_key: pem, k256_key: v.pipe(v.string(), v.regex(/^(?:0x)?[0-9a-f]{64}$/i)) }),
    ),
    v.minLength(1),
    v.maxLength(MAX_ROOT_VERSION + 1),
  ),
  root_version: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 0),
})

/**
 * Reads an answer to GetKmsKey.
 *
 * @param rootPublicKey SubjectPublicKeyInfo, DER, of the root certificate under which the KMS showed
 *   itself: the key behind it has to be among them.
 * @throws {Error} Why they cannot be used, naming members and never quoting from them.
 */
export function readSourceKeys(
  answer: Readonly<Record<string, unknown>>,
  rootPublicKey: Uint8Array,
): SourceKeys {
  const result = v.safeParse(Answer, answer)
  if (!result.success) {
    const wrong = result.issues.map((issue) => v.getDotPath(issue) ?? 'the whole')
    throw new Error(`missing or wrong: ${[...new Set(wrong)].slice(0, 10).join(', ')}`)
  }
  const { temp_ca_key, keys: texts, root_version: current } = result.output
  const keys: RootKeys[] = []
  try {
    for (const [version, { ca_key, k256_key }] of texts.entries()) {
      const ca = scalarOf(ca_key, `keys.${version}.ca_key`)
      keys.push({ version, ca, k256: new Uint8Array(32) })
      readHex(k256_key, keys[version]?.k256 as Uint8Array, `keys.${version}.k256_key`)
    }
    if (!keys[current]) {
      throw new Error(`root_version is ${current}, of ${keys.length} there are keys`)
    }
    if (!keys.some(({ ca }) => sameBytes(p256Key(ca).spki, rootPublicKey))) {
      throw new Error('no ca_key is that of its root certificate')
    }
    const temporaryCa = scalarOf(temp_ca_key, 'temp_ca_key')
    return { temporaryCa, keys: keys as [RootKeys, ...RootKeys[]], current }
  } catch (error) {
    keys.forEach(zero)
    throw error
  }
}

function scalarOf(text: string, name: string): Uint8Array {
  return attempt(`${name} is no P-256 key in PKCS #8`, () => readCaKey(text).scalar)
}

function readHex(text: string, into: Uint8Array, name: string): void {
  const bytes = Buffer.from(text.slice(-64), 'hex')
  into.set(bytes)
  bytes.fill(0)
  attempt(`${name} is no secp256k1 key`, () => readK256(into))
}

/** The errors of parsers quote what they read, which here is secret. */
function attempt<T>(otherwise: string, work: () => T): T {
  try {
    return work()
  } catch {
    throw new Error(otherwise)
  }
}
