import type { KeyObject } from 'node:crypto'
import { encode } from 'cborg'
import { type EcdsaHash, isRawSignedBy } from '../../x509/signed.ts'
import { EvidenceError } from '../evidence-error.ts'
import { type CborMap, decodeCbor } from './cbor.ts'

/** A COSE_Sign1 message (RFC 9052 §4.2), taken apart and not verified. */
export interface CoseSign1 {
  /** As received; they are signed in this form. */
  readonly protectedBytes: Uint8Array
  /** Empty when there are no protected bytes. */
  readonly protectedHeader: CborMap
  readonly unprotectedHeader: CborMap
  readonly payload: Uint8Array
  /** Of any length. */
  readonly signature: Uint8Array
}

/** A signature algorithm by its name in the COSE registry (RFC 9053 §2.1). */
export type CoseAlgorithm = 'ES256' | 'ES384'

interface Ecdsa {
  readonly label: number
  readonly hash: EcdsaHash
  /** Of the one curve the algorithm is used with here, as node:crypto names it. */
  readonly curve: string
  /** r and s side by side. */
  readonly signatureBytes: number
}

const ALGORITHMS: Readonly<Record<CoseAlgorithm, Ecdsa>> = {
  ES256: { label: -7, hash: 'sha256', curve: 'prime256v1', signatureBytes: 64 },
  ES384: { label: -35, hash: 'sha384', curve: 'secp384r1', signatureBytes: 96 },
}

/** Header labels (RFC 9052 §3.1). */
const ALG = 1
const CRIT = 2

/** Tag 18 in its shortest form; a message may stand behind it. */
const TAG_SIGN1 = 0xd2

/**
 * Takes a message apart: an array of four, untagged or behind tag 18, with its payload inside.
 *
 * @throws {EvidenceError} `COSE_MALFORMED`, or what {@link decodeCbor} throws.
 */
export function parseCoseSign1(bytes: Uint8Array): CoseSign1 {
  const untagged = bytes[0] === TAG_SIGN1 ? bytes.subarray(1) : bytes
  const message = decodeCbor(untagged, 'COSE message')
  if (!Array.isArray(message) || message.length !== 4) throw malformed('no array of four')
  const [protectedBytes, unprotectedHeader, payload, signature] = message
  if (!(protectedBytes instanceof Uint8Array)) throw malformed('its protected header is no bytes')
  if (!(unprotectedHeader instanceof Map)) throw malformed('its unprotected header is no map')
  if (!(payload instanceof Uint8Array)) throw malformed('its payload is no bytes')
  if (!(signature instanceof Uint8Array)) throw malformed('its signature is no bytes')
  const protectedHeader = readProtected(protectedBytes)
  for (const label of protectedHeader.keys()) {
    // RFC 9052 §3: one reader would take the one value, another the other.
    if (unprotectedHeader.has(label)) throw malformed(`header ${label} is protected and is not`)
  }
  return { protectedBytes, protectedHeader, unprotectedHeader, payload, signature }
}

function readProtected(bytes: Uint8Array): CborMap {
  if (bytes.byteLength === 0) return new Map()
  const header = decodeCbor(bytes, 'protected header')
  if (!(header instanceof Map)) throw malformed('its protected header holds no map')
  return header
}

/**
 * Refuses a message that its protected header does not say to be of this algorithm, or that says
 * something a verifier must understand and this one does not.
 *
 * @throws {EvidenceError} `COSE_ALGORITHM` or `COSE_CRITICAL`.
 */
export function checkHeaders(message: CoseSign1, algorithm: CoseAlgorithm): void {
  const { protectedHeader, unprotectedHeader } = message
  const found = protectedHeader.get(ALG)
  const { label } = ALGORITHMS[algorithm]
  if (found !== label) {
    const why = `its algorithm is ${describe(found)}, expected ${label} (${algorithm})`
    throw new EvidenceError('COSE_ALGORITHM', `Cannot accept COSE message: ${why}`)
  }
  // RFC 9052 §3.1: it names at least one header, and none that is understood anyway needs it.
  if (protectedHeader.has(CRIT) || unprotectedHeader.has(CRIT)) {
    const why = `it has critical headers ${describe(protectedHeader.get(CRIT))}, none is known`
    throw new EvidenceError('COSE_CRITICAL', `Cannot accept COSE message: ${why}`)
  }
}

/**
 * Whether the key made the signature: raw r and s over the Sig_structure (RFC 9052 §4.4). The
 * headers are not looked at: see {@link checkHeaders}.
 *
 * @param external Data that is signed without being in the message.
 */
export function isCoseSignedBy(
  message: CoseSign1,
  key: KeyObject,
  algorithm: CoseAlgorithm,
  external: Uint8Array = new Uint8Array(0),
): boolean {
  const { hash, curve, signatureBytes } = ALGORITHMS[algorithm]
  const { protectedBytes, payload, signature } = message
  if (signature.byteLength !== signatureBytes) return false
  if (key.asymmetricKeyDetails?.namedCurve !== curve) return false
  const signed = encode(['Signature1', protectedBytes, external, payload])
  return isRawSignedBy(signed, signature, key, hash)
}

/** A header's value for messages, short whatever it holds. */
function describe(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint') return `${value}`
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40))
  if (Array.isArray(value)) return `[${value.slice(0, 8).map(describeLabel).join(', ')}]`
  return value === undefined ? 'missing' : 'of an unknown kind'
}

const describeLabel = (label: unknown) => (typeof label === 'object' ? '…' : `${label}`)

function malformed(why: string): EvidenceError {
  return new EvidenceError('COSE_MALFORMED', `Cannot read COSE message: ${why}`)
}
