import type { KeyObject } from 'node:crypto'
import { EvidenceError } from '../attest/evidence-error.ts'
import { DerReader, TAG } from './der-read.ts'
import { type Name, readName } from './name.ts'
import {
  curveOf,
  type EcdsaHash,
  isSignedBy,
  readPublicKey,
  readSigned,
  type Signed,
} from './signed.ts'

/** A version 3 certificate (RFC 5280 §4.1), with what a verifier of evidence asks of it. */
export interface Certificate {
  readonly der: Uint8Array
  readonly subject: Name
  readonly issuer: Name
  /** Big endian, without a sign octet. */
  readonly serial: Uint8Array
  /** Unix time in milliseconds; both ends are inside the validity. */
  readonly notBefore: number
  readonly notAfter: number
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array
  readonly publicKey: KeyObject
  /** Curve of an elliptic curve key; undefined for other keys and curves. */
  readonly curve: 'P-256' | 'P-384' | 'P-521' | undefined
  /** Hash of the ECDSA signature on this certificate; undefined for other algorithms. */
  readonly hash: EcdsaHash | undefined
  readonly isCa: boolean
  /** How many authorities may stand between this one and a leaf; undefined is any number. */
  readonly pathLength: number | undefined
  readonly basicConstraintsCritical: boolean
  /** Undefined without the extension, which allows every use. */
  readonly keyUsage: ReadonlySet<KeyUsage> | undefined
  /** Object identifiers of critical extensions that this reader does not understand. */
  readonly unknownCritical: readonly string[]
  readonly signed: Signed
  /** The content of an extension's octet string, by dotted object identifier. */
  extension(oid: string): Uint8Array | undefined
}

/** A bit of the key usage extension (RFC 5280 §4.2.1.3). */
export type KeyUsage = (typeof KEY_USAGES)[number]

const KEY_USAGES = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const

const BASIC_CONSTRAINTS = '2.5.29.19'
const KEY_USAGE = '2.5.29.15'

/** Largest certificate that is read, in bytes; those of PCK chains and Nitro stay below 1.5 KiB. */
export const MAX_CERTIFICATE_BYTES = 16 * 1024
const MAX_EXTENSIONS = 64
const MAX_SERIAL_BYTES = 20

/**
 * Reads one certificate. Nothing is verified: see `isIssuedBy` and `verifyPath`.
 *
 * @throws {EvidenceError} `CERTIFICATE_TOO_LONG`, `DER_MALFORMED` or `KEY_UNUSABLE`.
 */
export function parseCertificate(der: Uint8Array): Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES) {
    throw new EvidenceError(
      'CERTIFICATE_TOO_LONG',
      `Cannot read certificate: ${der.length} bytes, at most ${MAX_CERTIFICATE_BYTES} are read`,
    )
  }
  const signed = readSigned(der, 'certificate')
  const tbs = new DerReader(signed.tbs, 'certificate').enter(TAG.sequence)
  const version = tbs.next === 0xa0 ? tbs.enter(0xa0).small() + 1 : 1
  if (version !== 3) throw tbs.malformed(`version ${version}, expected 3`)
  const serial = tbs.unsigned()
  if (serial.length > MAX_SERIAL_BYTES) throw tbs.malformed('a serial number over 20 bytes')
  const inner = tbs.read(TAG.sequence).whole
  // RFC 5280 §4.1.1.2; a mismatch would leave the algorithm outside of the signature.
  if (Buffer.compare(inner, signed.algorithm) !== 0) throw tbs.malformed('two signature algorithms')
  const issuer = readName(tbs)
  const validity = tbs.enter(TAG.sequence)
  const notBefore = validity.time()
  const notAfter = validity.time()
  validity.end()
  const subject = readName(tbs)
  const spki = tbs.read(TAG.sequence).whole
  tbs.optional(0x81)
  const extensions = tbs.next === 0xa3 ? readExtensions(tbs.enter(0xa3)) : new Map()
  tbs.end()
  return {
    der,
    subject,
    issuer,
    serial,
    notBefore,
    notAfter,
    spki,
    ...readKey(spki),
    hash: signed.hash,
    ...readBasicConstraints(extensions.get(BASIC_CONSTRAINTS)),
    keyUsage: readKeyUsage(extensions.get(KEY_USAGE)),
    unknownCritical: [...extensions]
      .filter(([oid, { critical }]) => critical && oid !== BASIC_CONSTRAINTS && oid !== KEY_USAGE)
      .map(([oid]) => oid),
    signed,
    extension: (oid) => extensions.get(oid)?.value,
  }
}

/** Whether the issuer's name is the one the certificate gives, and its key made the signature. */
export function isIssuedBy(child: Certificate, issuer: Certificate): boolean {
  return (
    Buffer.compare(child.issuer.der, issuer.subject.der) === 0 &&
    isSignedBy(child.signed, issuer.publicKey)
  )
}

interface Extension {
  readonly critical: boolean
  readonly value: Uint8Array
}

function readExtensions(reader: DerReader): Map<string, Extension> {
  const list = reader.enter(TAG.sequence)
  reader.end()
  const extensions = new Map<string, Extension>()
  while (!list.done) {
    const extension = list.enter(TAG.sequence)
    const oid = extension.oid()
    const critical = extension.optionalTrue()
    const value = extension.read(TAG.octetString).content
    extension.end()
    // RFC 5280 §4.2: a certificate must not include an extension twice.
    if (extensions.has(oid)) throw list.malformed(`extension ${oid} twice`)
    if (extensions.size === MAX_EXTENSIONS) throw list.malformed('too many extensions')
    extensions.set(oid, { critical, value })
  }
  return extensions
}

function readKey(spki: Uint8Array): Pick<Certificate, 'publicKey' | 'curve'> {
  const curve = CURVES[curveOf(spki, 'certificate') ?? '']
  return { publicKey: readPublicKey(spki, 'certificate'), curve }
}

// RFC 5480 §2.1.1.1.
const CURVES: Readonly<Record<string, Certificate['curve']>> = {
  '1.2.840.10045.3.1.7': 'P-256',
  '1.3.132.0.34': 'P-384',
  '1.3.132.0.35': 'P-521',
}

function readBasicConstraints(
  extension: Extension | undefined,
): Pick<Certificate, 'isCa' | 'pathLength' | 'basicConstraintsCritical'> {
  if (extension === undefined) {
    return { isCa: false, pathLength: undefined, basicConstraintsCritical: false }
  }
  const reader = new DerReader(extension.value, 'basic constraints')
  const constraints = reader.enter(TAG.sequence)
  reader.end()
  const isCa = constraints.optionalTrue()
  const pathLength = constraints.done ? undefined : constraints.small()
  constraints.end()
  return { isCa, pathLength, basicConstraintsCritical: extension.critical }
}

function readKeyUsage(extension: Extension | undefined): ReadonlySet<KeyUsage> | undefined {
  if (extension === undefined) return undefined
  const reader = new DerReader(extension.value, 'key usage')
  const [unused = 8, ...octets] = reader.read(TAG.bitString).content
  reader.end()
  if (unused > 7 || octets.length > 2) throw reader.malformed('no bit string of nine bits at most')
  return new Set(
    KEY_USAGES.filter((_, bit) => ((octets[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0),
  )
}
