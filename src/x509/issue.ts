import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto'
import {
  bitString,
  type Der,
  explicit,
  implicit,
  integer,
  octetString,
  oid,
  sequence,
  set,
  TRUE,
  time,
  utf8String,
} from './der-write.ts'

/** Making certificates and revocation lists (RFC 5280), signed with ECDSA. */

/** A distinguished name, in the order it is written. */
export type DistinguishedName = readonly (readonly [
  attribute: keyof typeof ATTRIBUTES,
  value: string,
])[]

const ATTRIBUTES = { CN: '2.5.4.3', O: '2.5.4.10', OU: '2.5.4.11' } as const

/** The curves whose keys sign here, each with the hash of its strength (RFC 5758 §3.2). */
const CURVES: Readonly<Record<string, { hash: string; signature: string; pointBytes: number }>> = {
  prime256v1: { hash: 'sha256', signature: '1.2.840.10045.4.3.2', pointBytes: 65 },
  secp384r1: { hash: 'sha384', signature: '1.2.840.10045.4.3.3', pointBytes: 97 },
}

/** What a certificate says; times are Unix milliseconds, cut to whole seconds. */
export interface CertificateFields {
  readonly subject: DistinguishedName
  /** DER as the issuer's certificate has it, where that is not of our making. */
  readonly issuer: DistinguishedName | Der
  readonly publicKey: KeyObject
  readonly validFrom: number
  readonly validTo: number
  readonly extensions: readonly Der[]
}

/**
 * A version 3 certificate with a random 128-bit serial number.
 *
 * @param issuerKey Private key on P-256 (signs with SHA-256) or P-384 (SHA-384).
 * @returns DER.
 * @throws {TypeError} For a key on another curve.
 */
export function issueCertificate(fields: CertificateFields, issuerKey: KeyObject): Uint8Array {
  return signed(issuerKey, (algorithm) => [
    explicit(0, integer(Uint8Array.of(2))), // version 3
    integer(randomBytes(16)),
    algorithm,
    fields.issuer instanceof Uint8Array ? fields.issuer : nameDer(fields.issuer),
    sequence(time(fields.validFrom), time(fields.validTo)),
    nameDer(fields.subject),
    spkiOf(fields.publicKey),
    explicit(3, sequence(...fields.extensions)),
  ])
}

/** What a revocation list says; times are Unix milliseconds. */
export interface CrlFields {
  readonly issuer: DistinguishedName
  readonly thisUpdate: number
  readonly nextUpdate: number
  /** The CRL number, 0 to 255. */
  readonly number: number
  /** Serial numbers, big endian, all revoked at `thisUpdate`. */
  readonly revoked?: readonly Uint8Array[]
}

/**
 * A version 2 revocation list.
 *
 * @param issuerKey As for {@link issueCertificate}.
 * @returns DER.
 */
export function issueCrl(fields: CrlFields, issuerKey: KeyObject): Uint8Array {
  const { thisUpdate, revoked = [] } = fields
  const entries = revoked.map((serial) => sequence(integer(serial), time(thisUpdate)))
  return signed(issuerKey, (algorithm) => [
    integer(Uint8Array.of(1)), // version 2
    algorithm,
    nameDer(fields.issuer),
    time(thisUpdate),
    time(fields.nextUpdate),
    // RFC 5280 §5.1.2.6: the list is left out when nothing is revoked.
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    explicit(
      0,
      sequence(
        extension('2.5.29.20', false, integer(Uint8Array.of(fields.number))),
        authorityKeyIdentifier(createPublicKey(issuerKey)),
      ),
    ),
  ])
}

/** RFC 5280 §4.1.1: the body, the algorithm, the signature over the body. */
function signed(key: KeyObject, body: (algorithm: Der) => readonly Der[]): Uint8Array {
  const { hash, signature } = curveOf(key)
  const algorithm = sequence(oid(signature))
  const toSign = sequence(...body(algorithm))
  return sequence(toSign, algorithm, bitString(sign(hash, toSign, key)))
}

/** A name as certificates hold it (RFC 5280 §4.1.2.4), each attribute in a set of its own. */
export function nameDer(name: DistinguishedName): Der {
  return sequence(
    ...name.map(([attribute, value]) =>
      set(sequence(oid(ATTRIBUTES[attribute]), utf8String(value))),
    ),
  )
}

/** One extension around its DER value. */
export function extension(id: string, critical: boolean, value: Der): Der {
  return sequence(oid(id), ...(critical ? [TRUE] : []), octetString(value))
}

/**
 * Basic constraints (RFC 5280 §4.2.1.9), critical.
 *
 * @param pathLength How many authorities may follow, 0 to 127; without it any number.
 */
export function basicConstraints(ca: boolean, pathLength?: number): Der {
  const limit = pathLength === undefined ? [] : [integer(Uint8Array.of(pathLength))]
  return extension('2.5.29.19', true, sequence(...(ca ? [TRUE, ...limit] : [])))
}

/** Bit numbers of RFC 5280 §4.2.1.3. */
const USAGE_BITS = { digitalSignature: 0, nonRepudiation: 1, keyCertSign: 5, cRLSign: 6 } as const

type Usage = keyof typeof USAGE_BITS

/** Key usage, critical. */
export function keyUsage(...usages: readonly [Usage, ...Usage[]]): Der {
  const bits = usages.map((usage) => USAGE_BITS[usage])
  const octet = bits.reduce<number>((sum, bit) => sum | (0x80 >> bit), 0)
  // A named bit list ends with its last set bit (X.690 §11.2.2).
  return extension('2.5.29.15', true, bitString(Uint8Array.of(octet), 7 - Math.max(...bits)))
}

/** Names the certificate's own key. */
export function subjectKeyIdentifier(publicKey: KeyObject): Der {
  return extension('2.5.29.14', false, octetString(keyIdentifier(publicKey)))
}

/** Names the issuer's key. */
export function authorityKeyIdentifier(issuerPublicKey: KeyObject): Der {
  return extension('2.5.29.35', false, sequence(implicit(0, keyIdentifier(issuerPublicKey))))
}

/** SHA-1 of the public point, 20 bytes: the first method of RFC 5280 §4.2.1.2. */
function keyIdentifier(publicKey: KeyObject): Uint8Array {
  const point = spkiOf(publicKey).subarray(-curveOf(publicKey).pointBytes)
  return createHash('sha1').update(point).digest()
}

const spkiOf = (key: KeyObject): Uint8Array => key.export({ type: 'spki', format: 'der' })

function curveOf(key: KeyObject) {
  const name = key.asymmetricKeyDetails?.namedCurve
  const curve = name === undefined ? undefined : CURVES[name]
  if (curve === undefined) {
    throw new TypeError(`Cannot issue with a key on "${name}": use one on P-256 or P-384`)
  }
  return curve
}

/** A DER certificate as PEM text. */
export function certificatePem(der: Uint8Array): string {
  return pemBlock('CERTIFICATE', der)
}

/** Bytes as PEM text under a label, in lines of 64 characters (RFC 7468). */
export function pemBlock(label: string, der: Uint8Array): string {
  const text = Buffer.from(der).toString('base64')
  const lines = text.match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}
