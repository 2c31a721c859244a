import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { EvidenceError } from '../attest/evidence-error.ts'
import { DerReader, TAG } from './der-read.ts'

/** What a certificate and a revocation list have in common: content, algorithm, signature. */
export interface Signed {
  /** The complete element the signature covers. */
  readonly tbs: Uint8Array
  /** The algorithm's complete AlgorithmIdentifier, as the outer structure names it. */
  readonly algorithm: Uint8Array
  /** Hash of an ECDSA signature; undefined for any other algorithm. */
  readonly hash: EcdsaHash | undefined
  /** For ECDSA: DER, a sequence of r and s. */
  readonly signature: Uint8Array
}

/** Name of a hash as node:crypto takes it. */
export type EcdsaHash = 'sha256' | 'sha384' | 'sha512'

// RFC 5758 §3.2.
const ECDSA: Readonly<Record<string, EcdsaHash>> = {
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
}

/**
 * Takes `SIGNED{…}` (RFC 5280 §4.1) apart; nothing may follow it.
 *
 * @param what What is being read, for messages.
 * @throws {EvidenceError} `DER_MALFORMED`.
 */
export function readSigned(der: Uint8Array, what: string): Signed {
  const reader = new DerReader(der, what)
  const outer = reader.enter(TAG.sequence)
  reader.end()
  const tbs = outer.read(TAG.sequence).whole
  const { whole: algorithm } = outer.read(TAG.sequence)
  const signature = outer.wholeBits()
  outer.end()
  return { tbs, algorithm, hash: readHash(algorithm, what), signature }
}

/** Whether the key made the signature. Only ECDSA counts; anything else is false. */
export function isSignedBy({ tbs, hash, signature }: Signed, key: KeyObject): boolean {
  if (hash === undefined || key.asymmetricKeyType !== 'ec') return false
  try {
    return verify(hash, tbs, { key, dsaEncoding: 'der' }, signature)
  } catch {
    // Some runtimes throw for a signature that is not DER instead of saying no.
    return false
  }
}

/**
 * Whether the key made an ECDSA signature given as r and s, side by side and of equal length.
 *
 * @param signature 64 bytes for P-256, 96 for P-384.
 */
export function isRawSignedBy(
  data: Uint8Array,
  signature: Uint8Array,
  key: KeyObject,
  hash: EcdsaHash,
): boolean {
  if (key.asymmetricKeyType !== 'ec') return false
  try {
    return verify(hash, data, { key, dsaEncoding: 'ieee-p1363' }, signature)
  } catch {
    return false
  }
}

/**
 * A public key from its SubjectPublicKeyInfo. One on an elliptic curve has to name its curve, and to
 * be a point of it: Node 20 reads the point at infinity too, and ends the process when such a key is
 * looked at or used.
 *
 * @param what What is being read, for messages.
 * @throws {EvidenceError} `DER_MALFORMED`, or `KEY_UNUSABLE`: of no known kind, or no such point.
 */
export function readPublicKey(spki: Uint8Array, what: string): KeyObject {
  const { isEc, curve, first } = readKind(spki, what)
  try {
    if (isEc && (curve === undefined || !POINTS.includes(first))) {
      throw new RangeError('it is no point of a named curve')
    }
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  } catch (cause) {
    const message = `Cannot read ${what}: its public key cannot be used`
    throw new EvidenceError('KEY_UNUSABLE', message, { cause })
  }
}

/**
 * Object identifier of the curve of an elliptic curve key; undefined for others.
 *
 * @throws {EvidenceError} `DER_MALFORMED`.
 */
export const curveOf = (spki: Uint8Array, what: string): string | undefined =>
  readKind(spki, what).curve

/** First octets of a point that is not at infinity, compressed or not (SEC 1 §2.3.3). */
const POINTS: readonly (number | undefined)[] = [0x02, 0x03, 0x04]

/** RFC 5480 §2.1.1. */
const ID_EC_PUBLIC_KEY = '1.2.840.10045.2.1'

/** @returns `first`: the first octet of the key itself. */
function readKind(spki: Uint8Array, what: string) {
  const reader = new DerReader(spki, what)
  const outer = reader.enter(TAG.sequence)
  reader.end()
  const algorithm = outer.enter(TAG.sequence)
  const isEc = algorithm.oid() === ID_EC_PUBLIC_KEY
  const curve = isEc && algorithm.next === TAG.oid ? algorithm.oid() : undefined
  const [first] = outer.wholeBits()
  outer.end()
  return { isEc, curve, first }
}

function readHash(algorithm: Uint8Array, what: string): EcdsaHash | undefined {
  const reader = new DerReader(algorithm, what).enter(TAG.sequence)
  const oid = reader.oid()
  const hash = Object.hasOwn(ECDSA, oid) ? ECDSA[oid] : undefined
  // RFC 5758: parameters are absent with ECDSA.
  if (hash !== undefined) reader.end()
  return hash
}
